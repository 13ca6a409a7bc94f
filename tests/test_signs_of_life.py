"""What a training says where stdout is no terminal, and on a full disk."""

import contextlib
import io
import resource
import types

import pytest
import rich.console
from tiny_models import make_run

from neo_keras.training import callbacks
from neo_keras.training.launch import _show_sample
from neo_keras.training.progress import LINE_SECONDS, ProgressBar, duration


class StepTimer:
    """Of a training whose steps take as many seconds as they are told to."""

    first_step = step = 0
    session_seconds = 0.0
    measured_steps, max_seconds = 0, None
    compile_seconds, seconds_per_step, tokens_per_second = 5.0, 2.0, 32.0

    @property
    def train_seconds(self):
        return self.session_seconds - self.compile_seconds

    def take(self, seconds):
        self.step += 10
        self.session_seconds += seconds
        self.measured_steps = self.step - 10


@pytest.mark.parametrize("is_terminal", [False, True])
def test_a_line_every_half_minute(is_terminal):
    output, timer = io.StringIO(), StepTimer()
    console = rich.console.Console(file=output, force_terminal=is_terminal, width=80)
    validation = types.SimpleNamespace(bits_per_char=lambda loss: 1.5)
    bar = ProgressBar(timer, validation, 1000, console)

    def take(seconds, loss=2.5, row=None):
        timer.take(seconds)
        if row:
            bar.show(*row)
        bar.on_train_batch_end(0, {"loss": loss})

    take(100, row=(3.0,))  # compiles
    take(20)
    take(LINE_SECONDS - 1)
    take(1, loss=2.25)  # step 40
    take(LINE_SECONDS - 1)
    take(1, row=(2.125, 2.0))  # says so itself
    take(LINE_SECONDS - 1)
    take(1, loss=1.75)  # step 80
    lines = output.getvalue().splitlines()
    if is_terminal:
        assert len(lines) == 3  # the bar shows the rest
    else:
        assert [" ".join(line.split()) for line in lines] == [
            "step 10 95 s compiling loss 3.0000",
            "compiled in 5.0 s; 2.0 s a step, about 33 minutes left",
            "step 40 145 s 32 tokens/s loss 2.2500",
            "step 60 175 s 32 tokens/s loss 2.1250 validation 2.0000 (1.500 bits/char)",
            "step 80 205 s 32 tokens/s loss 1.7500",
        ]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.00001, "1 ms"), (0.9996, "1.0 s"), (119, "119 s"), (120, "2.0 minutes"),
        (7199, "120 minutes"), (7200, "2.0 hours"), (345_600, "4.0 days"),
    ],
)  # fmt: skip
def test_durations(seconds, words):
    assert duration(seconds) == words


@contextlib.contextmanager
def full_disk(num_bytes):
    """Within the block no file grows beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk(tmp_path):
    """What is there stays; a failure is one line."""
    import tensorflow as tf

    run = make_run(tmp_path / "run", steps=1)
    model = run.load_model()
    run.save_last(model)
    before = {path: path.read_bytes() for path in run.path.iterdir() if path.is_file()}
    writer = tf.summary.create_file_writer(str(run.logs))
    with full_disk(5000):
        for save in (run.save_best, run.save_last):
            with pytest.raises(OSError, match="cannot write .*keras .* as it was; it takes 0.1 MB"):
                save(model)
        with pytest.warns(UserWarning, match="cannot write for TensorBoard"):
            with callbacks.logs_may_fail(), writer.as_default(step=1):
                for i in range(200):
                    tf.summary.scalar(f"{i}{'x' * 99}", 1.0)
                writer.flush()
    with contextlib.suppress(tf.errors.OpError):
        writer.close()
    assert {path: path.read_bytes() for path in run.path.iterdir() if path.is_file()} == before


def test_samples_on_a_full_disk(tmp_path):
    with full_disk(100), pytest.warns(UserWarning, match="cannot write .*samples.txt .*File too"):
        _show_sample(tmp_path / "samples.txt", "", 3, "x" * 1000)
