"""What a model and its training are: plain data, validated once, saved as JSON."""

import dataclasses
import math
import typing

from neo_keras import choices
from neo_keras.errors import InputError
from neo_keras.lora_config import LoraConfig

CHOICES = {
    "position": choices.POSITIONS,
    "norm": choices.NORMS,
    "norm_position": choices.NORM_POSITIONS,
    "activation": choices.ACTIVATIONS,
    "architecture": choices.ARCHITECTURES,
    "optimizer": choices.OPTIMIZERS,
    "schedule": choices.SCHEDULES,
    "mixed_precision": choices.PRECISIONS,
    "lora_targets": choices.LORA_TARGETS,
}
MAX_NGRAM_ROWS = 2**18  # so that the hash of an n-gram fits int32: see `NgramEmbedding`


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The shape of a transformer. The defaults are the modern recipe."""

    vocab_size: int
    max_seq_len: int = 128  # the context window, in tokens; of a source and of a target, each
    num_layers: int = 4  # of an encoder and of a decoder, each
    num_heads: int = 4  # query heads
    num_kv_heads: int | None = None  # key and value heads; None: as many as query heads
    head_dim: int | None = None  # None: hidden_dim / num_heads
    hidden_dim: int = 128
    feed_forward_dim: int | None = None  # None: 4 * hidden_dim
    dropout: float = 0.0
    position: str = "rope"  # one of POSITIONS
    rope_base: float = 10000.0  # the wavelength of the slowest pair is 2 pi times that, at most
    rotary_dim: int | None = None  # of a head, how much rotary positions turn; None: all
    window: int | None = None  # of each second layer, how many keys a position sees; None: all
    norm: str = "rms"  # one of NORMS
    norm_epsilon: float | None = None  # None: what NORMS has
    norm_position: str = "pre"  # normalize what goes into a layer, or ("post") each sum
    activation: str = "relu_squared"  # one of ACTIVATIONS
    use_bias: bool = False  # in dense layers and layer norms
    qkv_bias: bool | None = None  # in the dense layers of queries, keys, values; None: use_bias
    qk_norm: bool = True  # normalize queries and keys (RMS)
    qk_norm_scale: bool = False  # and scale them, by what is learned
    parallel_residual: bool = False  # attention and feed-forward both read what goes into a block
    tie_embeddings: bool = False  # one matrix for the token embedding and the output head
    embedding_norm: bool = False  # normalize what goes into the first block
    max_ngram: int = 1  # the longest n-gram that has an embedding; 1: none but the tokens'
    ngram_rows: int = 65536  # of the hashed table that the n-grams share
    ngram_dim: int = 32  # width of that table
    ngram_dropout: float = 0.0  # share of n-grams dropped in training
    num_speculative_tokens: int = 0  # that a `Drafter` proposes for each step; 0: none
    architecture: str = "decoder-only"  # one of ARCHITECTURES
    end_token_id: int | None = None  # ends each source and each target, of pairs; None: plain text

    def __post_init__(self):
        _check_types_and_choices(self)
        _check_range(self, "vocab_size", "num_layers", "num_heads", "num_kv_heads", "head_dim",
                     "hidden_dim", "feed_forward_dim", "window", "max_ngram", "ngram_rows",
                     "ngram_dim", at_least=1)  # fmt: skip
        _check_range(self, "rope_base", "norm_epsilon", above=0)
        self._fill_in()
        _check_range(self, "max_seq_len", at_least=2)
        _check_range(self, "num_speculative_tokens", at_least=0)
        _check_range(self, "dropout", "ngram_dropout", at_least=0, below=1)
        if self.num_speculative_tokens and self.architecture == "encoder-decoder":
            raise InputError(
                "num_speculative_tokens must be 0 for an encoder-decoder, got "
                f"{self.num_speculative_tokens}"
            )
        if self.num_heads % self.num_kv_heads:
            raise InputError(
                f"num_heads must be divisible by num_kv_heads, got {self.num_heads} and "
                f"{self.num_kv_heads}: try num_kv_heads 1"
            )
        if self.position == "rope" and self.head_dim % 2:
            raise InputError(
                f"rotary positions need an even hidden_dim / num_heads, got {self.hidden_dim} / "
                f"{self.num_heads} = {self.head_dim}: try hidden_dim {2 * self.hidden_dim}"
            )
        if self.rotary_dim % 2 or not 0 < self.rotary_dim <= self.head_dim:
            raise InputError(
                f"rotary_dim must be even and at most head_dim, got {self.rotary_dim} and "
                f"{self.head_dim}"
            )
        if self.parallel_residual and (self.norm_position, self.architecture) != (
            "pre", "decoder-only"
        ):  # fmt: skip
            raise InputError(
                "parallel_residual is for norm_position pre and architecture decoder-only, got "
                f"{self.norm_position} and {self.architecture}"
            )
        if self.ngram_rows > MAX_NGRAM_ROWS:
            raise InputError(f"ngram_rows must be at most {MAX_NGRAM_ROWS}, got {self.ngram_rows}")

    def _fill_in(self):
        """What is None has its value from others."""
        if self.head_dim is None and self.hidden_dim % self.num_heads:
            step = self.num_heads * (2 if self.position == "rope" else 1)
            raise InputError(
                f"hidden_dim must be divisible by num_heads, got {self.hidden_dim} and "
                f"{self.num_heads}: try hidden_dim {-(-self.hidden_dim // step) * step}"
            )
        head_dim = self.head_dim or self.hidden_dim // self.num_heads
        values = {
            "num_kv_heads": self.num_heads,
            "head_dim": head_dim,
            "feed_forward_dim": 4 * self.hidden_dim,
            "rotary_dim": head_dim - head_dim % 2,
            "norm_epsilon": choices.NORMS[self.norm],
            "qkv_bias": self.use_bias,
        }
        for name, value in values.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)

    @property
    def window_len(self):
        """Tokens in a window of plain text: an encoder-decoder's is a source and a target."""
        return self.max_seq_len * (2 if self.architecture == "encoder-decoder" else 1)


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """How a model is trained. The defaults are the fast recipe (docs/lab_notes.md).

    None means that `training.resolve` fills it in, or "no limit".
    """

    batch_size: int = 16
    gradient_accumulation_steps: int = 1  # batches for one step, in the memory of one
    cpu_replicas: int | None = None  # parts of a batch, computed side by side
    steps: int = 1400
    optimizer: str = "muon"  # one of OPTIMIZERS
    schedule: str = "linear"  # one of SCHEDULES: the learning rate after the warm-up
    learning_rate: float | None = None  # at its highest
    final_learning_rate: float = 0.0  # at the last step, where the schedule has a way to it
    warmup_steps: int | None = None  # linear, up to the learning rate
    beta_2: float = 0.95  # of Adam
    weight_decay: float | None = None  # of matrices
    ngram_weight_decay: float = 10.0  # weight decay of the n-gram table, under Muon
    num_future_tokens: int | None = None  # tokens after the next one that training predicts, too
    loss_temperature: float | None = None  # that logits are multiplied by, in the loss
    clip_norm: float | None = None  # of all gradients together; None: no limit
    ema: float = 0.0  # decay of the average of the weights; 0: no average
    eval_every: int = 500  # steps; also when a checkpoint is written
    patience: int = 0  # stop after so many evaluations without a lower loss; 0: never
    sample_every: int = 1000  # steps; 0: never
    max_seconds: float | None = None  # of training steps; None: no limit
    document_mask: bool | None = None  # attention stays within an example, where rows hold several
    sliding_window_eval: bool = False  # at the end, also the loss with at least half a context
    seed: int = 1
    mixed_precision: str | None = None  # one of PRECISIONS: what is computed in
    remat: bool = False  # compute each block again for its gradients, to keep less in memory
    jit_compile: bool | None = None  # by XLA
    steps_per_execution: int = 10  # steps between two looks at Ctrl-C, the clock and the bar
    lora_rank: int | None = None  # of adapters, which alone are trained then; None: all weights are
    lora_alpha: float | None = None  # None: twice the rank
    lora_targets: str | None = None  # one of LORA_TARGETS; None: all
    lora_fused_qkv: bool = False  # see `LoraConfig`

    def __post_init__(self):
        _check_types_and_choices(self)
        _check_range(self, "batch_size", "gradient_accumulation_steps", "cpu_replicas", "steps",
                     "eval_every", "steps_per_execution", "lora_rank", at_least=1)  # fmt: skip
        _check_range(self, "learning_rate", "loss_temperature", "clip_norm", "max_seconds",
                     "lora_alpha", above=0)  # fmt: skip
        _check_range(self, "final_learning_rate", "warmup_steps", "weight_decay",
                     "ngram_weight_decay", "num_future_tokens", "patience", "sample_every",
                     at_least=0)  # fmt: skip
        _check_range(self, "seed", at_least=0, below=2**32)
        _check_range(self, "ema", at_least=0, below=1)
        if self.batch_size % (self.cpu_replicas or 1):
            raise InputError(
                f"cpu_replicas must divide batch_size, got {self.cpu_replicas} and "
                f"{self.batch_size}"
            )
        if self.weight_decay and choices.OPTIMIZERS[self.optimizer].weight_decay is None:
            raise InputError(
                f"{self.optimizer} has no weight_decay, got {self.weight_decay}: use adamw"
            )
        self._check_lora()

    def _check_lora(self):
        for name in ("lora_alpha", "lora_targets"):
            if self.lora_rank is None and getattr(self, name) is not None:
                option = f"--{name.replace('_', '-')}"
                raise InputError(f"{option} is for adapters: give --lora RANK, or leave it out")
        if self.lora_rank is not None and self.optimizer == "muon":
            raise InputError(
                "muon is for whole matrices, and --lora trains thin ones: leave out --optimizer, "
                "for adamw"
            )

    @property
    def global_batch_size(self):
        return self.batch_size * self.gradient_accumulation_steps

    @property
    def lora(self):
        """The `LoraConfig`; None where all weights are trained."""
        if self.lora_rank is None:
            return None
        targets = self.lora_targets or "all"
        return LoraConfig(self.lora_rank, self.lora_alpha, targets, self.lora_fused_qkv)


