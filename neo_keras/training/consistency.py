"""Regularized dropout: what the model says twice of the same text is to agree."""

import functools

import keras
import tensorflow as tf


def consistent_model(model_class, config):
    """The class that trains on each row twice at once, under dropout of its own each time.

    Its loss is the mean of both and, `config.consistency` times, how far apart the two predictions
    are: a quarter of the Kullback-Leibler divergences both ways (R-Drop: Liang et al. 2021,
    arXiv:2106.14448). So a text that is read many times is learned by heart less. A step takes
    twice as long.

    Args:
        model_class: a `keras.Model` that gives logits, and whose loss is the mean over a batch.
        config: `TrainingConfig`.
    """
    if not config.consistency:
        return model_class
    return _consistent_model(model_class, config.consistency)


@functools.cache
def _consistent_model(model_class, consistency):
    class Consistent(model_class):
        def call(self, inputs, training=False):
            return super().call(_twice(inputs) if training else inputs, training=training)

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            if not training:
                return super().compute_loss(x, y, y_pred, sample_weight, training)
            divergence = _divergence(*tf.split(tf.nn.log_softmax(y_pred), 2))
            weights = sample_weight
            if weights is not None:
                divergence *= tf.cast(weights, divergence.dtype)
                weights = _twice(weights)
            loss = super().compute_loss(x, _twice(y), y_pred, weights, training)
            # Under a strategy a device's loss is its share of the mean.
            share = 1 / tf.distribute.get_strategy().num_replicas_in_sync
            return loss + consistency * share * tf.reduce_mean(divergence)

        # What is copied or saved is the model itself.
        from_config = model_class.from_config

    return Consistent


def _twice(rows):
    return keras.tree.map_structure(lambda tensor: tf.concat([tensor, tensor], 0), rows)


def _divergence(first, second):
    """(KL(p || q) + KL(q || p)) / 4 of log probabilities [..., vocab_size]."""
    return tf.reduce_sum((tf.exp(first) - tf.exp(second)) * (first - second), axis=-1) / 4
