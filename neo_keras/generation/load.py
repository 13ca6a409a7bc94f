"""Opens whatever can write text: a run directory, an exported model or weights of others."""

import fnmatch
import itertools
import pathlib
import time

from neo_keras.environment import num_cores, runs_compiled_model
from neo_keras.errors import PAGE_PARTS, FailedError, InputError, mistaken
from neo_keras.generation import artifact
from neo_keras.generation.decoding import generate_ids
from neo_keras.generation.engine import Engine
from neo_keras.generation.flatbuffer import check_signatures, read_signatures
from neo_keras.generation.sampler import GREEDY
from neo_keras.native_logs import import_tensorflow
from neo_keras.run_directory.directory import RunDirectory
from neo_keras.weights.open import is_pretrained, open_pretrained

EXPORTS = ("model-int8.tflite", "model-float32.tflite", "saved_model")  # in `export/` of a run
MAX_THREADS = 4  # the cores of a Pi, the fast ones of a phone
# A small model may be faster on one thread: texts of so many tokens are timed on one and on all, in
# turn. A larger file takes too long to load twice.
MAX_TIMED_BYTES, TIMED_TOKENS, TIMED_ROUNDS = 2**24, 16, 3

# Each runtime is imported where it is needed: a `.tflite` file needs no TensorFlow.


def load_engine(path, num_threads=None, max_seq_len=None):
    """Opens a run directory, an exported model or weights of others: (Engine, Tokenizer).

    Args:
        path: of a run directory, a SavedModel directory, a `.tflite` file, or what
            `weights.open.open_pretrained` takes.
        num_threads: for a `.tflite` file; None: one, or as many as there are cores up to
            `MAX_THREADS`, whichever is faster.
        max_seq_len: of weights of others, a shorter context.

    Raises:
        InputError: it is none of these, or it is damaged.
    """
    if is_pretrained(path):
        pretrained = open_pretrained(path, max_seq_len)
        import_tensorflow()
        from neo_keras.generation.keras_runner import keras_engine

        return keras_engine(pretrained.load_model()), pretrained.tokenizer
    if max_seq_len is not None:
        raise InputError(
            "--seq-len is for weights of others: a run and its exports keep their context; of what "
            "was fine-tuned, export.py --seq-len makes a longer one"
        )
    path = pathlib.Path(path)
    if _is_tflite(path):
        config, tokenizer = artifact.unpack_tflite(path)
        return tflite_engine(path, config, num_threads), tokenizer
    if (path / "saved_model.pb").exists():
        config, tokenizer = artifact.unpack_saved_model(path)
        import_tensorflow()
        from neo_keras.generation.saved_model_runner import saved_model_runner

        return Engine(saved_model_runner(path), config), tokenizer
    if not RunDirectory(path).read_config():
        expected = "a run directory, a SavedModel, a .tflite file or weights of others"
        raise mistaken(path, expected, also=EXPORTS)
    run = RunDirectory.open(path)
    tokenizer = run.load_tokenizer()
    import_tensorflow()
    from neo_keras.generation.keras_runner import keras_engine

    return keras_engine(run.load_model(), speculative=True), tokenizer


def _is_tflite(path):
    if not path.is_file() or fnmatch.fnmatch(path.name, PAGE_PARTS):
        return False  # the first part of a page's model begins as a whole one does
    return path.suffix == ".tflite" or artifact.is_tflite(path)


def tflite_engine(path, config, num_threads=None, in_place=True):
    """The engine of a `.tflite` file of a model with this `ModelConfig`; see `load_engine`.

    Args:
        in_place: take the faster one of LiteRT's runtimes, where it runs.
    """
    path = pathlib.Path(path)
    is_decoder = config.architecture == "decoder-only"

    def engine(num_threads):
        if is_decoder and in_place and runs_compiled_model():
            from neo_keras.generation.compiled_model_runner import CompiledModelRunner

            return Engine(CompiledModelRunner(path, config, num_threads), config)
        from neo_keras.generation.interpreter_runner import interpreter_runner

        return Engine(interpreter_runner(path, num_threads), config)

    try:
        content = artifact.mapped(path)
        check_signatures(read_signatures(content), path, config)
        most = num_threads or min(num_cores(), MAX_THREADS)
        if num_threads or most == 1 or len(content) > MAX_TIMED_BYTES:
            return engine(most)
        return _fastest([engine(most), engine(1)])
    except (InputError, FailedError):
        raise
    except Exception as error:  # what it is depends on where the damage is
        raise InputError(f"LiteRT cannot load {path} ({error}): export it again") from None


def _fastest(engines):
    """The engine that writes a greedy text in the least time."""

    def seconds(engine):
        begin = time.perf_counter()
        list(itertools.islice(generate_ids(engine, [0], GREEDY, seed=0), TIMED_TOKENS))
        return time.perf_counter() - begin

    for engine in engines:
        seconds(engine)  # the first text takes longer
    least = [min(seconds(engine) for _ in range(TIMED_ROUNDS)) for engine in engines]
    engine = engines[least.index(min(least))]
    engine.reset()
    return engine
