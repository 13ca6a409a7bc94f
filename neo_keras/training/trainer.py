"""Trains the model of a run directory with `model.fit`, from its start or from where it stopped."""

import contextlib

import keras
import rich

from neo_keras.errors import InputError
from neo_keras.model.encoder_decoder import make_model
from neo_keras.training.callbacks import Clock, Recorder, StopOnSignal, out_of_patience
from neo_keras.training.compute import choose_compute, describe_compute
from neo_keras.training.dataset import training_dataset, validation_dataset
from neo_keras.training.devices import check_placement
from neo_keras.training.optimizer import make_optimizer
from neo_keras.training.plot import plot_history
from neo_keras.training.progress_bar import ProgressBar
from neo_keras.training.source_dataset import (
    continuation_training_dataset,
    continuation_validation_dataset,
    pairs_training_dataset,
    pairs_validation_dataset,
)


def train(run, corpus, resume=False, callbacks=()):
    """Trains as `run.training_config` says, and keeps everything in the run directory.

    Args:
        run: `RunDirectory`, created or opened.
        corpus: `TokenizedCorpus` or `TokenizedPairs`.
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
    run.training_config = config
    validation, sliding = _validation_datasets(run.model_config, config, corpus)
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
    dataset = _training_dataset(run.model_config, config, corpus, first_step)

    console = rich.get_console()
    _announce(console, model, corpus, config)
    seconds = history[-1]["train_seconds"] if history else 0.0
    clock = Clock(first_step, seconds, config.max_seconds)
    stop = StopOnSignal(console)
    tokens_per_step = config.batch_size * corpus.tokens_per_row(run.model_config)
    recorder = Recorder(run, clock, validation, sliding, corpus, stop, history, tokens_per_step)
    bar = ProgressBar(clock, recorder, config.steps, tokens_per_step, console)
    with stop.listening(), contextlib.closing(bar):
        all_callbacks = [clock, stop, recorder, bar, *callbacks]
        model.fit(dataset, shuffle=False, verbose=0, callbacks=all_callbacks)
    plot_history(recorder.history, run.path / "loss.png")
    return recorder.metrics, stop.signal if clock.step < config.steps else None


def _training_dataset(model_config, config, corpus, first_step):
    settings = config.batch_size, config.seed, config.steps, first_step
    if model_config.end_token_id is not None:
        return pairs_training_dataset(corpus.training, *settings)
    is_decoder = model_config.architecture == "decoder-only"
    make = training_dataset if is_decoder else continuation_training_dataset
    return make(corpus.training.token_ids, model_config.max_seq_len, *settings)


def _validation_datasets(model_config, config, corpus):
    """(validation, sliding validation or None)."""
    if model_config.end_token_id is not None:
        return pairs_validation_dataset(corpus.validation), None
    text = corpus.validation.token_ids, model_config.max_seq_len
    if model_config.architecture == "encoder-decoder":
        return continuation_validation_dataset(*text), None
    sliding = validation_dataset(*text, sliding=True) if config.sliding_loss else None
    return validation_dataset(*text), sliding


def _announce(console, model, corpus, config):
    epochs = config.steps * config.batch_size / corpus.count_training_rows(model.config)
    console.print(
        f"{model.count_params():,} parameters; {model.config.vocab_size:,} different tokens, "
        f"{corpus.describe()}, {corpus.validation.tokens_per_char:.2f} per character"
    )
    if share := corpus.validation.unknown_share:
        console.print(f"{share:.2%} of the tokens to validate on are unknown to the tokenizer")
    console.print(
        f"{config.steps:,} steps, {epochs:.3g} times over that; {config.optimizer}, learning "
        f"rate {config.learning_rate:g}, {config.schedule}"
    )
    console.print(describe_compute(config))


def make_compiled_model(model_config, training_config):
    """A new model of a seed, compiled for `fit`, with an optimizer that is ready to be loaded."""
    keras.utils.set_random_seed(training_config.seed)
    dtype = "mixed_bfloat16" if training_config.mixed_precision else "float32"
    model = make_model(model_config, dtype)
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
