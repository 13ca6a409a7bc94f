"""The weights and the memory of a training, counted from its configurations: no model is built."""

import dataclasses
import math
import os

from neo_keras.choices import ACTIVATIONS, OPTIMIZERS, PRECISIONS
from neo_keras.model.drafter import DRAFTER_WIDTH

FLOAT32 = 4  # bytes
MB = 10**6
PROCESS_BYTES, BLOCK_GRAPH_BYTES = 800 * MB, 30 * MB  # of TensorFlow 2.21, measured


@dataclasses.dataclass(frozen=True)
class Weights:
    """How many weights a model has."""

    in_matrices: int  # of the blocks, which are what Muon is for
    others: int  # in embeddings, norms, biases and the output layer
    in_drafter: int  # which `fit` leaves as they are

    @property
    def total(self):
        return self.in_matrices + self.others + self.in_drafter


def count_weights(config):
    """`Weights` of a `ModelConfig`, as `model.count_params()` counts them without dropout."""
    width, vocab_size, layers = config.hidden_dim, config.vocab_size, config.num_layers
    queries = config.num_heads * config.head_dim
    keys_values = 2 * config.num_kv_heads * config.head_dim
    expanded = config.feed_forward_dim * (1 + ACTIVATIONS[config.activation].is_gated)
    bias, qkv_bias = config.use_bias, config.qkv_bias
    # (inputs, outputs, whether there is a bias) of each matrix.
    attention = [(width, queries + keys_values, qkv_bias), (queries, width, bias)]
    cross_attention = [(width, queries, qkv_bias), (width, keys_values, qkv_bias), attention[1]]
    feed_forward = [(width, expanded, bias), (config.feed_forward_dim, width, bias)]
    matrices = (attention + feed_forward) * layers
    num_attentions, num_norms = layers, 2 * layers + 1 + config.embedding_norm
    if config.architecture == "encoder-decoder":
        matrices += (attention + feed_forward + cross_attention) * layers
        num_attentions, num_norms = num_attentions + 2 * layers, num_norms + 3 * layers + 1
    others = vocab_size * width * (1 if config.tie_embeddings else 2)
    others += num_norms * width * (2 if config.norm == "layer" and bias else 1)
    others += sum(outputs * has_bias for _, outputs, has_bias in matrices)
    others += 2 * config.head_dim * num_attentions * config.qk_norm_scale
    if config.max_ngram > 1:
        others += config.ngram_rows * config.ngram_dim + config.ngram_dim * width
    if config.position == "learned":
        others += config.max_seq_len * width
    drafter = (2 * width + vocab_size) * DRAFTER_WIDTH if config.num_speculative_tokens else 0
    in_matrices = sum(inputs * outputs for inputs, outputs, _ in matrices)
    return Weights(in_matrices, others, drafter)


def count_operations(config, training):
    """Of a training step, about: 6 for a token and a weight of a matrix product.

    Source: Kaplan et al. 2020, arXiv:2001.08361, section 2.1.
    """
    heads = config.vocab_size * config.hidden_dim * (1 + training.num_future_tokens)
    tokens = training.global_batch_size * config.max_seq_len
    return 6 * tokens * (count_weights(config).in_matrices + heads)


def memory_parts(config, training, on_device=False):
    """What the memory of a training is for, in bytes; on_device: that of a GPU or XPU alone."""
    count = count_weights(config)
    weights, size = FLOAT32 * count.total, PRECISIONS[training.mixed_precision].num_bytes
    trained = weights
    averages = bool(training.ema)
    moments = [n + averages for n in OPTIMIZERS[training.optimizer].num_moments]
    copies = training.cpu_replicas  # of gradients
    copies += (training.clip_norm is not None) + (training.gradient_accumulation_steps > 1)
    tokens = training.batch_size * config.max_seq_len
    logits = 2 * FLOAT32 + (size if size < FLOAT32 else 0)  # float32, their gradient, and as cast
    optimizer = FLOAT32 * (count.in_matrices * moments[0] + count.others * moments[1])
    if training.lora:  # what is frozen has neither gradients nor moments, and is not saved
        trained = FLOAT32 * training.lora.num_weights(config)
        weights, optimizer = size * count.total + trained, trained * moments[0]
    parts = {
        "weights": weights,
        "optimizer": optimizer,
        "gradients": copies * trained,
        "activations": tokens * _activation_bytes(config, size, training.remat),
        "logits": tokens * config.vocab_size * logits * (1 + training.num_future_tokens),
    }
    if on_device:
        return parts
    process = PROCESS_BYTES + BLOCK_GRAPH_BYTES * math.ceil(_num_blocks(config))
    # A checkpoint is put together in memory.
    return {**parts, "process": process, "checkpoint": trained + optimizer}


def _num_blocks(config):
    """One with cross-attention counts one and a half."""
    return config.num_layers * (2.5 if config.architecture == "encoder-decoder" else 1)


def _activation_bytes(config, size, remat):
    """What the forward pass keeps of a token for the backward pass, logits apart.

    Norms and softmax are in float32, all else in numbers of `size` bytes.
    """
    queries, keys = (n * config.head_dim for n in (config.num_heads, config.num_kv_heads))
    attention = 2 * size * (queries + keys)  # queries, keys, values, and what is attended
    if config.qk_norm:
        attention += FLOAT32 * (queries + keys)
    score = FLOAT32 + (size if size < FLOAT32 else 0)
    attention += score * config.num_heads * config.max_seq_len
    norm = (2 * FLOAT32 + size) * config.hidden_dim
    feed_forward = ACTIVATIONS[config.activation].num_kept * size * config.feed_forward_dim
    block = 2 * norm + attention + feed_forward
    dropout = 2 * config.hidden_dim if config.dropout else 0  # a byte for each number
    kept = config.hidden_dim * size if remat else block + dropout
    # In the backward pass of a block there are, besides, the gradients of what it kept.
    total = _num_blocks(config) * kept + block * (2 if remat else 1)
    return math.ceil(total + (1 + config.embedding_norm) * norm)


def describe_memory(config, training, on_device=False):
    """Lines to say of `memory_parts` before training, with a warning if the machine has less."""
    needed, there = sum(memory_parts(config, training, on_device).values()), _machine_memory()
    lines = [f"about {needed / 1e9:.1f} GB of memory"]
    if there and needed > there and not on_device:
        lines.append(
            f"warning: this machine has {there / 1e9:.1f} GB: give a smaller --batch-size, with "
            "--gradient-accumulation-steps, a smaller --seq-len, or --remat"
        )
    return lines


def _machine_memory():
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
