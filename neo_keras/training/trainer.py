"""Trains the model of a run directory with `model.fit`, from its start or from where it stopped."""

import contextlib

import keras
import rich

from neo_keras.errors import InputError
from neo_keras.model.gpt import GPT
from neo_keras.training.callbacks import (
    Clock,
    ProgressBar,
    Recorder,
    StopOnSignal,
    out_of_patience,
)
from neo_keras.training.compute import choose_compute, describe_compute
from neo_keras.training.dataset import training_dataset, validation_dataset
from neo_keras.training.devices import check_placement
from neo_keras.training.optimizer import make_optimizer
from neo_keras.training.plot import plot_history
from neo_keras.training.windows import count_training_windows


def train(run, corpus, resume=False, callbacks=()):
    """Trains as `run.training_config` says, and keeps everything in the run directory.

    Args:
        run: `RunDirectory`, created or opened.
        corpus: `TokenizedCorpus`.
        resume: continue from `last.keras`, if there is one; the weights become those of a run
            that never stopped.
        callbacks: more Keras callbacks.

    Returns:
        (metrics, signal): what `metrics.json` holds, and the `signal.Signals` that ended training
        early, or None.

    Raises:
        InputError: a damaged checkpoint, or nothing left to train.
        FailedError: the training diverged; the checkpoints are those from before.
    """
    config = choose_compute(run.model_config, run.training_config)
    run.training_config, seq_len = config, run.model_config.max_seq_len
    validation = validation_dataset(corpus.validation.token_ids, seq_len)
    sliding = (
        validation_dataset(corpus.validation.token_ids, seq_len, sliding=True)
        if config.sliding_loss
        else None
    )
    model = make_compiled_model(run.model_config, config)
    check_placement(model)
    history, first_step = [], 0
    if resume and run.last.exists():
        run.load_weights(model, run.last)
        first_step = int(model.optimizer.iterations)
        history = [row for row in run.read_history() if row["step"] <= first_step]
    if first_step >= config.steps:
        raise InputError(
            f"{run.path} is at step {first_step} already: train on with a larger --steps"
        )
    if out_of_patience(history, config.patience):
        raise InputError(
            f"{run.path} stopped early at step {first_step}, as {config.patience} validations "
            "brought no lower loss: train on with a larger --patience, or with --patience 0"
        )
    run.save_config()  # a resumed run may have new values; nothing is refused any more
    set_dropout_step(model, first_step)
    dataset = training_dataset(
        corpus.training.token_ids, seq_len, config.batch_size, config.seed, config.steps, first_step
    )

    console = rich.get_console()
    _announce(console, model, corpus, config)
    seconds = history[-1]["train_seconds"] if history else 0.0
    clock = Clock(first_step, seconds, config.max_seconds)
    stop = StopOnSignal(console)
    recorder = Recorder(run, clock, validation, sliding, corpus, stop, history)
    bar = ProgressBar(clock, recorder, config.steps, config.batch_size * seq_len, console)
    with stop.listening(), contextlib.closing(bar):
        all_callbacks = [clock, stop, recorder, bar, *callbacks]
        model.fit(dataset, shuffle=False, verbose=0, callbacks=all_callbacks)
    plot_history(recorder.history, run.path / "loss.png")
    return recorder.metrics, stop.signal if clock.step < config.steps else None


def _announce(console, model, corpus, config):
    num_tokens = len(corpus.training.token_ids)
    num_windows = count_training_windows(num_tokens, model.config.max_seq_len)
    epochs = config.steps * config.batch_size / num_windows
    console.print(
        f"{model.count_params():,} parameters; {model.config.vocab_size:,} different tokens, "
        f"{num_tokens:,} to train on, {len(corpus.validation.token_ids):,} to validate on, "
        f"{corpus.validation.tokens_per_char:.2f} per character"
    )
    if share := corpus.validation.unknown_share:
        console.print(f"{share:.2%} of the tokens to validate on are unknown to the tokenizer")
    console.print(
        f"{config.steps:,} steps, {epochs:.3g} times over the text; {config.optimizer}, learning "
        f"rate {config.learning_rate:g}, {config.schedule}"
    )
    console.print(describe_compute(config))


def make_compiled_model(model_config, training_config):
    """A new model of a seed, compiled for `fit`, with an optimizer that is ready to be loaded."""
    keras.utils.set_random_seed(training_config.seed)
    dtype = "mixed_bfloat16" if training_config.mixed_precision else "float32"
    model = GPT(model_config, dtype=dtype)
    optimizer = make_optimizer(training_config, model)
    optimizer.build(model.trainable_variables)
    model.compile(
        optimizer,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=training_config.jit_compile,
        steps_per_execution=training_config.steps_per_execution,
    )
    return model


def set_dropout_step(model, step):
    """Makes every dropout layer draw what it would draw after `step` steps of training.

    Keras keeps (seed, number of draws) in each layer, and does not save it.
    """
    for variable in model.variables:
        if variable.path.endswith("seed_generator_state"):
            seed, _ = keras.ops.convert_to_numpy(variable)
            variable.assign([seed, step])
