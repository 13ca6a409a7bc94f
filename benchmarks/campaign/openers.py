"""What opens damaged files: the scripts, in a process that goes on with the next file."""

import functools
import json
import os
import pathlib
import random
import shutil
import sys

import damage
from processes import exit_code_of, run_script


def open_all(base, path, target, begin, end):
    """Damages and opens copies of a file, for each seed; writes a line each to `path`/results.

    Args:
        base: where `made` makes things.
        path: directory of the trial.
        target: `mutations.Target`.
        begin, end: of the seeds.

    Returns:
        0, the exit code.
    """
    import keras
    import tensorflow as tf

    tf.get_logger().setLevel("ERROR")  # it warns of many models in one process
    keras.Model.fit = lambda *args, **kwargs: sys.exit(0)  # what it loads is loaded by then
    source = base / target.source
    copy = path / f"copy{source.suffix}"
    right = [_open(command, _copy(source, copy)) for command in target.commands]
    for seed in range(begin, end):
        rng = random.Random(f"{target.kind} {seed}")
        _copy(source, copy)
        files = [copy]
        if copy.is_dir():
            files = sorted(p for p in copy.glob(target.files) if p.is_file())
        is_json = _damage(rng.choice(files), target, rng)
        which = seed % len(target.commands)
        result = _open(target.commands[which], copy)
        result |= {"seed": seed, "is_json": is_json, "is_right": result == right[which]}
        with (path / "results").open("a") as file:
            file.write(json.dumps(result) + "\n")
    return 0


def _copy(source, copy):
    if copy.is_dir():
        shutil.rmtree(copy)
    copy_all = shutil.copytree if source.is_dir() else shutil.copy
    return copy_all(source, copy)


def _damage(path, target, rng):
    """Whether what was changed is a value in a JSON text."""
    change, content = target.change, path.read_bytes()
    if change is None and path.suffix == ".json":
        change = damage.damage_json
    if change and rng.random() < 0.5:
        path.write_bytes(change(content, rng))
        return True
    path.write_bytes(damage.damage_bytes(content, rng))
    return False


def _open(command, copy):
    """{"code", "out", "err"} of what opens a file, in this process."""
    name, *arguments = (part.format(copy) for part in command)
    for number in (1, 2):
        os.ftruncate(number, 0)
    if name.endswith(".py"):
        code = run_script(name, *arguments)
    else:
        code = exit_code_of(functools.partial(OPENERS[name], *arguments))
    sys.stdout.flush()
    out, err = (pathlib.Path(f"/proc/self/fd/{n}").read_text(errors="replace") for n in (1, 2))
    return {"code": code, "out": out[-500:], "err": err[-2000:]}


def open_tokenizer(path):
    """What `train.py --tokenizer PATH` does with it."""
    from neo_keras.errors import one_line_errors
    from neo_keras.text.tokenizer import Tokenizer

    with one_line_errors():
        tokenizer = Tokenizer.load(path)
        token_ids = tokenizer.encode("the quick brown fox\n")
        print(repr(tokenizer.decode(token_ids)), tokenizer.start_token_id, tokenizer.vocab_size)
        print(len("".join(tokenizer.stream(token_ids))), len(tokenizer.to_json()))


def open_pairs(path):
    """What `train.py --data PATH` does with it."""
    from neo_keras.errors import one_line_errors
    from neo_keras.text.pairs import PairCorpus, load_pairs, to_json_lines

    with one_line_errors():
        pairs = load_pairs([path])
        print(len(PairCorpus(pairs).training), len(to_json_lines(pairs).encode()))


OPENERS = {"tokenizer": open_tokenizer, "pairs": open_pairs}
