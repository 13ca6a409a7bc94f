"""The bundle in LiteRT-LM's own command line: `run`, `benchmark` and `serve`."""

import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import urllib.request

import pytest
from sure_texts import sure_text
from waits import HANG_SECONDS, wait_until

from neo_keras.generation.load import load_engine

pytest_plugins = ["export_fixtures"]

LITERT_LM = pathlib.Path(sys.executable).with_name("litert-lm")
PROMPT = "abc dcf"


@pytest.fixture(scope="module")
def bundle(tiny_run, exports, tmp_path_factory):
    """Path of a float32 bundle, in a directory where LiteRT-LM may put its cache."""
    directory = tmp_path_factory.mktemp("bundle")
    return shutil.copy(tiny_run.export / "model-float32.litertlm", directory)


@pytest.fixture(scope="module")
def expected(tiny_run):
    """What Keras writes after the prompt, up to the end of the context."""
    engine, tokenizer = load_engine(tiny_run.path)
    num_tokens = tiny_run.model_config.max_seq_len - len(PROMPT)
    return sure_text(engine, tokenizer, PROMPT, num_tokens)


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """A home of its own, where `import` keeps models."""
    return {**os.environ, "HOME": str(tmp_path_factory.mktemp("home"))}


def litert_lm(environment, *words):
    done = subprocess.run(
        [LITERT_LM, *map(str, words)],
        env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=HANG_SECONDS,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_run(bundle, expected, environment):
    text = litert_lm(environment, "run", bundle, "--prompt", PROMPT)
    assert text.startswith(expected.removesuffix("\n"))


@pytest.mark.exhaustive
def test_benchmark(bundle, environment):
    text = litert_lm(environment, "benchmark", bundle, "-p", 16, "-d", 32)
    for phase in ("Prefill", "Decode"):
        assert float(re.search(rf"{phase} speed: +([\d.]+) tokens/s", text)[1]) > 0


@pytest.mark.exhaustive
def test_serve(bundle, expected, environment):
    litert_lm(environment, "import", bundle, "tiny")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [LITERT_LM, "serve", "--port", str(port)]
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as server:
        try:
            wait_until(lambda: listens(port))
            message = {"role": "user", "content": PROMPT}
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}/v1/chat/completions",
                json.dumps({"model": "tiny", "messages": [message]}).encode(),
                {"Content-Type": "application/json"},
            )
            with urllib.request.urlopen(request, timeout=HANG_SECONDS) as response:
                answer = json.load(response)
        finally:
            server.terminate()
    message = answer["choices"][0]["message"]
    assert message["role"] == "assistant" and message["content"].startswith(expected)


def listens(port):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
