"""How far training is, for whoever watches."""

import keras
import rich.progress

LINE_SECONDS = 30  # of steps, between two signs of life where there is no terminal


class ProgressBar(keras.callbacks.Callback):
    """A bar with tokens/s and the time left; where there is no terminal, a line now and then.

    Args:
        clock, recorder: called before this one.
        steps: of the whole run.
        tokens_per_step: how many tokens a step predicts.
        console: `rich.console.Console`.
    """

    def __init__(self, clock, recorder, steps, tokens_per_step, console):
        super().__init__()
        self.clock = clock
        self.recorder = recorder
        self.steps = steps
        self.tokens_per_step = tokens_per_step
        self.console = console
        self._shown_rows = len(recorder.history)
        self._compiling = True
        self._last_line = 0.0  # in seconds of this session
        self._progress = rich.progress.Progress(
            rich.progress.TextColumn("step {task.completed:,.0f} of {task.total:,.0f}"),
            rich.progress.BarColumn(),
            rich.progress.TextColumn("{task.fields[loss]}  {task.fields[speed]}"),
            rich.progress.TimeRemainingColumn(),
            rich.progress.TextColumn("left"),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self._task = self._progress.add_task(
            "", total=self.steps, completed=self.clock.first_step, loss="", speed="compiling"
        )

    def on_train_begin(self, logs=None):
        self._progress.start()

    def on_train_batch_end(self, batch, logs=None):
        if self._compiling and self.clock.compiled:
            self._compiling = False
            self._last_line = self.clock.session_seconds
            self.console.print(f"compiled in {self.clock.compile_seconds:.1f} s")
        self._progress.update(
            self._task,
            completed=self.clock.step,
            loss=f"loss {float(logs['loss']):.3f}",
            speed=f"{self.tokens_per_step / self.clock.seconds_per_step:,.0f} tokens/s",
        )
        self._show_new_rows()
        silent = self.clock.session_seconds - self._last_line
        if not (self._compiling or self.console.is_terminal) and silent >= LINE_SECONDS:
            self._show(self.clock.step, self.clock.train_seconds, float(logs["loss"]))

    def on_train_end(self, logs=None):
        self._show_new_rows()

    def close(self):
        """Gives the terminal back, however training ended."""
        self._progress.stop()

    def _show_new_rows(self):
        for row in self.recorder.history[self._shown_rows :]:
            validation = ""
            if row["val_loss"] is not None:
                bits = self.recorder.bits_per_char(row)
                validation = f"  validation {row['val_loss']:.4f} ({bits:.3f} bits/char)"
            self._show(row["step"], row["train_seconds"], row["train_loss"], validation)
        self._shown_rows = len(self.recorder.history)

    def _show(self, step, train_seconds, loss, validation=""):
        self._last_line = self.clock.session_seconds
        self.console.print(
            f"step {step:5,.0f}  {train_seconds:4.0f} s  "
            f"{self.tokens_per_step / self.clock.seconds_per_step:7,.0f} tokens/s  "
            f"loss {loss:.4f}{validation}",
            soft_wrap=True,
        )
