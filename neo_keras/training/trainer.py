"""Trains the model of a run directory with `fit`, from its start or from where it stopped."""

import rich
import tensorflow as tf

from neo_keras.errors import InputError
from neo_keras.training.callbacks import (
    EvaluateAndCheckpoint,
    StepTimer,
    StopOnSignal,
    out_of_patience,
)
from neo_keras.training.compute import (
    check_alike,
    check_placement,
    distribute,
    prepare_cpu,
    this_machine,
)
from neo_keras.training.dataset import dataset_makers
from neo_keras.training.progress import ProgressBar, describe_resume, describe_start, plot_losses
from neo_keras.training.resolve import resolve
from neo_keras.training.train_step import set_dropout_step
from neo_keras.training.tune import tune

MAX_VALIDATION_BATCH_SIZE = 64  # twice that of training below: without gradients there is memory


def train(run, corpus, resume=False, callbacks=(), strategy=None, pretrained=None):
    """Trains as `run.training_config` says, and keeps everything in the run directory.

    Args:
        run: `RunDirectory`, created or opened. What its configuration leaves open is filled in.
        corpus: `TokenizedCorpus`.
        resume: continue from `last.keras`, if there is one, as if the run had never stopped.
        callbacks: more Keras callbacks.
        strategy: of `make_strategy`, for several devices; every worker calls this function.
        pretrained: `weights.open.Pretrained` to begin from or, with adapters, to add to, also where
            the run is resumed; None: random weights.

    Returns:
        (metrics, signal): what `metrics.json` holds; the `signal.Signals` that ended it, or None.

    Raises:
        InputError: a damaged checkpoint, or nothing left to train.
        FailedError: the training diverged; the checkpoints are those from before.
    """
    strategy = strategy or tf.distribute.get_strategy()  # that is one device
    machine, console = this_machine(strategy), rich.get_console()
    asked = run.training_config
    config = resolve(run.model_config, asked, corpus, machine)
    prepare_cpu(config.cpu_replicas)
    make_training, make_validation = dataset_makers(run.model_config, corpus, config)
    with strategy.scope():
        config, train_step, milliseconds = tune(
            run.model_config, asked, config, machine, make_training, console.print
        )
    run.training_config = config
    check_placement(train_step)
    history, begins = [], not (resume and run.last.exists())
    if pretrained:
        pretrained.fill(train_step.model)
    if not begins:
        run.load_weights(train_step, run.last)
        set_dropout_step(train_step)
        history = run.read_history()
    first_step = int(train_step.optimizer.iterations.numpy())
    nothing_left = _why_nothing_is_left(run, first_step, history)
    if nothing_left and _is_complete(run, first_step):
        raise InputError(nothing_left)
    check_alike(strategy, first_step, run.model_config, config, run.data["sha256"])
    run.save_config()  # a resumed run may have new values; nothing is refused any more

    lines = describe_start(run.model_config, config, corpus, machine, milliseconds)
    lines += describe_resume(run, first_step) if resume else []
    console.print(*lines, sep="\n", soft_wrap=True)
    tokens_per_step = config.global_batch_size * corpus.tokens_per_row
    seconds = history[-1]["train_seconds"] if history else 0.0
    timer = StepTimer(tokens_per_step, first_step, seconds, config.max_seconds)
    stop = StopOnSignal(console, strategy)
    bar = ProgressBar(timer, corpus.validation, config.steps, console)
    devices = strategy.num_replicas_in_sync
    batch_size = -(-min(MAX_VALIDATION_BATCH_SIZE, 2 * config.batch_size) // devices) * devices

    def validation(**sliding):
        return distribute(strategy, make_validation(batch_size=batch_size, **sliding))

    evaluator = EvaluateAndCheckpoint(run, corpus, timer, stop, history, validation, bar.show)
    if nothing_left:
        evaluator.finish_earlier(train_step)
    else:
        if pretrained and begins:
            loss = evaluator.keep_untrained(train_step)
            bits = corpus.validation.bits_per_char(loss)
            console.print(f"before training: validation {loss:.4f} ({bits:.3f} bits/char)")
        settings = config.global_batch_size, config.seed, config.steps, first_step
        dataset = distribute(strategy, make_training(*settings))
        with stop.listening(), bar.progress:  # gives the terminal back, too
            all_callbacks = [timer, stop, evaluator, bar, *callbacks]
            train_step.fit(dataset, shuffle=False, verbose=0, callbacks=all_callbacks)
    if run.keeps_files:
        plot_losses(run.path / "loss.png", history)
    return evaluator.metrics, stop.signal if timer.step < config.steps else None


def _why_nothing_is_left(run, step, history):
    """None if there are steps to take."""
    config = run.training_config
    if step >= config.steps:
        return f"{run.path} is at step {step} already: train on with a larger --steps"
    if out_of_patience(history, config.patience):
        return (
            f"{run.path} stopped early at step {step}, as {config.patience} validations brought no "
            "lower loss: train on with a larger --patience, or with --patience 0"
        )
    return None


def _is_complete(run, step):
    """Whether what comes after the last step was done, too."""
    best, metrics, config = run.read_best(), run.read_metrics(), run.training_config
    return (
        best is not None
        and metrics.get("step") == step
        and ("val_loss_sliding" in metrics or not config.sliding_window_eval)
        and (best.get("drafter_trained", True) or not run.model_config.num_speculative_tokens)
    )
