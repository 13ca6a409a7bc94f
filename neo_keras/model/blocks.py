"""The transformer block: attention and feed-forward, each on a normalized residual stream."""

import dataclasses

import keras
from keras import ops

from neo_keras.choices import ACTIVATIONS, NORMS
from neo_keras.config import ModelConfig, from_saved
from neo_keras.model.attention import Attention
from neo_keras.model.lora import adapted
from neo_keras.model.weights import INITIALIZER_STDDEV, dense, initial_weights


def make_norm(config, **kwargs):
    """The normalization layer that a `ModelConfig` names."""
    if config.norm == "rms":
        return keras.layers.RMSNormalization(epsilon=config.norm_epsilon, **kwargs)
    center = config.use_bias
    return keras.layers.LayerNormalization(epsilon=config.norm_epsilon, center=center, **kwargs)


@keras.saving.register_keras_serializable("neo_keras")
class FeedForward(keras.layers.Layer):
    """Two dense layers with an activation between, at each position by itself.

    A gated activation has two layers before it, whose kernels stand side by side: first the gate's.

    Args:
        feed_forward_dim: width between the two layers.
        activation: one of `ACTIVATIONS`.
        output_stddev: of the initial second layer.
    """

    def __init__(
        self, feed_forward_dim, activation="relu_squared", use_bias=False,
        output_stddev=INITIALIZER_STDDEV, **kwargs,
    ):  # fmt: skip
        super().__init__(**kwargs)
        self.feed_forward_dim = feed_forward_dim
        self.activation = activation
        self.use_bias = use_bias
        self.output_stddev = output_stddev

    def build(self, input_shape):
        hidden_dim, use_bias = input_shape[-1], self.use_bias
        units = self.feed_forward_dim * (1 + ACTIVATIONS[self.activation].is_gated)
        self.expand = dense(units, "expand", self.dtype_policy, use_bias=use_bias)
        self.expand.build(input_shape)
        # Not a Dense: its kernel lies the other way round, and so does the kernel's gradient, which
        # takes XLA twice as long on a CPU (5% of a training step).
        shape = (hidden_dim, self.feed_forward_dim)
        initializer = initial_weights(self.output_stddev)
        self.contract_kernel = self.add_weight(shape, initializer, name="contract_kernel")
        if use_bias:
            self.contract_bias = self.add_weight((hidden_dim,), "zeros", name="contract_bias")

    def call(self, x):
        activation = ACTIVATIONS[self.activation]
        x = adapted(self, "expand", x, self.expand(x))
        x = ops.split(x, 1 + activation.is_gated, axis=-1)
        x = activation.function(ops, *x)  # [batch_size, seq_len, feed_forward_dim]
        y = ops.matmul(x, ops.transpose(self.contract_kernel))  # [batch_size, seq_len, hidden_dim]
        y = adapted(self, "contract", x, y)
        return y + self.contract_bias if self.use_bias else y


