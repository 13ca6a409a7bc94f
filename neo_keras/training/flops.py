"""What a step of training takes, counted from the configurations: weights, FLOPs and bytes.

No model is built, so it also tells of models that are too large for this machine. `estimate.py`
makes seconds of the counts.
"""

import dataclasses
import math

from neo_keras.model.drafter import DRAFTER_WIDTH
from neo_keras.training.optimizer import NEWTON_SCHULZ_STEPS

FLOAT32 = 4  # bytes
# Tensors, as wide as the feed-forward layer, that its backward pass needs.
ACTIVATION_TENSORS = {"relu_squared": 2, "relu": 1, "gelu": 4, "gelu_tanh": 5}
# Moments that an optimizer keeps of a weight: in a matrix of a block, and anywhere else.
MOMENTS = {"muon": (1, 2), "adamw": (2, 2), "adam": (2, 2), "sgd": (1, 1)}


@dataclasses.dataclass(frozen=True)
class Weights:
    """The weights of a model.

    Attributes:
        matrices: shapes of the matrices of the blocks, which are what Muon is for.
        num_others: weights in embeddings, norms, biases and the output layer.
        num_in_products: weights that a matrix product multiplies by, for each token.
        num_in_drafter: weights that `fit` leaves as they are.
    """

    matrices: tuple
    num_others: int
    num_in_products: int
    num_in_drafter: int

    @property
    def num_in_matrices(self):
        return sum(math.prod(shape) for shape in self.matrices)

    @property
    def total(self):
        return self.num_in_matrices + self.num_others + self.num_in_drafter


def count_weights(config):
    """`Weights` of a `ModelConfig`, as `model.count_params()` counts them without dropout."""
    has_encoder = config.architecture == "encoder-decoder"
    width, vocab = config.hidden_dim, config.vocab_size
    norm = width * (2 if config.norm == "layer" and config.use_bias else 1)
    block = _block_matrices(config, cross=False)
    matrices = block * config.num_layers
    num_norms = 2 * config.num_layers + 1 + config.embedding_norm
    if has_encoder:
        matrices += _block_matrices(config, cross=True) * config.num_layers
        num_norms += 3 * config.num_layers + 1
    biases = sum(outputs for _, outputs in matrices) if config.use_bias else 0
    ngram_projection = config.ngram_dim * width if config.max_ngram > 1 else 0
    embeddings = vocab * width * (1 if config.tie_embeddings else 2) + ngram_projection
    if config.max_ngram > 1:
        embeddings += config.ngram_rows * config.ngram_dim
    if config.position == "learned":
        embeddings += config.max_seq_len * width
    in_matrices = sum(math.prod(shape) for shape in matrices)
    return Weights(
        matrices=tuple(matrices),
        num_others=embeddings + num_norms * norm + biases,
        num_in_products=in_matrices + vocab * width + ngram_projection,
        num_in_drafter=(2 * width + vocab) * DRAFTER_WIDTH if config.num_speculative_tokens else 0,
    )


def _block_matrices(config, cross):
    """(inputs, outputs) of each matrix of a block."""
    width, wide = config.hidden_dim, config.feed_forward_dim
    keys_values = 2 * config.num_kv_heads * config.head_dim
    shapes = [(width, width + keys_values), (width, width), (width, wide), (wide, width)]
    return shapes + [(width, width), (width, keys_values), (width, width)] * cross


def flops_per_token(config):
    """Of a training step: 6 for each weight in a matrix product, and the attention's products.

    As Chowdhery et al. 2022 (arXiv:2204.02311, appendix B) count: look-ups, norms, the optimizer
    and its Newton-Schulz iterations are overhead, not model FLOPs. A token of an encoder-decoder
    is one of the target, with one of the source.
    """
    return 6 * count_weights(config).num_in_products + attention_flops_per_token(config)


def attention_flops_per_token(config):
    """Of the products of queries with keys, and of scores with values; half of it is masked."""
    return 12 * config.hidden_dim * config.max_seq_len * _num_attentions(config)


def num_blocks(config):
    """How many, where one with cross-attention counts one and a half."""
    return config.num_layers * (2.5 if config.architecture == "encoder-decoder" else 1)


