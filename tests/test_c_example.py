"""The program in C writes what Python writes, and refuses what it should with one line."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile

import ai_edge_litert
import numpy as np
import pytest
from tiny_models import ALPHABET, ROOT, SHAPE, corpus_text

from neo_keras.config import ModelConfig
from neo_keras.generation import artifact
from neo_keras.generation.decoding import generate_text
from neo_keras.generation.engine import Engine
from neo_keras.generation.load import load_engine
from neo_keras.generation.sampler import GREEDY
from neo_keras.text.tokenizer import Tokenizer

pytest_plugins = ["export_fixtures"]
pytestmark = pytest.mark.skipif(not shutil.which("gcc"), reason="needs gcc")

SOURCE = ROOT / "examples" / "c"
LITERT = ai_edge_litert.__path__[0]
STRICT = ["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O1", "-g"]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
STEP = {"tokens": ((1, 1), "int32"), "input_pos": ((1,), "int32")}
SAMPLE = {
    **STEP, "temperature": ((1,), "float32"), "top_k": ((1,), "int32"),
    "top_p": ((1,), "float32"), "seed": ((1,), "int32"), "step": ((1,), "int32"),
}  # fmt: skip


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """Built with gcc's sanitizers where they are installed: a wild read becomes a failure."""
    directory = tmp_path_factory.mktemp("c")
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
                          stdout=stdout, stderr=subprocess.PIPE, timeout=60)  # fmt: skip
    return done.returncode, (done.stdout or b"").decode(), done.stderr.decode()


def assert_refused(program, *args, match, code=2):
    returncode, stdout, stderr = run(program, *args)
    assert re.fullmatch("error: [^\n]+\n", stderr), stderr
    assert re.search(match, stderr), stderr
    assert (returncode, stdout) == (code, "")


def fake_flatbuffer(directory, vocab_size, names=("reset", "decode"), not_a_number=False):
    """A file whose next token is a formula of all the inputs, so that no input can be forgotten."""
    import tensorflow as tf

    def reset():
        return {"input_pos": tf.zeros([1], tf.int32)}

    def decode(tokens, input_pos):
        logits = tf.one_hot((3 * tokens + input_pos + 1) % (vocab_size - 1), vocab_size)
        return {"logits": tf.math.log(logits - 2) if not_a_number else logits}

    def sample(tokens, input_pos, temperature, top_k, top_p, seed, step):
        knobs = tf.cast(10 * temperature + 2 * top_p, tf.int32) + 5 * top_k + 7 * seed + 9 * step
        return {"next_token": (3 * tokens[0] + input_pos + knobs) % (vocab_size - 1)}

    module = tf.Module()
    functions = {"reset": (reset, {}), "decode": (decode, STEP), "sample": (sample, SAMPLE)}
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


class FakeEngine(Engine):
    """`fake_flatbuffer` in Python."""

    def __init__(self, max_seq_len, vocab_size):
        super().__init__(max_seq_len, chunk_size=1)
        self.vocab_size = vocab_size

    def _prefill(self, tokens, input_pos):
        pass

    def _decode(self, tokens, input_pos):
        return np.eye(self.vocab_size)[
            (3 * tokens[0, 0] + input_pos[0] + 1) % (self.vocab_size - 1)
        ]


@pytest.fixture(scope="module")
def flatbuffers(tmp_path_factory):
    """Without and with the signature `sample`, and two that are not right."""

    def make(*args, **kwargs):
        return fake_flatbuffer(tmp_path_factory.mktemp("fake"), 13, *args, **kwargs)

    return {
        "greedy": make(),
        "sample": make(("reset", "decode", "sample")),
        "no reset": make(("decode",)),
        "not a number": make(not_a_number=True),
    }


def pack(path, flatbuffer, max_seq_len=97, vocab_size=13, tokenizer_json=None, compression=0,
         change=dict):  # fmt: skip
    """Writes a `.tflite` file; `change` makes another config.json of the right one."""
    config = ModelConfig(**{**SHAPE, "max_seq_len": max_seq_len, "vocab_size": vocab_size})
    text = artifact.describe(config, "float32", flatbuffer)
    path.write_bytes(flatbuffer)
    with zipfile.ZipFile(path, "a", compression) as archive:
        archive.writestr("config.json", json.dumps(change(json.loads(text))))
        archive.writestr("tokenizer.json", tokenizer_json or character_json(ALPHABET))
    return path


