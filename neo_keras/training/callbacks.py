"""What happens beside the training steps: measuring, saving, stopping."""

import contextlib
import dataclasses
import math
import signal
import time
import warnings
from collections.abc import Callable

import keras
import tensorflow as tf

from neo_keras.errors import FailedError
from neo_keras.model.weights import averaged_weights
from neo_keras.run_directory.directory import RunDirectory
from neo_keras.text.corpus import TokenizedCorpus
from neo_keras.training.compute import gather, has_other_workers
from neo_keras.training.estimate import count_weights

# Windows knows no SIGHUP.
SIGNALS = [s for s in signal.Signals if s.name in ("SIGINT", "SIGTERM", "SIGHUP")]


@dataclasses.dataclass(eq=False)
class StepTimer(keras.callbacks.Callback):
    """Counts steps and the seconds spent in them, compilation apart."""

    tokens_per_step: int  # that are predicted
    first_step: int = 0  # of this session
    earlier_seconds: float = 0.0  # of the sessions before
    max_seconds: float | None = None  # of the whole run, after which it stops

    session_seconds = 0.0
    compile_seconds = 0.0  # what the first call, which compiles, took longer than later
    measured_steps = 0  # of this session, without that call

    def __post_init__(self):
        super().__init__()
        self.step = self.first_step
        self.train_seconds = self.earlier_seconds  # of the whole run, without compilation
        self.seconds_per_step = max(self.earlier_seconds, 0.001) / max(self.first_step, 1)

    @property
    def tokens_per_second(self):
        return self.tokens_per_step / self.seconds_per_step

    def on_train_batch_begin(self, batch, logs=None):
        self._begin = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        elapsed = time.perf_counter() - self._begin
        # Not from `batch`, which runs past the end where steps_per_execution does not divide it.
        self.step = int(self.model.optimizer.iterations.numpy())
        if not self.session_seconds:
            self._compiled_step, self._first_seconds = self.step, elapsed
        self.session_seconds += elapsed
        self.measured_steps = self.step - self._compiled_step
        if self.measured_steps:
            seconds = self.session_seconds - self._first_seconds
            self.seconds_per_step = seconds / self.measured_steps
            without = (self._compiled_step - self.first_step) * self.seconds_per_step
            self.compile_seconds = max(self._first_seconds - without, 0.0)
        else:  # only a second call tells how long the first one would have taken without
            self.seconds_per_step = (self.earlier_seconds + elapsed) / self.step
            self.compile_seconds = elapsed
        self.train_seconds = self.earlier_seconds + self.session_seconds - self.compile_seconds
        if self.max_seconds is not None and self.train_seconds >= self.max_seconds:
            self.model.stop_training = True


def out_of_patience(history, patience):
    """Whether the last `patience` validations, if that is not 0, were none of them the best."""
    losses = [row["val_loss"] for row in history if row["val_loss"] is not None]
    return 0 < patience < len(losses) and min(losses) in losses[:-patience]


