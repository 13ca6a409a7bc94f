"""Opens whatever can write text: a run directory, a SavedModel or a `.tflite` file."""

import pathlib

from neo_keras.cpu import num_cores, runs_compiled_model
from neo_keras.generation import artifact
from neo_keras.mistaken import mistaken
from neo_keras.native_logs import import_tensorflow
from neo_keras.run_directory.directory import RunDirectory

EXPECTED = "a run directory, a SavedModel or a .tflite file"
EXPORTS = ("model-int8.tflite", "model-float32.tflite", "saved_model")  # in `export/` of a run
MAX_THREADS = 4  # the cores of a Pi, the fast ones of a phone


def load_engine(path, num_threads=None):
    """Opens a model for generation.

    Args:
        path: of a run directory, a SavedModel directory or a `.tflite` file.
        num_threads: for a `.tflite` file; None: as many as there are cores, at most `MAX_THREADS`.

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
    model_config, tokenizer = artifact.unpack_tflite(path)
    num_threads = num_threads or min(num_cores(), MAX_THREADS)
    return _tflite_engine_class(model_config)(path, model_config, num_threads), tokenizer


def _tflite_engine_class(model_config):
    from neo_keras.generation import litert_stateful_engine as stateful

    if model_config.architecture == "encoder-decoder":
        return stateful.LiteRTEncoderDecoderEngine
    if not runs_compiled_model():
        return stateful.LiteRTStatefulEngine
    from neo_keras.generation.litert_engine import LiteRTEngine

    return LiteRTEngine


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