def character_json(alphabet):
    return Tokenizer.characters_of(alphabet).to_json()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.tflite"


# Around the chunk size 64 and the context's 97; written past the context, twice.
@pytest.mark.parametrize("prompt_length", [0, 1, 64, 65, 90, 97, 98, 131])
def test_greedy_text_is_that_of_python(program, int8_tflite, prompt_length):
    engine, tokenizer = load_engine(int8_tflite)
    prompt = corpus_text()[50 : 50 + prompt_length]
    expected = "".join(generate_text(engine, tokenizer, prompt, 160, GREEDY))
    assert run(program, int8_tflite, prompt, 160) == (0, f"{prompt}{expected}\n", "")


def test_the_prompt_matters(program, int8_tflite):
    texts = {run(program, int8_tflite, prompt, 30)[1][3:] for prompt in ("abc", "gg\n", "hij")}
    assert len(texts) == 3


def test_no_tokens(program, int8_tflite):
    assert run(program, int8_tflite, "abc", 0) == (0, "abc\n", "")


# Quotes, a backslash, controls, two to four bytes of UTF-8, and one that JSON can write as a pair
# of surrogates.
@pytest.mark.parametrize("ensure_ascii", [False, True])
def test_any_characters(program, path, tmp_path, ensure_ascii):
    alphabet = '\n\x01"\\/é\u2028€語😀'
    tokenizer_json = json.dumps(json.loads(character_json(alphabet)), ensure_ascii=ensure_ascii)
    assert ("\\ud83d\\ude00" in tokenizer_json) == ensure_ascii
    flatbuffer = fake_flatbuffer(tmp_path, 11)
    pack(path, flatbuffer, max_seq_len=7, vocab_size=11, tokenizer_json=tokenizer_json)
    tokenizer = Tokenizer.from_json(tokenizer_json)
    written = ""
    for prompt in ("", alphabet, "é😀"):
        expected = "".join(generate_text(FakeEngine(7, 11), tokenizer, prompt, 40, GREEDY))
        assert run(program, path, prompt, 40) == (0, f"{prompt}{expected}\n", "")
        written += expected
    assert set(written) == set(alphabet)


def test_the_smallest_context(program, path, flatbuffers):
    pack(path, flatbuffers["greedy"], max_seq_len=2)
    tokenizer = Tokenizer.characters_of(ALPHABET)
    expected = "".join(generate_text(FakeEngine(2, 13), tokenizer, "abc", 9, GREEDY))
    assert run(program, path, "abc", 9) == (0, f"abc{expected}\n", "")


@pytest.mark.parametrize(("temperature", "seed"), [(None, None), (0, 3), (0.7, None), (1.2, 5)])
def test_sample_is_given_everything(program, path, flatbuffers, temperature, seed):
    pack(path, flatbuffers["sample"])
    token, text, characters = 4, "abc", sorted(ALPHABET)
    for step in range(20):
        knobs = int(10 * (temperature or 0) + 2) + 7 * (seed or 0) + 9 * step
        token = (3 * token + 2 + step + knobs) % 12
        text += characters[token]
    args = [arg for arg in (temperature, seed) if arg is not None]
    assert run(program, path, "abc", 20, *args) == (0, f"{text}\n", "")