# What fields were called in runs and exports of earlier versions.
RENAMED_FIELDS = {
    "num_drafts": "num_speculative_tokens",
    "accumulate": "gradient_accumulation_steps",
    "parts": "cpu_replicas",
    "ngram_decay": "ngram_weight_decay",
    "lookahead": "num_future_tokens",
    "temperature": "loss_temperature",
    "sliding_loss": "sliding_window_eval",
}


def from_saved(config_class, fields):
    """Builds the configuration that a file of this version or an earlier one holds.

    Raises `TypeError` if it is no dict or a field is unknown, `InputError` if a value is not valid.
    """
    if not isinstance(fields, dict):
        raise TypeError(f"expected the fields of {config_class.__name__}, got {fields!r}")
    return config_class(**{RENAMED_FIELDS.get(name, name): value for name, value in fields.items()})


def _check_types_and_choices(config):
    """What comes from a file may be of any type."""
    for field in dataclasses.fields(config):
        value, types = getattr(config, field.name), typing.get_args(field.type) or (field.type,)
        if type(value) not in types and not (type(value) is int and float in types):
            names = " or ".join(t.__name__.removesuffix("Type") for t in types)
            raise InputError(f"{field.name} must be of type {names}, got {value!r}")
        allowed = CHOICES.get(field.name, (value,))
        if value is not None and value not in allowed:
            raise InputError(f"{field.name} must be one of {', '.join(allowed)}, got {value!r}")


def _check_range(config, *names, above=-math.inf, at_least=-math.inf, below=math.inf):
    for name in names:
        value = getattr(config, name)
        if value is not None and not (above < value < below and at_least <= value):
            limits = "above 0 and finite" if above == 0 else f"at least {at_least}"
            limits += f" and below {below}" if below < math.inf else ""
            raise InputError(f"{name} must be {limits}, got {value}")
