"""What an exported file says of itself is read back; a damaged or foreign file is named."""

import json
import shutil
import zipfile

import pytest
from tiny_models import ALPHABET, SHAPE

from neo_keras.config import ModelConfig
from neo_keras.errors import InputError
from neo_keras.generation import artifact
from neo_keras.generation.load import load_engine
from neo_keras.text.tokenizer import Tokenizer

pytest_plugins = ["export_fixtures"]

CONFIG = ModelConfig(**SHAPE, num_kv_heads=1, tie_embeddings=True)
TOKENIZER = Tokenizer.characters_of(ALPHABET)


@pytest.fixture(scope="module")
def foreign_tflite(tmp_path_factory):
    """A right `.tflite` file that is not ours: it adds 3."""
    import tensorflow as tf

    directory = tmp_path_factory.mktemp("foreign")
    module = tf.Module()
    module.add = tf.function(lambda x: {"y": x + 3.0}, [tf.TensorSpec([5], tf.float32, name="x")])
    tf.saved_model.save(module, str(directory / "saved"), signatures={"add": module.add})
    converter = tf.lite.TFLiteConverter.from_saved_model(str(directory / "saved"))
    path = directory / "foreign.tflite"
    path.write_bytes(converter.convert())
    return path


@pytest.fixture
def packed(foreign_tflite, tmp_path):
    """That file with a configuration and a tokenizer packed behind it."""
    path = shutil.copy(foreign_tflite, tmp_path / "packed.tflite")
    artifact.pack_tflite(path, CONFIG, "int8", TOKENIZER)
    return path


def assert_refused(path, match=None):
    with pytest.raises(InputError, match=match) as error:
        load_engine(path)
    assert str(path) in str(error.value)


def test_round_trip(packed, foreign_tflite):
    config, tokenizer = artifact.unpack_tflite(packed)
    assert config == CONFIG
    assert tokenizer.to_json() == TOKENIZER.to_json()
    assert packed.read_bytes().startswith(foreign_tflite.read_bytes())  # still a TFLite file


def test_any_program_can_read_the_parts(packed):
    with zipfile.ZipFile(packed) as archive:
        assert archive.testzip() is None
        config = json.loads(archive.read("config.json"))
        tokenizer_json = archive.read("tokenizer.json").decode()
    assert (config["format"], config["quantization"]) == ("neo_keras model 1", "int8")
    assert config["model"]["max_seq_len"] == 97
    assert Tokenizer.from_json(tokenizer_json).encode("abc").tolist() == [2, 3, 4]


def test_a_real_file(int8_tflite):
    config, tokenizer = artifact.unpack_tflite(int8_tflite)
    assert config == ModelConfig(**SHAPE)
    assert tokenizer.encode("a\n j").tolist() == [2, 0, 1, 11]
    engine, _ = load_engine(int8_tflite)
    assert (engine.max_seq_len, engine.decode(3).shape) == (97, (13,))


def test_ours_but_without_our_signatures(packed):
    assert_refused(packed, "signatures decode_in_place, prefill_in_place, reset, .*, got add")


def test_foreign_file(foreign_tflite):
    assert_refused(foreign_tflite, "no tokenizer")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99, "all but one byte", "no zip"])
def test_truncated(int8_tflite, tmp_path, share):
    content = int8_tflite.read_bytes()
    with zipfile.ZipFile(int8_tflite) as archive:
        flatbuffer_size = archive.getinfo("config.json").header_offset
    sizes = {"all but one byte": len(content) - 1, "no zip": flatbuffer_size}
    size = sizes[share] if share in sizes else int(len(content) * share)
    path = tmp_path / "truncated.tflite"
    path.write_bytes(content[:size])
    assert_refused(path, "truncated")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_flipped_byte(int8_tflite, tmp_path, share):
    content = bytearray(int8_tflite.read_bytes())
    content[int(len(content) * share)] ^= 0x10
    path = tmp_path / "flipped.tflite"
    path.write_bytes(content)
    assert_refused(path, "damaged")


def test_flipped_byte_anywhere_in_the_zip(packed, foreign_tflite):
    content = packed.read_bytes()
    for i in range(foreign_tflite.stat().st_size, len(content)):
        damaged = bytearray(content)
        damaged[i] ^= 0xFF
        packed.write_bytes(damaged)
        try:
            config, tokenizer = artifact.unpack_tflite(packed)
        except InputError as error:
            assert str(packed) in str(error)
        else:  # a date, or another byte that means nothing to us
            assert (config, tokenizer.to_json()) == (CONFIG, TOKENIZER.to_json())


@pytest.mark.parametrize(
    "content", [b"", b"text", b"\x1c\0\0\0TFL", b"PK\3\4" + bytes(100)], ids=repr
)
def test_not_a_tflite_file(tmp_path, content):
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    assert_refused(path, "not a TFLite file")


