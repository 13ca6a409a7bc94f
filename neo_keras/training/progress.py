"""What training says to whoever watches: before the first step, on the way, and at the end."""

import operator

import keras
import rich.progress

from neo_keras.atomic_files import atomic_write
from neo_keras.commands import generate_command, quoted
from neo_keras.training.compute import describe_compute
from neo_keras.training.estimate import count_weights, describe_memory

LINE_SECONDS = 30  # of steps, between two signs of life where there is no terminal
MIN_MEASURED_STEPS = 10  # before the time that is left is said


def describe_start(model_config, config, corpus, machine, milliseconds):
    """Lines to say before the first step; config leaves nothing open.

    milliseconds: what `tune` measured, of a step.
    """
    epochs = config.steps * config.global_batch_size / corpus.num_training_rows
    table, share = model_config.ngram_rows * model_config.ngram_dim, corpus.validation.unknown_share
    ngrams = f" ({table:,} in the n-gram table)" if model_config.max_ngram > 1 else ""
    unknown = f"{share:.2%} of the tokens to validate on are unknown to the tokenizer"
    devices = f", on {machine.num_devices} devices" if (machine.num_devices or 1) > 1 else ""
    fastest_first = sorted(milliseconds.items(), key=operator.itemgetter(1))
    return [
        f"{count_weights(model_config).total:,} parameters{ngrams}; {model_config.vocab_size:,} "
        f"different tokens, {corpus.description}, {corpus.validation.tokens_per_char:.2f} tokens "
        "per character",
        *([unknown] if share else []),
        *(["attention stays within each example"] if config.document_mask else []),
        *([_describe_lora(model_config, config.lora)] if config.lora else []),
        f"{config.steps:,} steps, which are {epochs:.3g} passes over that; {config.optimizer}, "
        f"learning rate {config.learning_rate:g}, {config.schedule}",
        "; ".join(f"{name}: {ms:.3g} ms a step" for name, ms in fastest_first)
        or describe_compute(config) + devices,
        *describe_memory(model_config, config, machine.device != "CPU"),
    ]


def _describe_lora(model_config, lora):
    trained, total = lora.num_weights(model_config), count_weights(model_config).total
    return (
        f"LoRA of rank {lora.rank}, alpha {lora.alpha:g}, targets {lora.targets}: trains "
        f"{trained:,} parameters ({trained / total:.2%}), all others stay as they are"
    )


def describe_resume(run, first_step):
    """Lines to say, too, where a run is resumed."""
    if not first_step:
        return [f"{run.path} was stopped before its first checkpoint: it begins at step 0"]
    lines = [f"{run.path} goes on after step {first_step:,}"]
    if not run.best.exists():
        lines += [f"{run.path} has no best.keras: the weights of step {first_step} are that now"]
    return lines


def describe_end(run, metrics):
    """Lines to say when training ended by itself; metrics: as `train` returns them."""
    sliding = ""
    if "val_loss_sliding" in metrics:
        loss, bits = metrics["val_loss_sliding"], metrics["val_bits_per_char_sliding"]
        sliding = f"; with at least half a context {loss:.4f} nats, {bits:.3f} bits"
    generate = generate_command(run.path, run.load_validation_text(), run.load_tokenizer())
    return [
        *describe_stop(run, metrics),
        f"validation loss {metrics['val_loss']:.4f} nats per token "
        f"({metrics['val_bits_per_char']:.3f} bits per character{sliding}), "
        f"{_describe_speed(metrics)}",
        *_describe_best(metrics),
        f"next: {generate} or python export.py {quoted(run.path)}",
    ]


def _describe_best(metrics):
    if metrics["stopped_early"] or metrics["best_step"] in (None, metrics["step"]):
        return []
    loss, bits = metrics["best_val_loss"], metrics["best_val_bits_per_char"]
    step = f"step {metrics['best_step']:,}"
    return [f"best.keras is of {step}, validation loss {loss:.4f} ({bits:.3f} bits per character)"]


