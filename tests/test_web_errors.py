"""What is wrong with an exported page stands on it in one line."""

import hashlib
import json
import re
import subprocess
import sys

import pytest
from page_driver import begin, changed_json, open_page, replace, served
from tiny_models import ROOT

from neo_keras.errors import InputError
from neo_keras.export import exporter, web
from neo_keras.export.formats import formats_for

pytest_plugins = ["export_fixtures", "web_fixtures"]

AGAIN = r"export again with export\.py --formats web\."


def replace_model(page, content):
    """Replaces the model, so that config.json tells of the new one."""
    replace(page / "model.tflite", content)
    size, digest = len(content), hashlib.sha256(content).hexdigest()
    part = {"name": "model.tflite", "size_bytes": size, "sha256": digest}
    changes = {"size_bytes": size, "parts": [part]}
    replace(page / "config.json", changed_json(page / "config.json", **changes))


def missing(page):
    (page / "model.tflite").unlink()


def empty(page):
    replace(page / "model.tflite", "")


def truncated(page):
    replace(page / "model.tflite", (page / "model.tflite").read_bytes()[:100_000])


def one_bit(page):
    content = bytearray((page / "model.tflite").read_bytes())
    content[70_000] ^= 1
    replace(page / "model.tflite", bytes(content))


def a_web_page(page):
    replace(page / "model.tflite", "<!doctype html>" * 100_000)


def foreign(page):
    """A whole `.tflite`, of something else."""
    import tensorflow as tf

    function = tf.function(lambda x: x + 1, [tf.TensorSpec([5], tf.float32)])
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()])
    replace_model(page, converter.convert())


def rubbish(page):
    """What begins like a `.tflite`, and is what config.json tells of."""
    replace_model(page, b"\x1c\0\0\0TFL3" + b"\x7f" * 50_000)


def next_version(page):
    config = changed_json(page / "config.json", format="neo_keras model 2")
    replace(page / "config.json", config)


def no_json(page):
    replace(page / "config.json", "{")


def no_config(page):
    replace(page / "config.json", "null")


def other_tokenizer(page):
    tokenizer = json.loads((page / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer["model"]["vocab"]["é"] = 13
    replace(page / "tokenizer.json", json.dumps(tokenizer))


def unigram_tokenizer(page):
    replace(
        page / "tokenizer.json", json.dumps({"model": {"type": "Unigram", "vocab": [["a", 0]]}})
    )


def no_runtime(page):
    (page / "litert" / "litert_wasm_internal.wasm").unlink()


def no_worker(page):
    (page / "worker.js").unlink()


def no_tokenizer_script(page):
    (page / "tokenizer.js").unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (missing, rf"model.tflite is missing \(the server says 404\): {AGAIN}"),
        (empty, rf"model.tflite has 0 bytes, expected \d+: {AGAIN}"),
        (truncated, rf"model.tflite has 100000 bytes, expected \d+: {AGAIN}"),
        (one_bit, f"model.tflite is damaged, or is not the part .*: {AGAIN}"),
        (a_web_page, rf"model.tflite has 1500000 bytes, expected \d+: {AGAIN}"),
        (foreign, f"model.tflite has no signature prefill, sample_97: {AGAIN}"),
        (rubbish, rf"LiteRT cannot load model.tflite \(.*\): {AGAIN}"),
        (next_version, 'config.json has the format "neo_keras model 2", expected "neo_keras '
                       f'model 1": {AGAIN}'),
        (no_json, f"config.json is damaged: {AGAIN}"),
        (no_config, f"config.json is damaged: {AGAIN}"),
        (other_tokenizer, f"tokenizer.json has 14 tokens, but the model has 13: {AGAIN}"),
        (unigram_tokenizer, "the page reads tokenizers with WordLevel, BPE; this one has Unigram."),
        (no_runtime, "the runtime does not start in this browser .*: try a newer one."),
        (no_worker, f"the page is not complete .*: {AGAIN}"),
        (no_tokenizer_script, f"the page is not complete .*: {AGAIN}"),
    ],
)  # fmt: skip
def test_one_line(browser, own_page, damage, message):
    damage(own_page)
    with served(own_page) as url:
        page = open_page(browser, url)
        line = page.text("#error")
        assert "\n" not in line
        assert re.fullmatch("Error: " + message, line)
        assert page.evaluate("document.querySelector('#write').disabled")
        assert ("alert", "") in page.accessible_names()  # read aloud
        page.close()


@pytest.mark.parametrize("script", ["delete window.WebAssembly", "delete window.Worker"])
def test_old_browser(browser, page_url, script):
    page = open_page(browser, page_url, script)
    assert page.text("#error").startswith(
        "Error: this browser has no WebAssembly, which the model needs"
    )
    page.close()


def test_without_javascript(exported_page):
    text = (exported_page / "index.html").read_text(encoding="utf-8")
    assert "This page needs JavaScript" in re.search("<noscript>(.*?)</noscript>", text)[1]


@pytest.mark.parametrize(
    ("name", "value"),
    [("temperature", "-1"), ("temperature", ""), ("top-k", "1.5"), ("length", "0"), ("seed", "-1"),
     ("seed", str(2**32))],
)  # fmt: skip
def test_what_the_form_refuses(page, name, value):
    begin(page, **{name.replace("-", "_"): value})
    assert page.evaluate("document.querySelector('#form').matches(':invalid')")
    assert page.text("#status") == "Ready."


def test_export_without_the_runtime(tiny_run, tmp_path, monkeypatch):
    monkeypatch.setattr(web, "PACKAGES", tmp_path / "none")
    with pytest.raises(InputError, match="run npm ci --prefix web"):
        exporter.export_run(tiny_run, ["tflite", "web"], ["int8"], tmp_path / "out")
    assert not (tmp_path / "out").exists()  # before any work


def test_command_line(runtime, small_run, tmp_path):
    command = [sys.executable, str(ROOT / "export.py"), str(small_run.path), "--out", str(tmp_path)]
    done = subprocess.run([*command, "--formats", "web"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert f"python -m http.server --directory {tmp_path}/web" in done.stdout.replace("\n", " ")
    page = tmp_path / "web"
    assert json.loads((page / "config.json").read_text())["quantization"] == "int8"
    names = {path.relative_to(page).as_posix() for path in page.rglob("*") if path.is_file()}
    first_lines = (page / "sw.js").read_text(encoding="utf-8").splitlines()[:2]
    listed = json.loads(first_lines[1].removeprefix("const FILES = ").removesuffix(";"))
    assert {*listed, "sw.js"} == names
    assert {path.name for path in tmp_path.iterdir()} == {"web", "report.json", "README.md"}


def test_web_is_made_only_when_asked():
    assert "web" not in formats_for("decoder-only")