def test_only_a_header(tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(b"\x1c\0\0\0TFL3" + bytes(100))
    assert_refused(path, "no tokenizer")


@pytest.mark.parametrize(("byte", "match"), [(0x00, "got none"), (0x77, "LiteRT cannot load")])
def test_a_damaged_flatbuffer_with_the_right_hash(tmp_path, byte, match):
    path = tmp_path / "model.tflite"
    path.write_bytes(b"\x1c\0\0\0TFL3" + bytes([byte]) * 100)
    artifact.pack_tflite(path, CONFIG, "int8", TOKENIZER)
    assert_refused(path, match)


def repack(path, foreign_tflite, change):
    """Replaces the configuration, whose text `change` gives from the right one."""
    text = artifact.describe(CONFIG, "int8", foreign_tflite.read_bytes())
    shutil.copy(foreign_tflite, path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("config.json", change(json.loads(text)))
        archive.writestr("tokenizer.json", TOKENIZER.to_json())


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda c: json.dumps({**c, "format": "neo_keras model 2"}), "'neo_keras model 2', exp"),
        (lambda c: json.dumps({**c, "sha256": "0" * 64}), "SHA-256"),
        (lambda c: json.dumps({**c, "model": {"vocab_size": 13, "size": 5}}), "damaged"),
        (lambda c: json.dumps({k: v for k, v in c.items() if k != "sha256"}), "damaged"),
        (lambda c: json.dumps({k: v for k, v in c.items() if k != "format"}), "damaged"),
        (lambda c: json.dumps([c]), "damaged"),
        (lambda c: json.dumps(c)[:-1], "damaged"),
        (lambda c: "", "damaged"),
        (lambda c: "[" * 100_000, "damaged"),
        (lambda c: b"\xff", "no tokenizer"),
    ],
)
def test_configuration_that_is_not_right(tmp_path, foreign_tflite, change, match):
    path = tmp_path / "model.tflite"
    repack(path, foreign_tflite, change)
    assert_refused(path, match)


def test_configuration_with_a_value_that_is_not_right(tmp_path, foreign_tflite):
    path = tmp_path / "model.tflite"
    model = {**SHAPE, "max_seq_len": 0}
    repack(path, foreign_tflite, lambda c: json.dumps({**c, "model": model}))
    assert_refused(path, "max_seq_len")


def test_tokenizer_of_another_size(tmp_path, foreign_tflite):
    path = shutil.copy(foreign_tflite, tmp_path / "model.tflite")
    artifact.pack_tflite(path, CONFIG, "int8", Tokenizer.characters_of("abcde"))
    assert_refused(path, "has 6 tokens but its model has 13")


@pytest.fixture
def saved_model(tmp_path):
    """A directory that has all but a model that TensorFlow could load."""
    path = tmp_path / "saved_model"
    path.mkdir()
    (path / "saved_model.pb").write_bytes(b"")
    artifact.pack_saved_model(path, CONFIG, TOKENIZER)
    return path


def test_saved_model_round_trip(saved_model):
    config, tokenizer = artifact.unpack_saved_model(saved_model)
    assert config == CONFIG
    assert tokenizer.to_json() == TOKENIZER.to_json()
    assert {path.name for path in saved_model.iterdir()} == {"saved_model.pb", "assets.extra"}


@pytest.mark.parametrize("name", ["assets.extra", "assets.extra/config.json",
                                  "assets.extra/tokenizer.json"])  # fmt: skip
def test_saved_model_without_a_part(saved_model, name):
    path = saved_model / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert_refused(saved_model, "no tokenizer")


def test_saved_model_with_a_damaged_configuration(saved_model):
    (saved_model / "assets.extra" / "config.json").write_text("{")
    assert_refused(saved_model, "damaged")


def test_saved_model_with_a_damaged_tokenizer(saved_model):
    (saved_model / "assets.extra" / "tokenizer.json").write_text("{")
    assert_refused(saved_model)


def test_saved_model_with_a_binary_configuration(saved_model):
    (saved_model / "assets.extra" / "config.json").write_bytes(b"\xff")
    assert_refused(saved_model)


def test_saved_model_that_tensorflow_cannot_load(saved_model):
    assert_refused(saved_model)


@pytest.mark.parametrize("name", ["saved_model.pb", "variables/variables.data-00000-of-00001",
                                  "assets.extra/tokenizer.json"])  # fmt: skip
def test_saved_model_with_another_byte(saved_model, name):
    file = saved_model / name
    file.parent.mkdir(exist_ok=True)
    if not file.exists():
        file.write_bytes(b"123")
    artifact.pack_saved_model(saved_model, CONFIG, TOKENIZER)
    content = file.read_bytes()
    other = content.replace(b"a", b"z") if name.endswith(".json") else content + b"\0"
    file.write_bytes(other)
    assert other != content
    assert_refused(saved_model, "SHA-256|damaged")
    file.write_bytes(content)
    (saved_model / ".DS_Store").write_bytes(b"of a file manager")
    artifact.unpack_saved_model(saved_model)


def test_a_packed_text_that_expands(packed, foreign_tflite, tmp_path):
    shutil.copy(foreign_tflite, packed)
    with zipfile.ZipFile(packed, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", artifact.describe(CONFIG, "int8", b"1"))
        archive.writestr("tokenizer.json", TOKENIZER.to_json())
    assert_refused(packed, "carries no tokenizer")
