"""The program in C refuses what it should: one line, exit code 2, and no wild read."""

import json
import os
import re
import zipfile

import pytest
from c_program import assert_refused, character_json, fake_flatbuffer, pack, run
from tiny_models import ALPHABET

pytest_plugins = ["c_fixtures"]


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
def test_truncated(program, path, flatbuffer, share):
    content = pack(path, flatbuffer).read_bytes()
    sizes = {"all but one byte": len(content) - 1, "no zip": len(flatbuffer)}
    size = sizes[share] if share in sizes else int(len(content) * share)
    path.write_bytes(content[:size])
    assert_refused(program, path, "", 9, match="no tokenizer: it is truncated")


def test_flipped_byte_of_the_model(program, path, flatbuffer):
    content = bytearray(pack(path, flatbuffer).read_bytes())
    content[len(flatbuffer) // 2] ^= 0x10
    path.write_bytes(content)
    assert_refused(program, path, "", 9, match="damaged .its SHA-256 is another.: export or copy")


def test_flipped_bytes_of_the_zip(program, path, flatbuffer):
    content = pack(path, flatbuffer).read_bytes()
    right = run(program, path, "abc", 5)
    first = len(flatbuffer)
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


def test_another_vocabulary(program, path, flatbuffer):
    content = pack(path, flatbuffer).read_bytes()
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
def test_configuration_that_is_not_right(program, path, flatbuffer, change, match):
    pack(path, flatbuffer, change=change)
    assert_refused(program, path, "", 9, match=match)


def changed_tokenizer(**changes):
    content = json.loads(character_json(ALPHABET))
    for name in ("normalizer", "added_tokens", "pre_tokenizer"):
        content[name] = changes.pop(name, content[name])
    content["model"].update(changes)
    return json.dumps(content)


VOCAB = json.loads(character_json(ALPHABET))["model"]["vocab"]


@pytest.mark.parametrize(
    ("tokenizer_json", "match"),
    [
        (changed_tokenizer(type="BPE", merges=[]), "type BPE; .*characters .*generate.py"),
        (changed_tokenizer(normalizer={"type": "Lowercase"}), "has a normalizer"),
        (changed_tokenizer(added_tokens=[{"content": "ab", "id": 13}]), "has added tokens"),
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
        (changed_tokenizer(pre_tokenizer={"type": "Whitespace"}), "a pre-tokenizer of another"),
        (changed_tokenizer(pre_tokenizer=None), "a pre-tokenizer of another kind; .*generate.py"),
    ],
    ids=range(16),
)
def test_tokenizer_that_is_not_right(program, path, flatbuffer, tokenizer_json, match):
    pack(path, flatbuffer, tokenizer_json=tokenizer_json)
    assert_refused(program, path, "", 9, match=match)


def test_a_token_that_begins_a_text(program, path, flatbuffer):
    pack(path, flatbuffer, config_json='{"bos_token": "a", "add_bos_token": true}')
    assert_refused(program, path, "", 9, match="has a tokenizer_config.json, .*generate.py")


def test_compressed(program, path, flatbuffer):
    pack(path, flatbuffer, compression=zipfile.ZIP_DEFLATED)
    assert_refused(program, path, "", 9, match="compressed.*: export it again")


def test_signatures_that_are_not_right(program, path, flatbuffer, tmp_path):
    pack(path, fake_flatbuffer(tmp_path, 13, ("reset", "decode", "sample")))
    assert_refused(program, path, "", 9, match="prefill, decode and sample, got no prefill: export")
    pack(path, fake_flatbuffer(tmp_path, 11))
    assert_refused(program, path, "", 9, match="no float32 tensor logits with 13 elements: export")


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
def test_prompt_that_is_not_right(program, path, flatbuffer, prompt, match):
    pack(path, flatbuffer)
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


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk(program, path, flatbuffer):
    pack(path, flatbuffer)
    with open("/dev/full", "wb") as full:
        returncode, _, stderr = run(program, path, "abc", 9, stdout=full)
    assert (returncode, stderr) == (1, "error: cannot write the text (No space left on device)\n")
