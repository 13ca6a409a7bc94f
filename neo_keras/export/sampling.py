"""`Sampler`, as a part of the graph: an app that calls it needs no mathematics of its own."""

import tensorflow as tf
from keras import ops

from neo_keras.generation.sampler import gumbel_noise
from neo_keras.model.attention import MASKED

MIN_TEMPERATURE = 1e-6  # of the probabilities that top-p adds up; next to it, one token has all


def sample_token(logits, step, temperature, top_k, top_p, seed):
    """Samples what `Sampler.sample` samples: int32 [1].

    Args:
        logits: float32 [1, 1, vocab_size].
        step: int32 [1], how many tokens were sampled before.
        temperature, top_p: float32 [1]; off at 0 (greedy) and 1.
        top_k, seed: int32 [1]; top-k is off at 0.
    """
    vocab_size = logits.shape[-1]
    logits, token_ids = ops.top_k(ops.reshape(logits, [vocab_size]), vocab_size)  # sorted
    rank = ops.arange(vocab_size, dtype="int32")
    kept = rank < ops.where(top_k > 0, top_k, vocab_size)
    scaled = logits / ops.maximum(temperature, MIN_TEMPERATURE)
    probabilities = ops.where(kept, ops.softmax(scaled), 0.0)
    before = ops.cumsum(probabilities) - probabilities
    limit = ops.where(top_p < 1, top_p * ops.sum(probabilities), 2.0)  # 2: more than there is
    kept = ops.logical_and(kept, before < limit)
    noise = tf.gather(gumbel_noise(seed, step, vocab_size, ops), token_ids)
    # The largest of logits / temperature + noise, as of logits + temperature * noise.
    scores = ops.where(kept, logits + temperature * noise, MASKED)
    return tf.gather(token_ids, tf.argmax(scores, output_type=tf.int32)[None])