def test_the_commands_of_the_readme(int8_tflite, tmp_path):
    """Word for word, in a copy of the directory."""
    directory = shutil.copytree(SOURCE, tmp_path / "c")
    shutil.copy(int8_tflite, directory / "model-int8.tflite")
    blocks = re.findall(r"```sh\n(.*?)```", (SOURCE / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 2
    commands = "\n".join(blocks).replace("ROMEO:", "abc")
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    done = subprocess.run(["sh", "-ec", commands], cwd=directory, capture_output=True, text=True,
                          env={**os.environ, "PATH": path})  # fmt: skip
    engine, tokenizer = load_engine(int8_tflite)
    expected = "".join(generate_text(engine, tokenizer, "abc", 100, GREEDY))
    assert (done.returncode, done.stdout, done.stderr) == (0, f"abc{expected}\n", "")


def test_missing_file(program, tmp_path):
    assert_refused(
        program, tmp_path / "none.tflite", "", 9, match="none.tflite .No such file.*: give"
    )
    assert_refused(program, tmp_path, "", 9, match="not a TFLite file")


@pytest.mark.parametrize("content", [b"", b"text", b"PK\3\4" + bytes(100)], ids=repr)
def test_not_a_tflite_file(program, path, content):
    path.write_bytes(content)
    assert_refused(program, path, "", 9, match="not a TFLite file: give")


@pytest.mark.parametrize("share", [0.1, 0.9, "all but one byte", "no zip"])
def test_truncated(program, path, flatbuffers, share):
    content = pack(path, flatbuffers["greedy"]).read_bytes()
    sizes = {"all but one byte": len(content) - 1, "no zip": len(flatbuffers["greedy"])}
    size = sizes[share] if share in sizes else int(len(content) * share)
    path.write_bytes(content[:size])
    assert_refused(program, path, "", 9, match="no tokenizer: it is truncated")


def test_flipped_byte_of_the_model(program, path, flatbuffers):
    content = bytearray(pack(path, flatbuffers["greedy"]).read_bytes())
    content[len(flatbuffers["greedy"]) // 2] ^= 0x10
    path.write_bytes(content)
    assert_refused(program, path, "", 9, match="damaged .its SHA-256 is another.: export or copy")


def test_flipped_bytes_of_the_zip(program, path, flatbuffers):
    content = pack(path, flatbuffers["greedy"]).read_bytes()
    right = run(program, path, "abc", 5)
    first = len(flatbuffers["greedy"])
    # Every byte of the records at the end, where all offsets are, and some of the rest.
    places = [*range(first, len(content) - 80, 61), *range(len(content) - 80, len(content), 3)]
    num_refused = 0
    for i in places:
        damaged = bytearray(content)
        damaged[i] ^= 0xFF
        path.write_bytes(damaged)
        done = run(program, path, "abc", 5)
        if done != right:  # a date, or another byte that means nothing to us
            assert done[:2] == (2, "") and re.fullmatch("error: [^\n]+\n", done[2]), (i, done)
            num_refused += 1
    assert num_refused > len(places) / 3


def test_another_vocabulary(program, path, flatbuffers):
    content = pack(path, flatbuffers["greedy"]).read_bytes()
    assert content.count(b'"a":2') == 1
    path.write_bytes(content.replace(b'"a":2', b'"z":2'))
    assert_refused(program, path, "", 9, match="no tokenizer")


# What is left in the last block of SHA-256, whose length must fit behind it.
@pytest.mark.parametrize("size", [63, 64, 65, 119, 120, 121])
def test_a_damaged_flatbuffer_with_the_right_hash(program, path, size):
    pack(path, b"\x1c\0\0\0TFL3" + bytes(size - 8))
    assert_refused(program, path, "", 9, match="LiteRT cannot load .*: export it again")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda c: {**c, "format": "neo_keras model 2"}, "'neo_keras model 2', expected 'neo_ker"),
        (lambda c: {**c, "format": 'a\n"b\u0007'}, "'a \"b ', expected"),
        (lambda c: {**c, "format": 1}, "no format"),
        (lambda c: [c], "no format"),
        (lambda c: {**c, "sha256": "0" * 64}, "SHA-256"),
        (lambda c: {k: v for k, v in c.items() if k != "model"}, "lacks"),
        (lambda c: {**c, "model": {**c["model"], "max_seq_len": 0}}, "lacks"),
        (lambda c: {**c, "model": {**c["model"], "max_seq_len": 1.5}}, "lacks"),
        (lambda c: {**c, "model": {**c["model"], "vocab_size": 10**30}}, "lacks"),
        (lambda c: {**c, "model": {**c["model"], "vocab_size": 12}}, "13 tokens but its model"),
    ],
)
def test_configuration_that_is_not_right(program, path, flatbuffers, change, match):
    pack(path, flatbuffers["greedy"], change=change)
    assert_refused(program, path, "", 9, match=match)


def changed_tokenizer(**changes):
    content = json.loads(character_json(ALPHABET))
    content["normalizer"] = changes.pop("normalizer", None)
    content["model"].update(changes)
    return json.dumps(content)


VOCAB = json.loads(character_json(ALPHABET))["model"]["vocab"]


