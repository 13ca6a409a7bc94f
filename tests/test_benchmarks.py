"""Benchmarks take too long for tests: here what they import is there, and is no test's."""

import ast
import importlib

import pytest
from tiny_models import ROOT

SCRIPTS = sorted((ROOT / "benchmarks").rglob("*.py"))
TESTS = {path.stem for path in (ROOT / "tests").glob("*.py")}


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) else []
        assert not TESTS & {*names}
        if isinstance(node, ast.ImportFrom) and node.module.startswith("neo_keras"):
            module = importlib.import_module(node.module)
            for alias in node.names:
                if not hasattr(module, alias.name):
                    importlib.import_module(f"{node.module}.{alias.name}")
