"""Low-rank adapters: what fine-tuning adds to matrices of a model, which stay as they are.

Source: Hu et al. 2021, arXiv:2106.09685.
"""

import contextlib

import keras
import numpy as np
from keras import ops

from neo_keras.choices import LORA_KERNELS

# An adapter is an attribute of the layer that has the kernel: the kernel's name, and this.
_SUFFIX = "_lora"


@keras.saving.register_keras_serializable("neo_keras")
class LoraAdapter(keras.layers.Layer):
    """scale * x A B, for each of the matrices that stand side by side in one kernel.

    Each has an A and a B of its own. All A stand side by side, and so do all B.

    Args:
        rank: int, columns of each A.
        units: tuple of int, outputs of each matrix.
        scale: float, alpha / rank.
    """

    def __init__(self, rank, units, scale, **kwargs):
        super().__init__(**kwargs)
        self.rank = rank
        self.units = tuple(units)
        self.scale = scale

    def build(self, input_shape):
        inputs = input_shape[-1]
        # As the library PEFT begins: Kaiming's uniform with a = sqrt(5).
        limit, seed = inputs**-0.5, keras.random.SeedGenerator()
        initializer = keras.initializers.RandomUniform(-limit, limit, seed)
        self.a = self.add_weight((inputs, len(self.units) * self.rank), initializer, name="a")
        self.b = self.add_weight((self.rank, sum(self.units)), "zeros", name="b")

    def call(self, x):
        """[..., inputs] to [..., sum of units]."""
        x = self.scale * ops.matmul(x, self.a)  # [..., len(units) * rank]
        if len(self.units) == 1:
            return ops.matmul(x, self.b)
        # One product with a matrix that has each B at its place, and zeros elsewhere. It takes no
        # longer than a product for each, and there is less to compile.
        own = np.repeat(np.eye(len(self.units)), self.units, axis=1).repeat(self.rank, axis=0)
        b = ops.tile(self.b, (len(self.units), 1)) * ops.cast(own, self.compute_dtype)
        return ops.matmul(x, b)

    def factors(self):
        """[(A, B), ...] of each matrix: float32 arrays [inputs, rank] and [rank, units]."""
        a, b = map(ops.convert_to_numpy, (self.a, self.b))
        borders = np.cumsum(self.units)[:-1]
        return list(zip(np.split(a, len(self.units), axis=1), np.split(b, borders, axis=1)))

    def delta(self):
        """What it adds to the kernel, float32 [inputs, sum of units]."""
        return self.scale * np.concatenate([a @ b for a, b in self.factors()], axis=1)

    def get_config(self):
        own = {"rank": self.rank, "units": self.units, "scale": self.scale}
        return {**super().get_config(), **own}


def adapted(layer, name, x, y):
    """y, which the matrix `name` of a layer made of x, and what its adapter adds, if there is one.

    Args:
        x, y: [..., inputs] and [..., outputs].
    """
    adapter = getattr(layer, name + _SUFFIX, None)
    return y if adapter is None else y + adapter(x)


def add_lora(model, config):
    """Freezes a `GPT`, and gives it adapters, which change no logit before they are trained.

    Its checkpoints have the adapters only: what is frozen is read from where it came from.

    Args:
        config: `LoraConfig`.
    """
    for variable in model.variables:
        variable.trainable = False
    for layer in model._flatten_layers():
        layer.save_own_variables = layer.load_own_variables = _do_nothing
    for block in model.blocks:
        for name, (inputs, units) in config.matrices(model.config).items():
            layer = _layer_of(block, name)
            with contextlib.ExitStack() as scopes:  # of the names of its variables
                for part in layer.path.split("/"):
                    scopes.enter_context(keras.name_scope(part))
                settings = {"dtype": _trained_policy(layer), "name": name + _SUFFIX}
                adapter = LoraAdapter(config.rank, units, config.scale, **settings)
                adapter.build((None, None, inputs))
            layer._tracker.unlock()  # as Keras' own `enable_lora` does
            setattr(layer, name + _SUFFIX, adapter)
            layer._tracker.lock()


def _trained_policy(layer):
    """Computes as a layer does, with variables in float32."""
    dtype = layer.compute_dtype
    return dtype if dtype == "float32" else f"mixed_{dtype}"


def _layer_of(block, name):
    return getattr(block, LORA_KERNELS[name].partition("/")[0])


def _do_nothing(store):
    """In place of what writes a layer's variables to a file, or reads them."""


def saved_variables(model):
    """Those of the weights that a checkpoint of a model, or of its `TrainStep`, has."""
    has_adapters = any(isinstance(layer, LoraAdapter) for layer in model._flatten_layers())
    return model.trainable_variables if has_adapters else model.variables


def adapters(model):
    """Yields (number of the block, name of the matrix, `LoraAdapter`) of all that a model has."""
    for i, block in enumerate(model.blocks):
        for name in LORA_KERNELS:
            if adapter := getattr(_layer_of(block, name), name + _SUFFIX, None):
                yield i, name, adapter


def merge_lora(model):
    """A new `GPT` in float32, without adapters, that computes what a model with them does."""
    merged = type(model)(model.config, dtype="float32")
    weights = {_path_in_model(variable): variable for variable in model.variables}
    deltas = {f"block_{i}/{LORA_KERNELS[name]}": (name, a) for i, name, a in adapters(model)}
    for variable in merged.variables:
        path = _path_in_model(variable)
        value = ops.convert_to_numpy(weights[path])
        if path in deltas:
            name, adapter = deltas[path]
            value = value + (adapter.delta().T if name == "contract" else adapter.delta())
        variable.assign(value)
    return merged


def _path_in_model(variable):
    return variable.path.partition("/")[2]
