"""Opens whatever can write text: a run directory, a SavedModel or a `.tflite` file."""

import pathlib

from neo_keras.generation import artifact
from neo_keras.mistaken import mistaken
from neo_keras.quiet import import_tensorflow
from neo_keras.training.run import RunDirectory

EXPECTED = "a run directory, a SavedModel or a .tflite file"
EXPORTS = ("model-int8.tflite", "model-float32.tflite", "saved_model")  # in `export/` of a run


def load_engine(path, num_threads=2):
    """Opens a model for generation.

    Args:
        path: of a run directory, a SavedModel directory or a `.tflite` file.
        num_threads: for a `.tflite` file.

    Returns:
        (Engine, Tokenizer).

    Raises:
        InputError: it is none of these, or it is damaged.
    """
    path = pathlib.Path(path)
    if path.is_file() and (path.suffix == ".tflite" or artifact.is_tflite(path)):
        return _load_tflite(path, num_threads)
    if (path / "saved_model.pb").exists():
        return _load_saved_model(path)
    if not RunDirectory(path).exists():
        raise mistaken(path, EXPECTED, also=EXPORTS)
    return _load_run(path)


# Each engine's runtime is imported where it is needed: a `.tflite` file needs no TensorFlow.


def _load_tflite(path, num_threads):
    from neo_keras.generation.litert_engine import LiteRTEngine
    from neo_keras.generation.litert_stateful_engine import LiteRTEncoderDecoderEngine

    model_config, tokenizer = artifact.unpack_tflite(path)
    is_decoder = model_config.architecture == "decoder-only"
    engine_class = LiteRTEngine if is_decoder else LiteRTEncoderDecoderEngine
    return engine_class(path, model_config, num_threads), tokenizer


def _load_saved_model(path):
    model_config, tokenizer = artifact.unpack_saved_model(path)
    import_tensorflow()
    from neo_keras.generation.saved_model_engine import saved_model_engine

    return saved_model_engine(path, model_config), tokenizer


def _load_run(path):
    run = RunDirectory.open(path)
    tokenizer = run.load_tokenizer()
    import_tensorflow()
    from neo_keras.generation.keras_engine import keras_engine

    return keras_engine(run.load_model(), drafts=True), tokenizer
