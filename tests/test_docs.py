"""What the pages say can be typed: commands parse, options exist, links lead somewhere."""

import ast
import contextlib
import importlib.util
import io
import os
import re
import shlex
import subprocess
import sys
import urllib.parse

import pytest
from tiny_models import ROOT, corpus_text

import neo_keras

PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").glob("*.md"),
        *ROOT.glob("benchmarks/**/README.md"),
        *ROOT.glob("examples/**/README.md"),
    ]
)
SCRIPTS = sorted(
    path
    for path in [*ROOT.glob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
    if "def parse_arguments" in path.read_text()
)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)|<img src=\"([^\"]+)\"")
PYTHON = ("python", "python3", ".venv/bin/python", ".venv-xpu/bin/python")
OTHERS = {"--help", "--logdir", "--no-deps"}  # of no script of ours


def name_of(path):
    return str(path.relative_to(ROOT))


def fences(page, *languages):
    return [code for kind, code in FENCE.findall(page.read_text()) if kind in languages]


def inline_code(page):
    """What stands between backticks in the sentences and tables, on one line each."""
    return [" ".join(code.split()) for code in CODE.findall(FENCE.sub("", page.read_text()))]


def commands(page):
    """Lists of words: each simple command of the shell blocks and of the inline code."""
    lines = "\n".join(fences(page, "sh", "bash")).replace("\\\n", " ").splitlines()
    lines += [code for code in inline_code(page) if code.startswith(("python ", "make ", "pip "))]
    for line in lines:
        with contextlib.suppress(ValueError):  # a line of a longer quotation
            lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
            lexer.whitespace_split = True
            words = []
            for word in [*lexer, ";"]:
                if set(word) <= set(";&|<>()"):
                    yield words
                    words = []
                else:
                    words.append(word)


def parse(script, arguments):
    """Parses as the script does, in this process; returns what it says if that is not possible."""
    spec = importlib.util.spec_from_file_location("parsed_script", script)
    module = importlib.util.module_from_spec(spec)
    argv, path, modules = sys.argv, sys.path, {*sys.modules}
    errors = io.StringIO()
    sys.path = [str(script.parent), *sys.path]
    try:
        spec.loader.exec_module(module)
        sys.argv = [script.name, *arguments]
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
            module.parse_arguments()
    except SystemExit as end:
        return errors.getvalue() if end.code else ""
    finally:
        sys.argv, sys.path = argv, path
        for name in {*sys.modules} - modules:  # scripts have modules of the same names
            if str(getattr(sys.modules[name], "__file__", "")).startswith(str(ROOT / "benchmarks")):
                del sys.modules[name]
    return ""


def script_of(word):
    path = ROOT / word
    return path / "__main__.py" if path.is_dir() else path


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands(page):
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for program, *arguments in filter(None, commands(page)):
        if program == "exec":
            program, *arguments = arguments
        if program in PYTHON and arguments and not arguments[0].startswith("-"):
            script = script_of(arguments[0])
            assert script.is_file(), f"{page.name}: no {arguments[0]}"
            if script in SCRIPTS:
                said = parse(script, [a for a in arguments[1:] if a != "$@"])
                assert not said, f"{page.name}: {arguments}: {said}"
        elif program == "make":
            assert {a for a in arguments if "=" not in a} <= {*targets}, f"{page.name}: {arguments}"
        elif program == "pip":
            files = [after for a, after in zip(arguments, arguments[1:]) if a == "-r"]
            assert all((ROOT / file).is_file() for file in files), f"{page.name}: {arguments}"


@pytest.fixture(scope="module")
def known_options():
    """Of all scripts, by what `--help` would say."""
    text = "".join(path.read_text() for path in SCRIPTS)
    return {*re.findall(r"[\"'](--[a-z][\w-]*)[\"']", text)} | OTHERS


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_options_in_sentences(page, known_options):
    said = re.findall(r"(?<![\w-])--[a-z][\w-]*", " ".join(inline_code(page)))
    assert {*said} <= known_options


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links(page):
    for target in filter(None, (a or b for a, b in LINK.findall(page.read_text()))):
        url = urllib.parse.urlsplit(target)
        if url.scheme:
            continue
        path = page.parent / url.path if url.path else page
        assert path.exists(), f"{page.name}: {target}"
        if url.fragment:
            assert url.fragment in anchors(path), f"{page.name}: {target}"


def anchors(page):
    """What GitHub makes of the headings."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_paths_in_sentences(page):
    """Files of ours that a page names are there."""
    for code in inline_code(page):
        if re.fullmatch(r"(neo_keras|benchmarks|docs|tests|examples|notebooks)/[\w./-]*", code):
            assert (ROOT / code).exists(), f"{page.name}: {code}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python(page):
    for code in fences(page, "python"):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and node.module == "neo_keras":
                assert {alias.name for alias in node.names} <= {*neo_keras.__all__}


@pytest.mark.exhaustive  # it compiles for a minute
@pytest.mark.parametrize("page", ["README.md", "docs/python.md"])
def test_python_runs(page, tmp_path):
    code = "\n".join(fences(ROOT / page, "python"))
    code, count = re.subn(r"steps=\d{3,}", "steps=20", code)
    assert count == 1
    (tmp_path / "my.txt").write_text(corpus_text() + "It was")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert re.search("It was|ROMEO:", done.stdout)


def test_every_benchmark_is_in_the_index():
    index = (ROOT / "benchmarks" / "README.md").read_text()
    for path in SCRIPTS:
        if path.parent.name in ("benchmarks", "lab"):
            assert f"python {name_of(path)}" in index


def test_the_makefile_names_tests():
    names = re.search(r"addsuffix \.py,([^)]*)", (ROOT / "Makefile").read_text())[1]
    for name in names.replace("\\", "").split():
        assert (ROOT / "tests" / f"test_{name}.py").is_file()


def test_the_readme_is_short():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 150
    assert len(text.split()) <= 1500