class StopOnSignal(keras.callbacks.Callback):
    """Ends training after the running step on Ctrl-C, SIGTERM or SIGHUP; a second one acts at once.

    What this process was started to ignore, as `nohup` and `&` in a script make it, stays ignored.
    The workers of a strategy stop after the same step, whichever of them was told to. It is called
    after what else stops training.
    """

    def __init__(self, console, strategy=None):
        super().__init__()
        self.console = console
        self.strategy = strategy
        self.signal = None  # the `signal.Signals` that came
        self._unsaid = None

    @contextlib.contextmanager
    def listening(self):
        earlier = {number: signal.getsignal(number) for number in SIGNALS}
        self._numbers = [n for n, handler in earlier.items() if handler is not signal.SIG_IGN]
        for number in self._numbers:
            signal.signal(number, self._receive)
        try:
            yield
        finally:
            for number in self._numbers:
                signal.signal(number, earlier[number] or signal.SIG_DFL)

    def _receive(self, number, frame):
        self.signal = signal.Signals(number)
        at_once = {signal.SIGINT: signal.default_int_handler}
        if self.signal.name == "SIGHUP":  # the shell and the kernel both tell of a closed terminal
            at_once[number] = signal.SIG_IGN
        for other in self._numbers:
            signal.signal(other, at_once.get(other, signal.SIG_DFL))
        self._unsaid = f"{self.signal.name}: saving after this step (again: quit at once)"
        with contextlib.suppress(RuntimeError):  # it came amid a write, which no other may enter
            self._say()

    def _say(self):
        if self._unsaid:
            self.console.print(self._unsaid)
            self._unsaid = None

    def on_train_batch_end(self, batch, logs=None):
        self._say()
        if self.signal:
            self.model.stop_training = True
        if has_other_workers(self.strategy):
            signals = gather(self.strategy, self.signal or -int(self.model.stop_training))
            self.model.stop_training = any(signals)
            if max(signals) > 0:
                self.signal = signal.Signals(max(signals))