def _describe_speed(metrics):
    """A single call, which compiles, tells no speed."""
    compile_seconds = f"{metrics['compile_seconds']:.0f} s"
    if not metrics["train_seconds"]:
        return f"{compile_seconds} of compilation and training"
    return (
        f"{metrics['train_seconds']:.0f} s of training at {metrics['tokens_per_second']:,} "
        f"tokens/s, {compile_seconds} of compilation"
    )


def describe_stop(run, metrics):
    """Why training ended before its last step; no lines if it did not."""
    if metrics["stopped_early"]:
        best = f"{metrics['best_val_loss']:.4f}, the loss at step {metrics['best_step']}"
        patience = run.training_config.patience
        return [f"stopped early: nothing below {best}, in {patience} validations"]
    if metrics["step"] < run.training_config.steps:
        resume = f"python train.py --run {quoted(run.path)} --resume"
        return [f"saved step {metrics['step']}; go on: {resume}"]
    return []


class ProgressBar(keras.callbacks.Callback):
    """A bar with tokens/s and the time left; where there is no terminal, a line now and then.

    It is called after `timer`, within `progress`. `validation` is of the `TokenizedCorpus`.
    """

    def __init__(self, timer, validation, steps, console):
        super().__init__()
        self.timer = timer
        self.validation = validation
        self.steps = steps
        self.console = console
        self._compiling = True
        self._last_line = 0.0  # in seconds of this session
        self.progress = rich.progress.Progress(
            "step {task.completed:,.0f} of {task.total:,.0f}",
            rich.progress.BarColumn(),
            "{task.description}",
            rich.progress.TimeRemainingColumn(),
            "left",
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self.progress.add_task("compiling", total=steps, completed=timer.step)

    def on_train_batch_end(self, batch, logs=None):
        if self._compiling and self.timer.measured_steps >= MIN_MEASURED_STEPS:
            self._compiling = False
            self._last_line = self.timer.session_seconds
            step, left = duration(self.timer.seconds_per_step), duration(self._seconds_left())
            compiled = f"compiled in {self.timer.compile_seconds:.1f} s"
            self.console.print(f"{compiled}; {step} a step, about {left} left")
        loss = float(logs["loss"])
        description = f"loss {loss:.3f}  {self._speed().strip()}"
        self.progress.update(self._task, completed=self.timer.step, description=description)
        silent = self.timer.session_seconds - self._last_line
        if not (self._compiling or self.console.is_terminal) and silent >= LINE_SECONDS:
            self.show(loss)

    def _speed(self):
        if not self.timer.measured_steps:
            return "compiling"
        return f"{self.timer.tokens_per_second:7,.0f} tokens/s"

    def _seconds_left(self):
        left = (self.steps - self.timer.step) * self.timer.seconds_per_step
        limit = self.timer.max_seconds
        return left if limit is None else min(left, limit - self.timer.train_seconds)

    def show(self, loss, val_loss=None):
        """Prints a line of the last step."""
        self._last_line = self.timer.session_seconds
        step, seconds = self.timer.step, self.timer.train_seconds
        line = f"step {step:5,.0f}  {seconds:4.0f} s  {self._speed()}  loss {loss:.4f}"
        if val_loss is not None:
            bits = self.validation.bits_per_char(val_loss)
            line += f"  validation {val_loss:.4f} ({bits:.3f} bits/char)"
        self.console.print(line, soft_wrap=True)


def plot_losses(path, rows):
    """Writes a PNG of the training and the validation loss against steps."""
    from matplotlib.figure import Figure  # without pyplot: no window system, no global state

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for column, label in (("train_loss", "training"), ("val_loss", "validation")):
        there = [row for row in rows if row[column] is not None]
        axes.plot([row["step"] for row in there], [row[column] for row in there], "o-", label=label)
    axes.set(xlabel="step", ylabel="loss (nats per token)")
    axes.grid(alpha=0.3)
    axes.legend()
    with atomic_write(path) as partial:
        figure.savefig(partial, dpi=150)


def duration(seconds):
    """Of at least a millisecond, in words."""
    if seconds < 0.9995:
        return f"{max(seconds * 1000, 1):.0f} ms"
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes"), (1, "s")):
        if seconds >= 2 * size or size == 1:
            amount = seconds / size
            return f"{amount:.{0 if amount >= 10 else 1}f} {unit}"
