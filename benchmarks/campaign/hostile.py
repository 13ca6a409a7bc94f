"""Files that were made to do harm: none may run anything, write outside, or take the memory."""

import base64
import io
import json
import marshal
import pathlib
import shutil
import zipfile

import h5py
import made
import numpy as np
import runs
from tally import Outcome

MEMORY = 2**33  # of address space, of which TensorFlow reserves much
PEAK_BYTES = 1_500_000_000
BOMB_BYTES = 3 * 2**30  # below what Keras itself refuses
ZEROS = bytes(2**24)
SAY = made.SAY
RESUME = ["train.py", "--run", "run", "--resume"]
EXPORT = [*made.EXPORT, "--formats", "tflite"]
SAY_TFLITE = ["generate.py", "model.tflite", "--greedy", "--max-tokens", "4"]
SAY_SAVED_MODEL = ["generate.py", "saved_model", "--greedy", "--max-tokens", "4"]


def trials(count):
    """Yields (function, arguments): all there are, whatever the count."""
    for name in CASES:
        yield trial, (name,)


def trial(base, path, name):
    """Opens what a case makes with each of its commands; looks for what it might have done."""
    make, commands = CASES[name]
    outcome = Outcome(f"hostile: {name}", len(commands))
    made.copy(base, "stopped", path)
    canary = path / "canary"
    make(base, path, canary)
    before = _files_in(path)
    for command in commands:
        process = made.start(path, command, memory=MEMORY).wait()
        outcome.ended(process, (0, 1, 2))
        peak = f"{process.command}: {process.peak_bytes / 1e6:,.0f} MB"
        outcome.expect(process.peak_bytes < PEAK_BYTES, peak, "crashed")
    after = _files_in(path)
    outcome.expect(not canary.exists(), "code was run", "executed")
    outcome.expect(after <= before, f"written outside: {after - before}", "executed")
    return outcome


def _files_in(path):
    """All in a directory but what processes are to write there."""
    written = {"tmp", "cache", "new"}
    return {p for p in path.iterdir() if p.suffix not in (".out", ".err") and p.name not in written}