@keras.saving.register_keras_serializable("neo_keras")
class TransformerBlock(keras.layers.Layer):
    """Self-attention, in a decoder that has an encoder also cross-attention, then feed-forward.

    Each adds to the residual stream: x + layer(norm(x)) (pre-norm, as GPT-2), or norm(x + layer(x))
    (post-norm, as Vaswani et al. 2017).
    """

    def __init__(self, config, cross_attention=False, **kwargs):
        super().__init__(**kwargs)
        self.config = config
        self.has_cross_attention = cross_attention
        # GPT-2 starts the layers that add to the residual stream smaller, so that the stream's
        # variance does not grow with depth (Radford et al. 2019, section 2.3).
        additions = config.num_layers * (3 if cross_attention else 2)
        stddev, dtype = INITIALIZER_STDDEV * additions**-0.5, self.dtype_policy.name
        qk_epsilon = config.norm_epsilon if config.norm == "rms" else NORMS["rms"]
        heads = (
            config.num_heads, config.num_kv_heads, config.head_dim, config.use_bias,
            config.qkv_bias, config.qk_norm, config.qk_norm_scale, qk_epsilon, stddev,
        )  # fmt: skip

        # A dropout for each: `set_dropout_step` counts on one call per layer and step.
        def parts(name, layer, *args):
            norm = make_norm(config, dtype=dtype, name=f"{name}_norm")
            dropout = keras.layers.Dropout(config.dropout, dtype=dtype, name=f"{name}_dropout")
            return norm, layer(*args, dtype=dtype, name=name), dropout

        self.attention_norm, self.attention, self.attention_dropout = parts(
            "attention", Attention, *heads
        )
        if cross_attention:
            self.cross_attention_norm, self.cross_attention, self.cross_attention_dropout = parts(
                "cross_attention", Attention, *heads, True
            )
        self.feed_forward_norm, self.feed_forward, self.feed_forward_dropout = parts(
            "feed_forward", FeedForward, config.feed_forward_dim, config.activation,
            config.use_bias, stddev,
        )  # fmt: skip

    def build(self, input_shape):
        layers = [self.attention_norm, self.attention, self.feed_forward_norm, self.feed_forward]
        if self.has_cross_attention:
            layers += [self.cross_attention_norm, self.cross_attention]
        for layer in layers:
            layer.build(input_shape)

    def call(self, x, score_mask, rotation=None, cache=None, start=0, source=None, training=False):
        """As `Attention.call`; source: (keys, values, mask) of the cross-attention."""
        block_input = x
        y = self._normed(x, self.attention_norm)
        y, cache = self.attention(y, score_mask, rotation=rotation, cache=cache, start=start)
        x = self._added(x, y, self.attention_dropout, self.attention_norm, training)
        if self.has_cross_attention:
            *keys_values, source_mask = source
            y = self._normed(x, self.cross_attention_norm)
            y, _ = self.cross_attention(y, source_mask, rotation=rotation, cache=keys_values)
            x = self._added(x, y, self.cross_attention_dropout, self.cross_attention_norm, training)
        y = block_input if self.config.parallel_residual else x
        y = self.feed_forward(self._normed(y, self.feed_forward_norm))
        x = self._added(x, y, self.feed_forward_dropout, self.feed_forward_norm, training)
        return x, cache

    def rematerialized(self, x, score_mask, source=None, **settings):
        """As `call`, keeping only inputs for the gradients (Chen et al. 2016, arXiv:1604.06174)."""
        source = source or ()
        num_sources = len(source)
        weights = [variable.value for variable in self.trainable_variables]
        # Where the dropout layers stand: both passes sample the same. Frozen weights as they are.
        states = [
            variable.value * 1 if _is_dropout_state(variable) else ops.stop_gradient(variable.value)
            for variable in self.non_trainable_variables
        ]

        def pure_call(x, *others):
            source, weights = others[:num_sources], others[num_sources:]
            inputs = {"source": source or None, **settings}
            return self.stateless_call(weights, states, x, score_mask, **inputs)[0]

        outputs = keras.remat(pure_call)(x, *source, *weights)
        for variable in filter(_is_dropout_state, self.non_trainable_variables):
            variable.assign(variable + ops.array([0, 1], variable.dtype))
        return outputs

    def _normed(self, x, norm):
        return norm(x) if self.config.norm_position == "pre" else x

    def _added(self, x, y, dropout, norm, training):
        x = x + dropout(y, training=training)
        return norm(x) if self.config.norm_position == "post" else x

    def get_config(self):
        own = {"config": dataclasses.asdict(self.config)}
        return {**super().get_config(), **own, "cross_attention": self.has_cross_attention}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "config": from_saved(ModelConfig, config["config"])})


def _is_dropout_state(variable):
    """Whether it is (seed, number of draws) of a dropout layer."""
    return variable.path.endswith("seed_generator_state")
