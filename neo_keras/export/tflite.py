"""SavedModel to `.tflite`, and the precision of its weights."""

import contextlib
import io
import pathlib
import tempfile

import tensorflow as tf
from litert_quantizer import qtyping, quantizer, recipe, recipe_manager

from neo_keras.export.stateful import write_stateful
from neo_keras.generation import artifact
from neo_keras.quiet import native_log_hidden


def write_tflite(model, path, tokenizer, quantization):
    """Writes one file that is all a phone needs: stateful model, configuration, tokenizer.

    Args:
        model: `GPT`.
        path: of the file.
        tokenizer: `Tokenizer`.
        quantization: one of `QUANTIZATIONS`.
    """
    convert(write_stateful, model, path, tokenizer.unk_token_id, quantization)
    artifact.pack_tflite(path, model.config, quantization, tokenizer)


def convert(write_saved_model, model, path, unk_token_id, quantization):
    """Converts a model to a flatbuffer of builtin operators only.

    Args:
        write_saved_model: a function that writes signatures and returns their names.
        model: `GPT`.
        path: of the file.
        unk_token_id: a token that is never to be drawn, or None.
        quantization: one of `QUANTIZATIONS`.
    """
    # The converter and the quantizer say on both streams what they do.
    with native_log_hidden(), contextlib.redirect_stdout(io.StringIO()):
        with tempfile.TemporaryDirectory() as directory:
            names = write_saved_model(model, directory, unk_token_id)
            converter = tf.lite.TFLiteConverter.from_saved_model(directory, signature_keys=names)
            converter.experimental_enable_resource_variables = True
            pathlib.Path(path).write_bytes(converter.convert())
        if quantization != "float32":
            tool = quantizer.Quantizer(str(path))
            tool.load_quantization_recipe(RECIPES[quantization]())
            tool.quantize().export_model(str(path), overwrite=True)


def _float16_recipe():
    manager = recipe_manager.RecipeManager()
    manager.add_weight_only_config(
        regex=".*",
        operation_name=qtyping.TFLOperationName.ALL_SUPPORTED,
        num_bits=16,
        algorithm_key=recipe.AlgorithmName.FLOAT_CASTING,
    )
    return manager.get_quantization_recipe()


RECIPES = {
    "float16": _float16_recipe,  # weights; the arithmetic stays float32
    "int8": recipe.dynamic_wi8_afp32,  # weights per channel; activations while running
}
QUANTIZATIONS = ("float32", *RECIPES)
