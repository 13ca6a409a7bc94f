"""Trains the model of a run directory with `fit`, from its start or from where it stopped."""

import contextlib
import functools

import rich
import tensorflow as tf

from neo_keras.errors import InputError
from neo_keras.run_directory.history import loss_of, plot_losses
from neo_keras.training.callbacks import EvaluateAndCheckpoint, StepTimer, out_of_patience
from neo_keras.training.compute import check_placement, share_cores, this_machine
from neo_keras.training.dataset import dataset_makers
from neo_keras.training.distribution import SyncStop, check_alike, distribute
from neo_keras.training.progress import ProgressBar, describe_start
from neo_keras.training.resolve import resolve
from neo_keras.training.signals import StopOnSignal
from neo_keras.training.train_step import make_train_step, set_dropout_step

MAX_VALIDATION_BATCH_SIZE = 64


def train(run, corpus, resume=False, callbacks=(), strategy=None):
    """Trains as `run.training_config` says, and keeps everything in the run directory.

    Args:
        run: `RunDirectory`, created or opened. What its configuration leaves open is filled in.
        corpus: `TokenizedCorpus`.
        resume: continue from `last.keras`, if there is one; the weights become those of a run
            that never stopped. Where no step is left, what comes after the last one is done, if
            that was not.
        callbacks: more Keras callbacks.
        strategy: of `make_strategy`, for several devices; every worker calls this function.

    Returns:
        (metrics, signal): what `metrics.json` holds, and the `signal.Signals` that ended training
        early, or None.

    Raises:
        InputError: a damaged checkpoint, or nothing left to train.
        FailedError: the training diverged; the checkpoints are those from before.
    """
    strategy = strategy or tf.distribute.get_strategy()  # that is one device
    machine = this_machine(strategy)
    config = resolve(run.model_config, run.training_config, corpus, machine)
    run.training_config = config
    share_cores(config.cpu_replicas)
    make_training, make_validation = dataset_makers(run.model_config, corpus)
    make_validation = functools.partial(
        make_validation, batch_size=_validation_batch_size(config, strategy)
    )
    validation, sliding = distribute(strategy, make_validation), None
    if config.sliding_window_eval:
        sliding = distribute(strategy, functools.partial(make_validation, sliding=True))
    with strategy.scope():
        train_step = make_train_step(run.model_config, config)
    check_placement(train_step)
    history, first_step = [], 0
    if resume and run.last.exists():
        run.load_weights(train_step, run.last)
        first_step = int(train_step.optimizer.iterations.numpy())
        history = [row for row in run.read_history() if row["step"] <= first_step]
    nothing_left = _why_nothing_is_left(run, first_step, history)
    if nothing_left and _is_complete(run, history):
        raise InputError(nothing_left)
    check_alike(strategy, first_step, run.model_config, config, run.data["sha256"])
    run.save_config()  # a resumed run may have new values; nothing is refused any more
    calls_per_step = config.gradient_accumulation_steps * config.cpu_replicas
    set_dropout_step(train_step, first_step * calls_per_step)

    console = rich.get_console()
    lines = describe_start(run.model_config, config, corpus, machine)
    if resume and not first_step:
        lines.append(f"{run.path} was stopped before its first checkpoint: it begins at step 0")
    elif resume and not run.best.exists():
        lines.append(f"{run.path} has no best.keras: the weights of step {first_step} are that now")
    console.print(*lines, sep="\n", soft_wrap=True)
    seconds = history[-1]["train_seconds"] if history else 0.0
    timer = StepTimer(first_step, seconds, config.max_seconds)
    stop = StopOnSignal(console)
    tokens_per_step = config.global_batch_size * corpus.tokens_per_row
    evaluator = EvaluateAndCheckpoint(
        run, timer, validation, sliding, corpus, stop, history, tokens_per_step
    )
    if nothing_left:
        evaluator.set_model(train_step)
        evaluator.restore()
        metrics = run.read_metrics()
        evaluator.metrics = metrics if metrics.get("step") == first_step else {}
        evaluator.finish()
    else:
        settings = config.global_batch_size, config.seed, config.steps, first_step
        dataset = distribute(strategy, functools.partial(make_training, *settings))
        bar = ProgressBar(timer, evaluator, config.steps, tokens_per_step, console)
        with stop.listening(), contextlib.closing(bar):
            all_callbacks = [timer, stop, SyncStop(strategy, stop), evaluator, bar, *callbacks]
            train_step.fit(dataset, shuffle=False, verbose=0, callbacks=all_callbacks)
    if run.keeps_files:
        plot_losses(run.path / "loss.png", evaluator.history)
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


def _is_complete(run, history):
    """Whether what comes after the last step was done, too."""
    best, metrics, config = run.read_best(), run.read_metrics(), run.training_config
    return (
        best is not None
        and not (history and loss_of(history[-1]) < loss_of(best))
        and metrics.get("step") == (history[-1]["step"] if history else metrics.get("step"))
        and ("val_loss_sliding" in metrics or not config.sliding_window_eval)
        and (best.get("drafter_trained", True) or not run.model_config.num_speculative_tokens)
    )


def _validation_batch_size(config, strategy):
    """Without gradients a window takes less memory than in training."""
    batch_size = min(MAX_VALIDATION_BATCH_SIZE, 2 * config.batch_size)
    return -(-batch_size // strategy.num_replicas_in_sync) * strategy.num_replicas_in_sync