@pytest.mark.parametrize(
    ("tokenizer_json", "match"),
    [
        (changed_tokenizer(type="BPE", merges=[]), "type BPE; .*characters .*generate.py"),
        (changed_tokenizer(normalizer={"type": "Lowercase"}), "with a normalizer"),
        (changed_tokenizer(vocab={**VOCAB, "\n": 13, "\n\n": 0}), "has the token '  '; "),
        (changed_tokenizer(vocab={**VOCAB, "z": 13}), "has 14 tokens but its model has 13"),
        (changed_tokenizer(vocab={**VOCAB, "a": 1}), "damaged"),
        (changed_tokenizer(vocab={**VOCAB, "a": 99}), "damaged"),
        (changed_tokenizer(vocab={**VOCAB, "a": -1}), "damaged"),
        (changed_tokenizer(vocab=[VOCAB]), "has 0 tokens"),
        (changed_tokenizer()[:-30], "damaged"),
        ('{"model": {"type": "WordLevel", "vocab": {"a": 0, "b', "damaged"),
        (changed_tokenizer(vocab="X").replace('"X"', '{"\\ud83d": 0}'), "has 0 tokens"),
        ("[" * 1_000_000, "damaged"),
        ("{", "damaged"),
    ],
    ids=range(13),
)
def test_tokenizer_that_is_not_right(program, path, flatbuffers, tokenizer_json, match):
    pack(path, flatbuffers["greedy"], tokenizer_json=tokenizer_json)
    assert_refused(program, path, "", 9, match=match)


def test_compressed(program, path, flatbuffers):
    pack(path, flatbuffers["greedy"], compression=zipfile.ZIP_DEFLATED)
    assert_refused(program, path, "", 9, match="compressed.*: export it again")


def test_signatures_that_are_not_right(program, path, flatbuffers, tmp_path):
    pack(path, flatbuffers["no reset"])
    assert_refused(program, path, "", 9, match="signatures decode and reset, got no reset: export")
    pack(path, fake_flatbuffer(tmp_path, 11))
    assert_refused(program, path, "", 9, match="no float32 tensor logits with 13 elements: export")


def test_logits_that_are_no_numbers(program, path, flatbuffers):
    pack(path, flatbuffers["not a number"])
    returncode, stdout, stderr = run(program, path, "abc", 9)
    assert (returncode, stdout) == (1, "abc")
    assert re.fullmatch("error: the model's logits are not finite: .*\n", stderr)


@pytest.mark.parametrize(
    ("prompt", "match"),
    [
        ("abcé", "U\\+00E9 é, which the model has never seen: leave it out"),
        ("a\x1b", "U\\+001B, which"),
        ("a😀", "U\\+1F600 😀, which"),
        ("a\udcff", "byte 0xff, which is not UTF-8"),
        ("a\udce2\udc82", "byte 0xe2, which is not UTF-8"),  # the beginning of a character
        ("a\udcc0\udc8a", "byte 0xc0, which is not UTF-8"),  # a line break, overlong
    ],
)
def test_prompt_that_is_not_right(program, path, flatbuffers, prompt, match):
    pack(path, flatbuffers["greedy"])
    assert_refused(program, path, prompt, 9, match=match)


@pytest.mark.parametrize(
    ("args", "match"),
    [
        ([], "usage: .*generate MODEL PROMPT MAX_TOKENS .TEMPERATURE .SEED"),
        (["m", "", "1", "1", "1", "1"], "usage"),
        *((["m", "", n], f"MAX_TOKENS .*got '{n}'") for n in ("", "x", "-1", "9x", "2147483648")),
        *((["m", "", "9", x], f"TEMPERATURE .*got '{x}'") for x in ("", "x", "-1", "nan", "inf")),
        (["m", "", "9", "1", "-1"], "SEED .*got '-1'"),
    ],
)
def test_arguments_that_are_not_right(program, args, match):
    assert_refused(program, *args, match=match)


def test_a_temperature_needs_sample(program, path, flatbuffers):
    pack(path, flatbuffers["greedy"])
    assert_refused(program, path, "abc", 9, 0.5, match="no signature sample, .*: export it again")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk(program, path, flatbuffers):
    pack(path, flatbuffers["greedy"])
    with open("/dev/full", "wb") as full:
        returncode, _, stderr = run(program, path, "abc", 9, stdout=full)
    assert (returncode, stderr) == (1, "error: cannot write the text (No space left on device)\n")
