"""Trains the model of a run directory with `model.fit`, from its start or from where it stopped."""

import contextlib

import keras
import rich
import tensorflow as tf

from neo_keras.errors import InputError
from neo_keras.model.encoder_decoder import model_class
from neo_keras.run_directory.history import loss_of
from neo_keras.training.callbacks import EvaluateAndCheckpoint, StepTimer, out_of_patience
from neo_keras.training.compute import choose_compute
from neo_keras.training.devices import check_placement
from neo_keras.training.distribution import (
    SyncStop,
    check_alike,
    replicated_model,
    replicated_optimizer,
    suit_strategy,
)
from neo_keras.training.estimate import estimate_training
from neo_keras.training.inputs import training_input, validation_inputs
from neo_keras.training.objective import training_model
from neo_keras.training.optimizer import make_optimizer
from neo_keras.training.plot import plot_history
from neo_keras.training.progress_bar import ProgressBar
from neo_keras.training.signals import StopOnSignal
from neo_keras.training.slices import dropout_states, sliced_model
from neo_keras.training.summary import describe_start


def train(run, corpus, resume=False, callbacks=(), strategy=None):
    """Trains as `run.training_config` says, and keeps everything in the run directory.

    Args:
        run: `RunDirectory`, created or opened.
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
    config = choose_compute(run.model_config, suit_strategy(run.training_config, strategy))
    run.training_config = config
    validation, sliding = validation_inputs(run.model_config, config, corpus, strategy)
    with strategy.scope():
        model = make_compiled_model(run.model_config, config)
    check_placement(model)
    history, first_step = [], 0
    if resume and run.last.exists():
        run.load_weights(model, run.last)
        first_step = int(model.optimizer.iterations.numpy())
        history = [row for row in run.read_history() if row["step"] <= first_step]
    nothing_left = _why_nothing_is_left(run, first_step, history)
    if nothing_left and _is_complete(run, history):
        raise InputError(nothing_left)
    check_alike(strategy, first_step, run.model_config, config, run.data["sha256"])
    run.save_config()  # a resumed run may have new values; nothing is refused any more
    set_dropout_step(model, first_step * config.gradient_accumulation_steps * config.cpu_replicas)
    dataset = training_input(run.model_config, config, corpus, strategy, first_step)

    console = rich.get_console()
    lines = describe_start(model, corpus, config, strategy)
    if resume and not first_step:
        lines.append(f"{run.path} was stopped before its first checkpoint: it begins at step 0")
    elif resume and not run.best.exists():
        lines.append(f"{run.path} has no best.keras: the weights of step {first_step} are that now")
    if strategy.num_replicas_in_sync == 1:  # the cost of summing gradients was never measured
        lines.append(str(estimate_training(run.model_config, config, config.steps - first_step)))
    console.print(*lines, sep="\n", soft_wrap=True)
    seconds = history[-1]["train_seconds"] if history else 0.0
    clock = StepTimer(first_step, seconds, config.max_seconds)
    stop = StopOnSignal(console)
    tokens_per_step = config.global_batch_size * corpus.tokens_per_row
    recorder = EvaluateAndCheckpoint(
        run, clock, validation, sliding, corpus, stop, history, tokens_per_step
    )
    if nothing_left:
        recorder.set_model(model)
        recorder.restore()
        metrics = run.read_metrics()
        recorder.metrics = metrics if metrics.get("step") == first_step else {}
        recorder.finish()
        return _end(run, recorder, None)
    bar = ProgressBar(clock, recorder, config.steps, tokens_per_step, console)
    with stop.listening(), contextlib.closing(bar):
        all_callbacks = [clock, stop, SyncStop(strategy, stop), recorder, bar, *callbacks]
        model.fit(dataset, shuffle=False, verbose=0, callbacks=all_callbacks)
    return _end(run, recorder, stop.signal if clock.step < config.steps else None)


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


def _end(run, recorder, signal):
    if run.keeps_files:
        plot_history(recorder.history, run.path / "loss.png")
    return recorder.metrics, signal


def make_compiled_model(model_config, training_config):
    """A new model of a seed, compiled for `fit`, with an optimizer that is ready to be loaded."""
    keras.utils.set_random_seed(training_config.seed)
    precision = training_config.mixed_precision or "float32"
    dtype = "float32" if precision == "float32" else f"mixed_{precision}"
    step_class = training_model(model_class(model_config), training_config)
    step_class = sliced_model(step_class, training_config)
    model = replicated_model(step_class)(model_config, dtype=dtype)
    model.remat = training_config.remat
    optimizer = replicated_optimizer(make_optimizer(training_config, model))
    optimizer.build(model.trainable_variables)
    model.compile(
        optimizer,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        # XLA runs what it compiles together one by one: parts are compiled apart (`sliced_model`).
        jit_compile=training_config.jit_compile and (training_config.cpu_replicas or 1) == 1,
        steps_per_execution=training_config.steps_per_execution,
    )
    return model


def set_dropout_step(model, step):
    """Makes every dropout layer draw what it would draw after `step` batches of training.

    Keras does not save what a layer has drawn.
    """
    for variable in dropout_states(model):
        seed, _ = keras.ops.convert_to_numpy(variable)
        variable.assign([seed, step])
