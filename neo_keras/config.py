"""What a model and its training are: plain data, validated once, saved as JSON."""

import dataclasses
import typing

from neo_keras.errors import InputError

ARCHITECTURES = ("decoder-only", "encoder-decoder")
POSITIONS = ("rope", "learned", "sinusoidal")
NORMS = ("rms", "layer")
NORM_POSITIONS = ("pre", "post")
ACTIVATIONS = ("relu_squared", "relu", "gelu", "gelu_tanh")
# What suits each; the rates were measured (benchmarks/README.md). A tenth of the run at most is
# warm-up.
OPTIMIZERS = {
    "muon": {"learning_rate": 5e-3, "max_warmup_steps": 10, "weight_decay": 0.0},
    "adamw": {"learning_rate": 3e-3, "max_warmup_steps": 100, "weight_decay": 0.1},
    "adam": {"learning_rate": 3e-3, "max_warmup_steps": 100, "weight_decay": 0.0},
    "sgd": {"learning_rate": 3e-1, "max_warmup_steps": 100, "weight_decay": 0.0},
}
SCHEDULES = ("linear", "cosine", "wsd", "constant", "inverse-sqrt")
PRECISIONS = ("float32", "bfloat16", "float16")  # of arithmetic; weights are float32
MAX_NGRAM_ROWS = 2**18  # so that the hash of an n-gram fits int32: see `NgramEmbedding`


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The shape of a transformer. The defaults are the modern recipe."""

    vocab_size: int
    max_seq_len: int = 128  # the context window, in tokens; of a source and of a target, each
    num_layers: int = 4  # of an encoder and of a decoder, each
    num_heads: int = 4  # query heads
    num_kv_heads: int | None = None  # key and value heads; None: as many as query heads
    hidden_dim: int = 128
    dropout: float = 0.0
    position: str = "rope"  # one of POSITIONS
    norm: str = "rms"  # one of NORMS
    norm_position: str = "pre"  # normalize what goes into a layer, or ("post") each sum
    activation: str = "relu_squared"  # one of ACTIVATIONS; gelu is exact, by erf
    use_bias: bool = False  # in dense layers and layer norms
    qk_norm: bool = True  # normalize queries and keys (RMS, without a scale)
    tie_embeddings: bool = False  # one matrix for the token embedding and the output head
    embedding_norm: bool = False  # normalize what goes into the first block
    max_ngram: int = 1  # the longest n-gram that has an embedding; 1: none but the tokens'
    ngram_rows: int = 65536  # of the hashed table that the n-grams share
    ngram_dim: int = 32  # width of that table
    ngram_dropout: float = 0.0  # share of n-grams dropped in training
    num_drafts: int = 0  # tokens that a `Drafter` foresees, to write faster; 0: none
    architecture: str = "decoder-only"  # one of ARCHITECTURES
    end_token_id: int | None = None  # ends each source and each target, of pairs; None: plain text

    def __post_init__(self):
        if self.num_kv_heads is None:
            object.__setattr__(self, "num_kv_heads", self.num_heads)
        for name in ("vocab_size", "max_seq_len", "num_layers", "num_heads", "num_kv_heads",
                     "hidden_dim", "max_ngram", "ngram_rows", "ngram_dim"):  # fmt: skip
            _check_positive_integer(name, getattr(self, name))
        _check_types(self)
        if self.num_drafts < 0 or (self.num_drafts and self.architecture != "decoder-only"):
            raise InputError(
                "num_drafts must be at least 0, and 0 for an encoder-decoder, got "
                f"{self.num_drafts}"
            )
        if self.max_seq_len < 2:
            raise InputError("max_seq_len (--seq-len) must be at least 2, got 1")
        if self.hidden_dim % self.num_heads:
            step = self.num_heads * (2 if self.position == "rope" else 1)
            raise InputError(
                f"hidden_dim must be divisible by num_heads, got {self.hidden_dim} and "
                f"{self.num_heads}: try hidden_dim {-(-self.hidden_dim // step) * step}"
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
        if self.ngram_rows > MAX_NGRAM_ROWS:
            raise InputError(f"ngram_rows must be at most {MAX_NGRAM_ROWS}, got {self.ngram_rows}")
        for name in ("dropout", "ngram_dropout"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise InputError(f"{name} must be at least 0 and below 1, got {value}")
        for name, choices in (("position", POSITIONS), ("norm", NORMS),
                              ("norm_position", NORM_POSITIONS), ("activation", ACTIVATIONS),
                              ("architecture", ARCHITECTURES)):  # fmt: skip
            _check_choice(name, getattr(self, name), choices)

    @property
    def head_dim(self):
        return self.hidden_dim // self.num_heads

    @property
    def feed_forward_dim(self):
        return 4 * self.hidden_dim


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """How a model is trained. The defaults are the fast recipe (benchmarks/README.md)."""

    batch_size: int = 16
    accumulate: int = 1  # batches whose gradients make one step, in the memory of one
    parts: int | None = None  # of a batch, computed side by side; None: see `share_cores`
    steps: int = 1400
    optimizer: str = "muon"  # a key of OPTIMIZERS
    schedule: str = "linear"  # one of SCHEDULES: the way down after the warm-up
    learning_rate: float | None = None  # at its highest; None: what suits the optimizer
    final_learning_rate: float = 0.0  # at the last step, where the schedule has a way to it
    warmup_steps: int | None = None  # None: what suits the optimizer and the number of steps
    beta_2: float = 0.95
    weight_decay: float | None = None  # of matrices; None: what suits the optimizer
    ngram_decay: float = 10.0  # weight decay of the n-gram table, under Muon
    lookahead: int | None = None  # tokens after the next one that training predicts, too
    temperature: float | None = None  # of predictions; None, here and above: see `suit_text`
    clip_norm: float | None = None  # of all gradients together; None: no limit
    ema: float = 0.0  # decay of the average of the weights; 0: no average
    eval_every: int = 500  # steps; also when a checkpoint is written
    patience: int = 0  # stop after so many evaluations without a lower loss; 0: never
    sample_every: int = 1000  # steps; 0: never
    max_seconds: float | None = None  # of training steps; None: no limit
    sliding_loss: bool = False  # at the end, also the loss with at least half a context
    seed: int = 1
    mixed_precision: str | None = None  # one of PRECISIONS; what is computed in
    remat: bool = False  # compute each block again for its gradients, to keep less in memory
    jit_compile: bool | None = None  # by XLA; None, here and above: see `choose_compute`
    steps_per_execution: int = 10  # steps between two looks at Ctrl-C, the clock and the bar

    def __post_init__(self):
        for name in ("batch_size", "accumulate", "steps", "eval_every", "steps_per_execution"):
            _check_positive_integer(name, getattr(self, name))
        _check_types(self)
        if self.parts is not None and (self.parts < 1 or self.batch_size % self.parts):
            raise InputError(
                f"parts must divide batch_size, got {self.parts} and {self.batch_size}"
            )
        for name, choices in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES)):
            _check_choice(name, getattr(self, name), choices)
        if self.mixed_precision is not None:
            _check_choice("mixed_precision", self.mixed_precision, PRECISIONS)
        self._fill_in()
        for name in ("learning_rate", "temperature", "clip_norm", "max_seconds"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise InputError(f"{name} must be above 0 and finite, got {value}")
        for name in ("final_learning_rate", "warmup_steps", "weight_decay", "ngram_decay",
                     "lookahead", "patience", "sample_every", "seed"):  # fmt: skip
            value = getattr(self, name)
            if value is not None and value < 0:
                raise InputError(f"{name} must be at least 0, got {value}")
        if self.seed >= 2**32:
            raise InputError(f"seed must be below 2**32, got {self.seed}")
        if not 0 <= self.ema < 1:
            raise InputError(f"ema must be at least 0 and below 1, got {self.ema}")
        if self.optimizer == "adam" and self.weight_decay:
            raise InputError(f"adam has no weight_decay, got {self.weight_decay}: use adamw")

    @property
    def rows_per_step(self):
        return self.batch_size * self.accumulate

    def _fill_in(self):
        suited = {**OPTIMIZERS[self.optimizer]}
        suited["warmup_steps"] = min(suited.pop("max_warmup_steps"), self.steps // 10)
        for name, value in suited.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)


@dataclasses.dataclass(frozen=True)
class Preset:
    """A named pair of configurations; the vocabulary comes from the text."""

    description: str
    model: dict
    training: dict


CLASSIC = {
    "position": "learned",
    "norm": "layer",
    "activation": "gelu",
    "qk_norm": False,
    "tie_embeddings": True,
}

PLAIN = {"lookahead": 0, "temperature": 1.0}  # the loss of the next token, and nothing else

CLASSIC_TRAINING = {
    **PLAIN,
    "optimizer": "adamw",
    "schedule": "cosine",
    "beta_2": 0.99,
    "clip_norm": 1.0,
}

NGRAMS = {"max_ngram": 5, "embedding_norm": True}

DRAFTS = {"num_drafts": 4}  # LiteRT's int8 kernel reads five tokens in little more time than two

PRESETS = {
    "shakespeare-cpu": Preset(
        "2.9M parameters, a little over a minute on two CPU cores",
        model={**NGRAMS, **DRAFTS, "num_heads": 2},
        training={},
    ),
    "shakespeare-cpu-long": Preset(
        "4.8M parameters, about 27 minutes on two CPU cores, better text",
        model={**NGRAMS, **DRAFTS, "num_layers": 6, "num_heads": 3, "hidden_dim": 192,
               "max_seq_len": 512, "dropout": 0.2, "ngram_dropout": 0.1},
        training={"batch_size": 8, "steps": 4800},
    ),
    "shakespeare-gpu": Preset(
        "nanoGPT's GPU configuration in size, 10.7M parameters and an n-gram table",
        model={**NGRAMS, **DRAFTS, "num_layers": 6, "num_heads": 6, "hidden_dim": 384,
               "max_seq_len": 256, "dropout": 0.2},
        training={"batch_size": 64, "steps": 2000, "eval_every": 250},
    ),
    "nanogpt-cpu": Preset(
        "nanoGPT's README CPU configuration, for like-for-like comparison",
        model={**CLASSIC, "max_seq_len": 64},
        training={**CLASSIC_TRAINING, "batch_size": 12, "steps": 2000, "learning_rate": 1e-3,
                  "final_learning_rate": 1e-4, "eval_every": 250, "jit_compile": True,
                  "mixed_precision": "float32"},
    ),
    "transformer": Preset(
        "the encoder-decoder of 'Attention Is All You Need', small: 2 + 2 layers, 128 wide",
        model={"architecture": "encoder-decoder", "position": "sinusoidal", "norm": "layer",
               "norm_position": "post", "activation": "relu", "use_bias": True, "qk_norm": False,
               "tie_embeddings": True, "num_layers": 2, "max_seq_len": 64, "dropout": 0.1},
        training={**PLAIN, "optimizer": "adam", "schedule": "inverse-sqrt", "beta_2": 0.98,
                  "learning_rate": 2e-3, "warmup_steps": 200, "batch_size": 32, "steps": 4000},
    ),
    "gpt2-124m": Preset(
        "GPT-2 small: 12 layers, 768 wide, context 1,024",
        model={**CLASSIC, "activation": "gelu_tanh", "use_bias": True, "num_layers": 12,
               "num_heads": 12, "hidden_dim": 768, "max_seq_len": 1024},
        training={**CLASSIC_TRAINING, "batch_size": 12, "steps": 10000, "learning_rate": 6e-4,
                  "final_learning_rate": 6e-5, "beta_2": 0.95, "steps_per_execution": 1},
    ),
}  # fmt: skip


def from_preset(name, vocab_size, **overrides):
    """Builds the two configurations of a preset, changed by `overrides`.

    Args:
        name: a key of `PRESETS`.
        vocab_size: the number of tokens that the tokenizer has.
        **overrides: fields of `ModelConfig` or `TrainingConfig`; None means "as the preset". But
            another optimizer comes with a learning rate of its own.

    Returns:
        (ModelConfig, TrainingConfig).
    """
    if name not in PRESETS:
        raise InputError(f"preset must be one of {', '.join(PRESETS)}, got {name!r}")
    known = {f.name for config in (ModelConfig, TrainingConfig) for f in dataclasses.fields(config)}
    for override in sorted(overrides.keys() - known):
        raise InputError(f"{override} is no field of ModelConfig or TrainingConfig: check its name")
    preset = PRESETS[name]
    model = {**preset.model, **_fields_of(ModelConfig, overrides), "vocab_size": vocab_size}
    if model.get("architecture") == "encoder-decoder" and not overrides.get("num_drafts"):
        model["num_drafts"] = 0
    training = {**preset.training}
    if overrides.get("optimizer") not in (None, TrainingConfig(**training).optimizer):
        training.pop("learning_rate", None)
    training |= _fields_of(TrainingConfig, overrides)
    return ModelConfig(**model), TrainingConfig(**training)


def _fields_of(config_class, values):
    names = {field.name for field in dataclasses.fields(config_class)}
    return {name: value for name, value in values.items() if name in names and value is not None}


def _check_types(config):
    """What comes from a file may be of any type."""
    for field in dataclasses.fields(config):
        value, types = getattr(config, field.name), typing.get_args(field.type) or (field.type,)
        if type(value) not in types and not (type(value) is int and float in types):
            names = " or ".join(t.__name__.removesuffix("Type") for t in types)
            raise InputError(f"{field.name} must be of type {names}, got {value!r}")


def _check_choice(name, value, choices):
    if value not in choices:
        raise InputError(f"{name} must be one of {', '.join(choices)}, got {value!r}")


def _check_positive_integer(name, value):
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InputError(f"{name} must be a whole number of at least 1, got {value!r}")
