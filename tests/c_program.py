"""The program in C: how it is built and run, and small files for it."""

import json
import os
import re
import subprocess
import zipfile

import ai_edge_litert
import numpy as np
from tiny_models import ALPHABET, ROOT, SHAPE
from waits import HANG_SECONDS

from neo_keras.config import ModelConfig
from neo_keras.generation import artifact
from neo_keras.generation.engine import Engine, Runner
from neo_keras.text.tokenizer import Tokenizer

SOURCE = ROOT / "examples" / "c"
LITERT = ai_edge_litert.__path__[0]
STRICT = ["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O1", "-g"]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
CHUNK = {"tokens": ((1, 2), "int32"), "input_pos": ((2,), "int32")}
STEP = {"tokens": ((1, 1), "int32"), "input_pos": ((1,), "int32")}
SAMPLE = {
    **STEP, "temperature": ((1,), "float32"), "top_k": ((1,), "int32"),
    "top_p": ((1,), "float32"), "seed": ((1,), "int32"), "step": ((1,), "int32"),
}  # fmt: skip


def build(directory):
    """Built with gcc's sanitizers where they are installed: a wild read becomes a failure."""
    (directory / "empty.c").write_text("int main(void) { return 0; }\n")
    probe = subprocess.run(["gcc", *SANITIZERS, "empty.c"], cwd=directory, capture_output=True)
    options = STRICT + (SANITIZERS if probe.returncode == 0 else [])
    sources = sorted(map(str, SOURCE.glob("*.c")))
    library = [f"{LITERT}/libLiteRt.so", f"-Wl,-rpath,{LITERT}"]
    command = ["gcc", *options, *sources, "-o", directory / "generate", *library]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return directory / "generate"


def run(program, *args, stdout=subprocess.PIPE):
    done = subprocess.run([program, *map(os.fsencode, map(str, args))],
                          stdout=stdout, stderr=subprocess.PIPE, timeout=HANG_SECONDS)  # fmt: skip
    return done.returncode, (done.stdout or b"").decode(), done.stderr.decode()


def assert_refused(program, *args, match, code=2):
    returncode, stdout, stderr = run(program, *args)
    assert re.fullmatch("error: [^\n]+\n", stderr), stderr
    assert re.search(match, stderr), stderr
    assert (returncode, stdout) == (code, ""), (returncode, stdout)


def fake_flatbuffer(directory, vocab_size, names=("reset", "prefill", "decode", "sample")):
    """A file whose next token is a formula of all the inputs, so that no input can be forgotten."""
    import tensorflow as tf

    def reset():
        return {"input_pos": tf.zeros([1], tf.int32)}

    def prefill(tokens, input_pos):
        return {"input_pos": input_pos + tokens[0]}

    def decode(tokens, input_pos):
        return {"logits": tf.one_hot(tokens + input_pos, vocab_size)}

    def sample(tokens, input_pos, temperature, top_k, top_p, seed, step):
        knobs = tf.cast(10 * temperature + 2 * top_p, tf.int32) + 5 * top_k + 7 * seed + 9 * step
        knobs = tf.where(temperature > 0, knobs, 1)
        return {"next_token": (3 * tokens[0] + input_pos + knobs) % (vocab_size - 1)}

    module = tf.Module()
    functions = {
        "reset": (reset, {}), "prefill": (prefill, CHUNK), "decode": (decode, STEP),
        "sample": (sample, SAMPLE),
    }  # fmt: skip
    for name in names:
        function, inputs = functions[name]
        specs = [tf.TensorSpec(*spec, name=key) for key, spec in inputs.items()]
        setattr(module, name, tf.function(function, specs))
    signatures = {name: getattr(module, name) for name in names}
    tf.saved_model.save(module, str(directory / "saved"), signatures=signatures)
    converter = tf.lite.TFLiteConverter.from_saved_model(
        str(directory / "saved"), signature_keys=list(names)
    )
    return converter.convert()


class FakeRunner(Runner):
    """`fake_flatbuffer` in Python, at temperature 0."""

    def __init__(self, vocab_size):
        super().__init__({})
        self.vocab_size = vocab_size

    def run(self, name, tokens, input_pos):
        token_id = (3 * tokens[0, -1] + input_pos[-1] + 1) % (self.vocab_size - 1)
        return {"logits": np.eye(self.vocab_size)[[token_id]]}


def fake_engine(max_seq_len, vocab_size):
    return Engine(FakeRunner(vocab_size), ModelConfig(vocab_size, max_seq_len=max_seq_len))


def pack(path, flatbuffer, max_seq_len=97, vocab_size=13, tokenizer_json=None, compression=0,
         change=dict, config_json=None):  # fmt: skip
    """Writes a `.tflite` file; `change` makes another config.json of the right one."""
    config = ModelConfig(**{**SHAPE, "max_seq_len": max_seq_len, "vocab_size": vocab_size})
    text = artifact.describe(config, "float32", flatbuffer)
    path.write_bytes(flatbuffer)
    with zipfile.ZipFile(path, "a", compression) as archive:
        archive.writestr("config.json", json.dumps(change(json.loads(text))))
        archive.writestr("tokenizer.json", tokenizer_json or character_json(ALPHABET))
        if config_json:
            archive.writestr("tokenizer_config.json", config_json)
    return path


def character_json(alphabet):
    return Tokenizer.characters_of(alphabet).to_json()
