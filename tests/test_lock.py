"""Two processes on one run: the second says so in one line, and nothing is mixed."""

import errno
import gc
import json
import os
import pathlib
import shutil
import subprocess
import sys

import filelock
import pytest

from neo_keras.errors import InputError
from neo_keras.run_directory.directory import ReadOnlyRun, RunDirectory
from neo_keras.training.start import resume_run, start_run

ROOT = pathlib.Path(__file__).resolve().parent.parent
SMALL = {"max_seq_len": 11, "num_layers": 1, "num_heads": 1, "hidden_dim": 12, "batch_size": 7}
OTHER = """
import json, sys, time
from neo_keras.errors import InputError
from neo_keras.run_directory.directory import RunDirectory
from neo_keras.training.start import resume_run, start_run

action, path, text = sys.argv[1:]
small = json.loads('{small}')
try:
    if action == "export":
        with RunDirectory.open(path).exporting():
            print("done", flush=True)
            time.sleep(1e6)
    if action == "resume":
        run = resume_run(path)
    else:
        run = start_run(path, [text], overwrite=action == "overwrite", **small)
    print("done", flush=True)
    if action == "hold":
        time.sleep(1e6)
except InputError as error:
    print(error)
"""  # no TensorFlow: half a second


def other(action, path, text):
    """Another process."""
    script = OTHER.replace("{small}", json.dumps(SMALL))
    command = [sys.executable, "-c", script, action, path, text]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def answer(action, path, text):
    return other(action, path, text).communicate()[0].strip()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run"


def contents(path):
    return {p.name: p.read_bytes() for p in path.iterdir() if p.is_file()}


@pytest.mark.parametrize("resumed", [False, True])
def test_a_second_training(path, corpus_file, resumed):
    run = start_run(path, [str(corpus_file)], **SMALL)
    if resumed:
        del run
        run = resume_run(path)
    before = contents(path)
    busy = f"{path} is in use by a training: wait for it, or choose another --run"
    for action in ("overwrite", "resume"):
        assert answer(action, path, corpus_file) == busy
    assert contents(path) == before
    del run
    gc.collect()
    assert answer("resume", path, corpus_file) == "done"
    assert answer("overwrite", path, corpus_file) == "done"


def test_a_lock_dies_with_its_process(path, corpus_file):
    process = other("hold", path, corpus_file)
    assert process.stdout.readline() == "done\n"
    with pytest.raises(InputError, match="is in use by a training"):
        resume_run(path)
    process.kill()
    process.communicate()
    resume_run(path)


def test_export_and_overwrite(path, corpus_file):
    start_run(path, [str(corpus_file)], **SMALL)
    gc.collect()
    process = other("export", path, corpus_file)
    assert process.stdout.readline() == "done\n"
    before = contents(path)
    with pytest.raises(InputError, match="export is in use by an export: wait for it"):
        start_run(path, [str(corpus_file)], overwrite=True, **SMALL)
    with pytest.raises(InputError, match="export is in use by an export: wait for it"):
        with RunDirectory.open(path).exporting():
            pass
    assert contents(path) == before
    process.kill()
    process.communicate()
    start_run(path, [str(corpus_file)], overwrite=True, **SMALL)


def test_the_chief_alone_locks(path, corpus_file):
    run = start_run(path, [str(corpus_file)], **SMALL)
    worker = resume_run(path, directory=ReadOnlyRun)
    assert worker[0].id == run[0].id
    del run
    gc.collect()
    assert answer("resume", path, corpus_file) == "done"


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def test_a_file_system_without_locks(path, corpus_file, monkeypatch, number):
    """Such as a network drive: nothing keeps the second one away, but it is no obstacle."""

    def refuse(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    with pytest.warns(UserWarning, match="is on a file system without locks: let one process"):
        start_run(path, [str(corpus_file)], **SMALL)
    with pytest.warns(UserWarning, match="without locks"):
        resume_run(path)


def test_what_a_killed_process_leaves_is_free(path, corpus_file):
    """Killed amid `create`, or with --overwrite amid the removal of what was there."""
    start_run(path, [str(corpus_file)], **SMALL)
    (path / "config.json").unlink()
    (path / ".partial-1-config.json").write_text("{")
    start_run(path, [str(corpus_file)], **SMALL)
    (path / "best.keras").write_text("weights")
    (path / "config.json").unlink()
    with pytest.raises(InputError, match="a run without its config.json: copy that back"):
        start_run(path, [str(corpus_file)], **SMALL)
    assert (path / "best.keras").exists()
    start_run(path, [str(corpus_file)], overwrite=True, **SMALL)
    assert not (path / "best.keras").exists() and not list(path.glob(".partial-*"))


def test_a_lock_does_not_make_a_directory_ours(path, corpus_file):
    path.mkdir()
    (path / ".lock").touch()
    (path / "thesis.txt").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(InputError, match="files that are not a run's"):
            start_run(path, [str(corpus_file)], overwrite=overwrite, **SMALL)
    assert contents(path) == {".lock": b"", "thesis.txt": b"years of work"}


@pytest.mark.parametrize("what", ["a file", "below a file", "a link to nothing"])
def test_no_place_for_a_run(path, what, monkeypatch):
    """Said before the text is read."""
    monkeypatch.setattr("neo_keras.training.start.open_corpus", None)
    if what == "a link to nothing":
        path.symlink_to(path.parent / "nothing")
    else:
        path.write_text("a file")
        path = path / "run" if what == "below a file" else path
    with pytest.raises(InputError, match="cannot write the run directory .*Not a directory"):
        start_run(path, ["text.txt"], **SMALL)


def test_a_copied_run_goes_on(path, corpus_file, tmp_path):
    """Its lock file is a file like any other."""
    run = start_run(path, [str(corpus_file)], **SMALL)
    copy = shutil.copytree(path, tmp_path / "copy")
    assert resume_run(copy)[0].id == run[0].id