def _repack(path, members):
    """Writes a zip archive again, with other or more members: {name: bytes, or None: a bomb}."""
    content = path.read_bytes()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        begin = min(info.header_offset for info in archive.infolist())
        members = {info.filename: archive.read(info) for info in archive.infolist()} | members
    path.write_bytes(content[:begin])
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, member in members.items():
            info = zipfile.ZipInfo(name)
            is_bomb = member is None
            info.compress_type = zipfile.ZIP_DEFLATED if is_bomb else zipfile.ZIP_STORED
            with archive.open(info, "w", force_zip64=True) as file:
                for _ in range(BOMB_BYTES // len(ZEROS) if is_bomb else 1):
                    file.write(ZEROS if is_bomb else member)


def _both_checkpoints(path):
    return [path / "run" / name for name in ("best.keras", "last.keras")]


def lambda_layer(base, path, canary):
    """As in CVE-2024-3660: the bytes of a function, in the configuration of a layer."""
    code = compile(f"lambda x: open({str(canary)!r}, 'w')", "x", "eval").co_consts[0]
    function = [base64.b64encode(marshal.dumps(code)).decode(), None, None]
    layer = {
        "module": "keras.layers",
        "class_name": "Lambda",
        "config": {
            "name": "lambda",
            "function": {"class_name": "__lambda__", "config": {
                "code": function[0], "defaults": None, "closure": None}},
        },
        "registered_name": None,
    }  # fmt: skip
    model = {"module": "keras", "class_name": "Sequential", "registered_name": None,
             "config": {"name": "s", "layers": [layer], "build_input_shape": [3]}}  # fmt: skip
    for file in _both_checkpoints(path):
        _repack(file, {"config.json": json.dumps(model).encode()})


def other_module(base, path, canary):
    """As in CVE-2025-1550: the configuration names a function of any module, to be called."""
    call = {"module": "os", "class_name": "function", "config": "system",
            "registered_name": "function"}  # fmt: skip
    layer = {"module": "keras.layers", "class_name": "Lambda", "registered_name": None,
             "config": {"name": "l", "function": call, "arguments": {"command": f"touch {canary}"}},
             "build_config": {"input_shape": [None]},
             "inbound_nodes": [{"args": [f"touch {canary}"], "kwargs": {}}]}  # fmt: skip
    model = {"module": "keras", "class_name": "Functional", "registered_name": None,
             "config": {"name": "f", "layers": [layer], "input_layers": [["l", 0, 0]],
                        "output_layers": [["l", 0, 0]]}}  # fmt: skip
    for file in _both_checkpoints(path):
        _repack(file, {"config.json": json.dumps(model).encode()})
    config_path = path / "run" / "config.json"
    config = json.loads(config_path.read_text())
    config["model"] |= {"module": "os", "class_name": "system", "activation": "os.system"}
    config_path.write_text(json.dumps(config))


def climbing_paths(base, path, canary):
    """Members of archives whose names lead out of the directory that they are extracted to."""
    names = ("../canary", "../../canary", str(canary), "assets/../../canary", "run/../canary")
    for file in (*_both_checkpoints(path), _tflite(base, path)):
        _repack(file, {name: b"x" for name in names})


def bomb_of_weights(base, path, canary):
    for file in _both_checkpoints(path):
        _repack(file, {"model.weights.h5": None})


def bomb_in_tflite(base, path, canary):
    _repack(_tflite(base, path), {"tokenizer.json": None})


def _tflite(base, path):
    export = base / "exported" / "run" / "export"
    return pathlib.Path(shutil.copy(export / "model-int8.tflite", path / "model.tflite"))


def _change_weights(path, change):
    """`change` gets the open HDF5 file of each checkpoint, and the name of its first array."""
    for file in _both_checkpoints(path):
        with zipfile.ZipFile(file) as archive:
            weights = io.BytesIO(archive.read("model.weights.h5"))
        with h5py.File(weights, "r+") as h5:
            change(
                h5, h5.visititems(lambda name, node: name if getattr(node, "shape", 0) else None)
            )
        _repack(file, {"model.weights.h5": weights.getvalue()})


def links_to_other_files(base, path, canary):
    """Weights that are not in the file, but in another one that the reader can read."""
    other = path / "other.h5"

    def link(h5, name):
        with h5py.File(other, "w") as file:
            file["secret"] = np.ones(h5[name].shape, "float32")
        del h5[name]
        h5[name] = h5py.ExternalLink(str(other), "secret")

    _change_weights(path, link)


def raw_bytes_of_other_files(base, path, canary):
    """The same with HDF5's external storage."""
    other = path / "other.bin"

    def store(h5, name):
        shape, dtype = h5[name].shape, h5[name].dtype
        other.write_bytes(bytes(h5[name].nbytes))
        del h5[name]
        h5.create_dataset(name, shape, dtype, external=[(str(other), 0, h5py.h5f.UNLIMITED)])

    _change_weights(path, store)


def arrays_without_end(base, path, canary):
    """Arrays of 3 GB that take no room in the file."""

    def grow(h5, name):
        del h5[name]
        h5.create_dataset(name, (BOMB_BYTES // 4,), "float32", chunks=(2**20,), compression="gzip")

    _change_weights(path, grow)


def writes_files(base, path, canary):
    """A SavedModel with a WriteFile in every function, of what restores and what computes."""
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    shutil.copytree(base / "exported" / "run" / "export" / "saved_model", path / "saved_model")
    file = path / "saved_model" / "saved_model.pb"
    saved_model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    for function in saved_model.meta_graphs[0].graph_def.library.function:
        for name, text in (("evil_name", str(canary)), ("evil_text", "x")):
            node = function.node_def.add(name=name, op="Const")
            node.attr["dtype"].type = tf.string.as_datatype_enum
            node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(text))
        inputs = ["evil_name:output:0", "evil_text:output:0"]
        function.node_def.add(name="evil", op="WriteFile", input=inputs)
        function.control_ret["evil"] = "evil"
        function.signature.control_output.append("evil")
    file.write_bytes(saved_model.SerializeToString())


def absurd_tokenizers(base, path, canary):
    """Ids without end, a token of a million letters, a vocabulary of a million, no vocabulary."""
    text = (path / "run" / "tokenizer.json").read_text()
    for number, change in enumerate(ABSURD):
        tokenizer = json.loads(text)
        change(tokenizer, tokenizer["model"]["vocab"])
        (path / f"{number}.json").write_text(json.dumps(tokenizer))


ABSURD = (
    lambda tokenizer, vocab: vocab.update(a=2**31),
    lambda tokenizer, vocab: vocab.update(a=2**32 - 1),
    lambda tokenizer, vocab: vocab.update(a=2**62),
    lambda tokenizer, vocab: vocab.update({"x" * 10**6: len(vocab)}),
    lambda tokenizer, vocab: vocab.update({chr(0x20000 + i): 99 + i for i in range(40_000)}),
    lambda tokenizer, vocab: vocab.clear(),
    lambda tokenizer, vocab: tokenizer["added_tokens"].append(
        {"id": 10**9, "content": "x", "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False, "special": True}
    ),
)  # fmt: skip


CASES = {
    "a Lambda layer": (lambda_layer, [SAY, RESUME, EXPORT]),
    "a function of another module": (other_module, [SAY, RESUME, EXPORT]),
    "paths that climb out": (climbing_paths, [SAY, RESUME, EXPORT, SAY_TFLITE]),
    "a zip bomb of weights": (bomb_of_weights, [SAY, RESUME]),
    "a zip bomb behind a .tflite": (bomb_in_tflite, [SAY_TFLITE]),
    "weights in another file": (links_to_other_files, [SAY, RESUME]),
    "weights in any file's bytes": (raw_bytes_of_other_files, [SAY, RESUME]),
    "arrays without end": (arrays_without_end, [SAY, RESUME]),
    "a SavedModel that writes files": (writes_files, [SAY_SAVED_MODEL]),
    "absurd tokenizers": (
        absurd_tokenizers,
        [
            runs.training("../small.txt", "new", steps=2, tokenizer=f"{i}.json", overwrite=None)
            for i in range(len(ABSURD))
        ],
    ),
}