def _num_attentions(config):
    return config.num_layers * (3 if config.architecture == "encoder-decoder" else 1)


def newton_schulz_flops(config):
    """Of Muon in a step: three products in each iteration, for each matrix of the blocks."""
    flops = 0
    for shape in count_weights(config).matrices:
        short, long = sorted(shape)
        flops += NEWTON_SCHULZ_STEPS * (4 * short**2 * long + 2 * short**3)
    return flops


def optimizer_bytes(config, optimizer, ema=False):
    """What the optimizer keeps, in float32: moments, and an average of the weights.

    Args:
        config: `ModelConfig`.
        optimizer: a key of `OPTIMIZERS`.
        ema: whether there is an average.
    """
    weights = count_weights(config)
    of_matrices, of_others = (moments + bool(ema) for moments in MOMENTS[optimizer])
    return FLOAT32 * (weights.num_in_matrices * of_matrices + weights.num_others * of_others)


def activation_bytes(config, rows, size, layers=None):
    """What the forward pass keeps for the backward pass, logits apart.

    Counted in the graph that TensorFlow differentiates, by looking which tensors of the forward
    pass its backward pass reads. Norms and softmax are in float32, whatever the rest is.

    Args:
        config: `ModelConfig`.
        rows: windows, or pairs of source and target, that are in memory at a time.
        size: bytes of a number: 2 in mixed bfloat16, 4 in float32.
        layers: how many blocks keep theirs; None: all.
    """
    layers = config.num_layers if layers is None else layers
    tokens = rows * config.max_seq_len
    norm = (FLOAT32 + FLOAT32 + size) * config.hidden_dim
    block = 2 * norm + _attention_bytes(config, size)
    block += ACTIVATION_TENSORS[config.activation] * size * config.feed_forward_dim
    num_norms = 1 + config.embedding_norm
    total = layers * block
    if config.architecture == "encoder-decoder":
        total += layers * (block + norm + _attention_bytes(config, size))
        num_norms += 1
    if config.dropout:
        total += layers * (5 if config.architecture == "encoder-decoder" else 2) * config.hidden_dim
    return tokens * (total + num_norms * norm)


def block_input_bytes(config, rows, size):
    """What rematerialization keeps: the input of each block."""
    return rows * config.max_seq_len * math.ceil(num_blocks(config)) * config.hidden_dim * size


def _attention_bytes(config, size):
    """Of one attention, for one token: queries, keys, values, what is attended, and scores."""
    queries, keys = config.hidden_dim, config.num_kv_heads * config.head_dim
    total = 2 * size * (queries + keys)
    if config.qk_norm:
        total += FLOAT32 * (queries + keys)
    score = FLOAT32 + (size if size < FLOAT32 else 0)
    return total + score * config.num_heads * config.max_seq_len


def num_dropout_draws(config, rows):
    """How many numbers dropout decides about in a step."""
    if not config.dropout:
        return 0
    hidden = 2 * config.num_layers + 1  # both parts of each block, and what goes into the first
    if config.architecture == "encoder-decoder":
        hidden = 5 * config.num_layers + 2
    return rows * config.max_seq_len * hidden * config.hidden_dim


def weight_copy_bytes(config, size):
    """Of the weights in matrix products, cast to the dtype of the computation."""
    return 0 if size == FLOAT32 else size * count_weights(config).num_in_products


def logits_bytes(config, rows, size):
    """Of the logits, their copy in float32 and the gradient of that, and its copy."""
    copies = 2 * FLOAT32 + (size if size < FLOAT32 else 0)
    return rows * config.max_seq_len * config.vocab_size * copies


def validation_bytes(config, rows, size):
    """Of a forward pass, which keeps nothing: its largest tensors, each beside what it is made of.

    Args:
        as `activation_bytes`.
    """
    scores = 2 * FLOAT32 * config.num_heads * config.max_seq_len
    feed_forward = 2 * size * config.feed_forward_dim
    logits = (FLOAT32 + size) * config.vocab_size
    return rows * config.max_seq_len * (scores + feed_forward + logits)
