"""Tiny runs, and the numbers that their files hold."""

import hashlib
import io
import json
import pathlib
import random
import zipfile

import h5py

from neo_keras.presets import PRESETS, Preset

STEPS, EVAL_EVERY = 24, 2
WORDS = "the quick brown fox jumps over a lazy dog and sleeps under trees of green".split()
OTHER_WORDS = "xyloid jinx waltz vex bad quartz nymph glyph".split()
TINY = Preset(
    "for the campaign",
    model={"max_ngram": 3, "ngram_rows": 211, "ngram_dim": 6, "embedding_norm": True,
           "num_layers": 1, "num_heads": 1, "hidden_dim": 16, "max_seq_len": 16},
    training={"batch_size": 4, "steps": STEPS, "eval_every": EVAL_EVERY, "sample_every": 0,
              "cpu_replicas": 1, "jit_compile": False, "mixed_precision": "float32",
              "steps_per_execution": 1},
)  # fmt: skip


def add_preset():
    """Makes "tiny" a preset of this process, and of those that it forks."""
    PRESETS["tiny"] = TINY


def write_text(path, num_words=1200, words=WORDS):
    """Writes a text of words in a random order, always the same one; returns its path."""
    rng = random.Random(num_words)
    path = pathlib.Path(path)
    path.write_text(" ".join(rng.choice(words) for _ in range(num_words)))
    return path


def training(text, run="run", **options):
    """The command line of a training: of `options`, None is an option without a value."""
    command = ["train.py", "--run", run, "--data", text, "--preset", "tiny"]
    for name, value in options.items():
        command += ["--" + name.replace("_", "-"), *([] if value is None else [value])]
    return command


def numbers_of(path):
    """All that a file computes with, to be compared: name or place -> SHA-256, or a sorted list.

    Args:
        path: of a `.keras`, `.tflite` or `.litertlm` file, or of a SavedModel.
    """
    path = pathlib.Path(path)
    if path.suffix == ".keras":
        return _numbers_of_keras(path)
    if path.is_dir():
        return _numbers_of_saved_model(path)
    return _numbers_of_flatbuffer(path.read_bytes())


def _numbers_of_keras(path):
    numbers = {}

    def add(name, node):
        if isinstance(node, h5py.Dataset):
            numbers[name] = _sha256(node[()].tobytes())

    with zipfile.ZipFile(path) as archive:
        with h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file:
            file.visititems(add)
    return numbers


def _numbers_of_flatbuffer(content):
    """Of tensors: the converter also writes down when it ran. It numbers them in any order."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(content, content.index(b"TFL3") - 4)
    metadata = {model.Metadata(i).Buffer() for i in range(model.MetadataLength())}
    buffers = (model.Buffers(i) for i in range(model.BuffersLength()) if i not in metadata)
    return sorted(_sha256(b.DataAsNumpy().tobytes()) for b in buffers if b.DataLength())


def _numbers_of_saved_model(path):
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(path / "variables" / "variables"))
    names = [name for name in reader.get_variable_to_shape_map() if "VARIABLE_VALUE" in name]
    return sorted(_sha256(reader.get_tensor(name).tobytes()) for name in names)


def losses_of(run):
    """[(step, training loss, validation loss)] of a run, as text."""
    rows = (pathlib.Path(run) / "history.csv").read_text().splitlines()[1:]
    return [(fields[0], *fields[3:]) for fields in (row.split(",") for row in rows)]


def step_of(run):
    """The step of the last checkpoint; 0 without one."""
    path = pathlib.Path(run) / "last.keras"
    if not path.exists():
        return 0
    with zipfile.ZipFile(path) as archive:
        with h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file:
            return int(file["optimizer/vars/0"][()])


def text_sha256(run):
    """Which text a run says that it was trained on."""
    return json.loads((pathlib.Path(run) / "config.json").read_text())["data"]["sha256"]


def partial_files(directory):
    return sorted(str(path) for path in pathlib.Path(directory).rglob(".partial-*"))


def contents(directory):
    """{path: SHA-256} of every file below a directory."""
    directory = pathlib.Path(directory)
    files = (path for path in sorted(directory.rglob("*")) if path.is_file())
    return {str(path.relative_to(directory)): _sha256(path.read_bytes()) for path in files}


def _sha256(data):
    return hashlib.sha256(data).hexdigest()
