"""Data flows one way: no part imports what docs/architecture.md does not allow it."""

import ast
import re

import pytest
from tiny_models import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text()
ROW = re.compile(r"^\| `neo_keras/(\w+)/` \|.*\| ([\w, ]*)\|$", re.MULTILINE)
MAY_IMPORT = {part: {part, *re.findall(r"\w+", others)} for part, others in ROW.findall(PAGE)}


def imports(path):
    """Names of the modules that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


def test_every_part_has_a_row():
    parts = {path.parent.name for path in ROOT.glob("neo_keras/*/__init__.py")}
    assert MAY_IMPORT.keys() == parts


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_parts(part):
    for path in (ROOT / "neo_keras" / part).glob("*.py"):
        ours = {name.split(".")[1] for name in imports(path) if name.startswith("neo_keras.")}
        assert ours & MAY_IMPORT.keys() <= MAY_IMPORT[part], path.name


def test_text_needs_no_tensorflow():
    for path in (ROOT / "neo_keras" / "text").glob("*.py"):
        assert not {"tensorflow", "keras"} & {name.split(".")[0] for name in imports(path)}


def test_nothing_imports_the_scripts():
    for path in ROOT.glob("neo_keras/**/*.py"):
        assert not {"train", "generate", "export"} & {*imports(path)}, path.name
