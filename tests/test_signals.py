"""Signals end a training and lose nothing; a closed terminal is one of them."""

import io
import os
import pty
import signal
import sys

import keras
import pytest
import rich.console
from short_runs import different_arrays, read_checkpoint, train_here
from tiny_models import ROOT

from neo_keras.training.callbacks import StopOnSignal

SETTINGS = dict(
    steps=9, eval_every=4, steps_per_execution=1, mixed_precision="float32", num_layers=1,
    num_heads=1, hidden_dim=12, max_seq_len=7, max_ngram=1, num_speculative_tokens=0,
)  # fmt: skip


def send_at(step, *numbers):
    """A callback that sends this process signals amid a step."""

    def send(batch, logs):
        if callback.model.optimizer.iterations == step - 1:
            for number in numbers:
                signal.raise_signal(number)

    callback = keras.callbacks.LambdaCallback(on_train_batch_begin=send)
    return callback


def step_of(run):
    return int(read_checkpoint(run.last)["optimizer/vars/0"])


@pytest.fixture(scope="module")
def undisturbed(corpus_file, tmp_path_factory):
    return train_here(tmp_path_factory.mktemp("run") / "run", corpus_file, **SETTINGS)[0]


# A terminal that is closed sends SIGHUP twice: the shell does, and the kernel.
@pytest.mark.parametrize("numbers", [[signal.SIGHUP] * 2, [signal.SIGTERM], [signal.SIGINT]])
def test_saves_and_goes_on(corpus_file, tmp_path, undisturbed, numbers):
    handlers = [signal.getsignal(number) for number in numbers]
    path, stopped_by = tmp_path / "run", numbers[0]
    run, _ = train_here(
        path, corpus_file, [send_at(6, *numbers)], stopped_by=stopped_by, **SETTINGS
    )
    assert step_of(run) == 6
    assert [signal.getsignal(number) for number in numbers] == handlers
    run, _ = train_here(path, corpus_file, resume=True)
    assert different_arrays(run.last, undisturbed.last) == []


def test_a_signal_amid_a_write():
    """Python lets nothing write to a stream that is being written to: it is said later."""

    class Output(io.RawIOBase):
        written, callbacks = b"", []

        def writable(self):
            return True

        def write(self, data):
            if Output.callbacks:
                Output.callbacks.pop()()
            Output.written += data
            return len(data)

    stream = io.TextIOWrapper(io.BufferedWriter(Output()), write_through=True)
    stop = StopOnSignal(rich.console.Console(file=stream))
    stop.set_model(keras.Model())
    with stop.listening():
        Output.callbacks.append(lambda: signal.raise_signal(signal.SIGTERM))
        stream.write("a line\n")
        stream.flush()
        stop.on_train_batch_end(0)
    assert stop.signal == signal.SIGTERM and stop.model.stop_training
    # Twice rather than never.
    assert Output.written.decode().startswith("a line\nSIGTERM: saving after this step")


def test_what_is_ignored_stays_ignored(corpus_file, tmp_path, undisturbed):
    """As `nohup` starts a process, and a script one with `&`."""
    numbers = (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)
    earlier = [signal.signal(number, signal.SIG_IGN) for number in numbers]
    try:
        run, _ = train_here(tmp_path / "run", corpus_file, [send_at(6, *numbers)], **SETTINGS)
    finally:
        for number, handler in zip(numbers, earlier):
            signal.signal(number, handler)
    assert different_arrays(run.last, undisturbed.last) == []


TRAINING = (
    "--num-layers 1 --num-heads 1 --hidden-dim 12 --seq-len 7 --num-speculative-tokens 0 "
    "--compile off "
    "--batch-size 2 --steps 1000000 --eval-every 300 --sample-every 0 --device cpu"
).split()


@pytest.mark.parametrize("is_ignored", [False, pytest.param(True, marks=pytest.mark.exhaustive)])
def test_a_terminal_is_closed(corpus_file, tmp_path, is_ignored):
    """It saves, though what it writes can go nowhere; where it was told to, it trains on."""
    path = tmp_path / "run"
    steps = ["--steps", "2000"] if is_ignored else []
    command = [sys.executable, str(ROOT / "train.py"), "--run", str(path)]
    command += ["--data", str(corpus_file), *TRAINING, *steps]
    process_id, terminal = pty.fork()
    if not process_id:
        if is_ignored:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        os.execv(sys.executable, command)
    output = b""
    while b"validation " not in output:
        output += os.read(terminal, 4096)
    os.close(terminal)
    _, status = os.waitpid(process_id, 0)
    code = os.waitstatus_to_exitcode(status)
    step = int(read_checkpoint(path / "last.keras")["optimizer/vars/0"])
    if is_ignored:
        assert (code, step) == (0, 2000)
    else:
        assert code == 128 + signal.SIGHUP
        assert step > 300 and step % 300  # not the one of a validation
