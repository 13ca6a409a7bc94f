"""What low-rank adapters are: plain data. `model.lora` has the layers."""

import dataclasses

from neo_keras.choices import ACTIVATIONS, LORA_TARGETS
from neo_keras.errors import InputError


@dataclasses.dataclass(frozen=True)
class LoraConfig:
    """Which matrices of a model have adapters, and how large they are."""

    rank: int
    alpha: float | None = None  # what an adapter computes is multiplied by alpha / rank
    targets: str = "all"  # one of LORA_TARGETS
    fused_qkv: bool = False  # one adapter for queries, keys and values together

    def __post_init__(self):
        if self.rank < 1:
            raise InputError(f"the rank of adapters must be at least 1, got {self.rank}")
        if self.alpha is None:
            object.__setattr__(self, "alpha", 2.0 * self.rank)

    @property
    def scale(self):
        return self.alpha / self.rank

    def matrices(self, config):
        """The matrices of a block of a `ModelConfig` that have adapters.

        Returns:
            dict: name -> (inputs, outputs of each of those that stand side by side in it).
        """
        queries, keys = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
        num_expanded = 1 + ACTIVATIONS[config.activation].is_gated
        qkv = (queries + 2 * keys,) if self.fused_qkv else (queries, keys, keys)
        every = {
            "qkv": (config.hidden_dim, qkv),
            "output": (queries, (config.hidden_dim,)),
            "expand": (config.hidden_dim, (config.feed_forward_dim,) * num_expanded),
            "contract": (config.feed_forward_dim, (config.hidden_dim,)),
        }
        return {name: every[name] for name in LORA_TARGETS[self.targets]}

    def num_weights(self, config):
        """Of all adapters of a model of a `ModelConfig`."""
        of_block = self.matrices(config).values()
        sides = sum(len(units) * inputs + sum(units) for inputs, units in of_block)
        return config.num_layers * self.rank * sides

    def check_rank(self, config):
        """Raises `InputError` where an adapter would be no smaller than its matrix."""
        for name, (inputs, units) in self.matrices(config).items():
            if self.rank > (most := min(inputs, *units)):
                raise InputError(
                    f"lora_rank must be at most {most}, the shorter side of the smallest matrix "
                    f"of {name}, got {self.rank}: give a smaller --lora"
                )
