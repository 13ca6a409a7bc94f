"""The program in C, and small files for it.

A test module asks for them with `pytest_plugins = ["c_fixtures"]`.
"""

import shutil

import pytest
from c_program import build, fake_flatbuffer


@pytest.fixture(scope="session")
def program(tmp_path_factory):
    if not shutil.which("gcc"):
        pytest.skip("needs gcc")
    return build(tmp_path_factory.mktemp("c"))


@pytest.fixture(scope="session")
def flatbuffer(tmp_path_factory):
    return fake_flatbuffer(tmp_path_factory.mktemp("fake"), 13)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.tflite"