@dataclasses.dataclass(eq=False)
class EvaluateAndCheckpoint(keras.callbacks.Callback):
    """Evaluates, records and saves every `eval_every` steps and at the end; stops early.

    What is evaluated, and is the best, has the average of the weights, if there is one.
    """

    run: RunDirectory
    corpus: TokenizedCorpus
    timer: StepTimer  # called before
    stop: StopOnSignal  # when it stopped training, the end is saved but not evaluated
    history: list  # of `RunDirectory.read_history`, to which it adds rows
    make_validation: Callable  # gives the dataset; with `sliding`, that of overlapping windows
    show: Callable  # is called with the training and the validation loss

    def __post_init__(self):
        super().__init__()
        self.best = self.run.read_best() if self.run.keeps_files else None
        self.metrics = {}
        self._validation = self.make_validation()
        self._recorded_step = self.timer.first_step

    def on_train_begin(self, logs=None):
        make, logs = tf.summary.create_file_writer, str(self.run.logs)
        self._writer = make(logs) if self.run.keeps_files else tf.summary.create_noop_writer()
        self._restore()

    def keep_untrained(self, model):
        """Evaluates and saves a model that others trained, before its first step; returns the loss.

        It is the best so far, and the first row of the history.
        """
        self.set_model(model)
        rate, loss = float(model.optimizer.learning_rate), self._evaluate(self._validation)
        begin = {"train_seconds": 0.0, "learning_rate": rate, "train_loss": None}
        self.history.append({"step": 0, **begin, "val_loss": loss})
        self._keep_best()
        return loss

    def on_train_batch_end(self, batch, logs=None):
        self._logs = logs
        every = self.run.training_config.eval_every
        if self.timer.step // every > self._recorded_step // every:
            self._record()

    # `fit` makes a single Keras epoch of the run. At the end of training it would be too late: by
    # then Keras has replaced the weights by their average.
    def on_epoch_end(self, epoch, logs=None):
        finished = self.timer.step >= self.run.training_config.steps
        if self.timer.step > self._recorded_step:
            self._record(evaluate=finished or not self.stop.signal)
        if finished or self.metrics["stopped_early"]:
            self._finish()

    def on_train_end(self, logs=None):
        with logs_may_fail():
            self._writer.close()

    def _restore(self):
        """Writes what the last checkpoint knows, and a process that was killed did not write."""
        if self.history and self.history[-1]["step"]:  # without a step there is no checkpoint
            self._keep_best()
            self.run.write_history(self.history)

    def finish_earlier(self, model):
        """Does what an earlier session did not come to after the last step."""
        self.set_model(model)
        self._restore()
        metrics = self.run.read_metrics()
        if metrics.get("step") == self.timer.step:
            self.metrics = metrics
        self._finish()

    def _finish(self):
        """Does what comes after the last step: the loss with a sliding window, if it was asked."""
        wanted = self.run.training_config.sliding_window_eval
        if wanted and "val_loss_sliding" not in self.metrics:
            loss = self._evaluate(self.make_validation(sliding=True))
            self.metrics["val_loss_sliding"] = loss
            self.metrics["val_bits_per_char_sliding"] = self._bits_per_char(loss)
        self._write_metrics()

    def _evaluate(self, dataset):
        with averaged_weights(self.model):
            return self.model.evaluate(dataset, verbose=0)

    def _record(self, evaluate=True):
        row = {
            "step": self.timer.step,
            "train_seconds": round(self.timer.train_seconds, 3),
            "learning_rate": float(self.model.optimizer.learning_rate),
            "train_loss": float(self._logs["loss"]),
            "val_loss": self._evaluate(self._validation) if evaluate else None,
        }
        self._check_finite(row)
        self.model.reset_metrics()  # so that the next training loss is of the next steps only
        self._recorded_step = self.timer.step
        self.history.append(row)
        # First, for it has all that the others are made of: see `_restore`.
        self.run.save_last(self.model, self.history)
        self._keep_best()
        self.run.write_history(self.history)
        self._write_metrics()
        with logs_may_fail(), self._writer.as_default(step=row["step"]):
            for name, value in row.items():
                if value is not None:
                    tf.summary.scalar(name, value)
        self.show(row["train_loss"], row["val_loss"])
        if self.metrics["stopped_early"]:
            self.model.stop_training = True

    def _keep_best(self):
        """Saves the model as the best one, if its last validation says so or there is none."""
        row = self.history[-1]
        if self.best is None or _loss_of(row) < _loss_of(self.best):
            with averaged_weights(self.model):
                self.run.save_best(self.model.model, row["step"], row["val_loss"])
            self.best = row

    def _check_finite(self, row):
        """Ends a training that cannot recover, before it replaces a checkpoint."""
        if not (math.isfinite(row["train_loss"]) and math.isfinite(row["val_loss"] or 0)):
            peak = self.run.training_config.learning_rate
            raise FailedError(
                f"the loss is no finite number any more at step {row['step']}: train anew with a "
                f"--learning-rate below {peak:g}"
            )

    def _write_metrics(self):
        config, timer, row = self.run.training_config, self.timer, self.history[-1]
        losses = [row["val_loss"] for row in self.history if row["val_loss"] is not None]
        last, best = losses[-1] if losses else None, self.best["val_loss"]
        out = out_of_patience(self.history, config.patience)
        self.metrics |= {
            "step": timer.step,
            "val_loss": last,  # nats per token
            "val_bits_per_char": self._bits_per_char(last),
            "val_unknown_share": self.corpus.validation.unknown_share,
            "best_val_loss": best,
            "best_val_bits_per_char": self._bits_per_char(best),
            "best_step": None if best is None else self.best["step"],
            "stopped_early": out and timer.step < config.steps,
            "train_loss": row["train_loss"],
            "train_bits_per_char": self.corpus.training.bits_per_char(row["train_loss"]),
            "tokens_per_second": round(timer.tokens_per_second),
            "train_seconds": row["train_seconds"],
            "compile_seconds": round(timer.compile_seconds, 3),
            "num_params": count_weights(self.run.model_config).total,
        }
        self.run.write_metrics(self.metrics)

    def _bits_per_char(self, loss):
        """Of the validation text, whose loss this is; None where there is none."""
        return None if loss is None else self.corpus.validation.bits_per_char(loss)


def _loss_of(row):
    """Infinite where it was not measured."""
    return math.inf if row["val_loss"] is None else row["val_loss"]


@contextlib.contextmanager
def logs_may_fail():
    """Turns a failure to write for TensorBoard, such as a full disk, into a warning."""
    try:
        yield
    except tf.errors.OpError as error:
        reason = str(error.message).split("\n")[0]
        warnings.warn(f"cannot write for TensorBoard ({reason})", stacklevel=2)
