"""Trains the model of a run directory with `model.fit`, from its start or from where it stopped."""

import keras
import rich
import tensorflow as tf

from neo_keras.errors import InputError
from neo_keras.model.gpt import GPT
from neo_keras.training.callbacks import Clock, ProgressBar, Recorder, StopOnSignal
from neo_keras.training.compute import choose_compute, describe_compute
from neo_keras.training.dataset import training_dataset, validation_dataset
from neo_keras.training.optimizer import make_optimizer
from neo_keras.training.plot import plot_history


def train(run, corpus, resume=False, callbacks=()):
    """Trains until `run.training_config.steps`, and keeps everything in the run directory.

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
    history, first_step = [], 0
    if resume and run.last.exists():
        run.load_weights(model, run.last)
        first_step = int(model.optimizer.iterations)
        history = [row for row in run.read_history() if row["step"] <= first_step]
    if first_step >= config.steps:
        raise InputError(
            f"{run.path} is at step {first_step} already: train on with a larger --steps"
        )
    run.save_config()  # a resumed run may have new values; nothing is refused any more
    set_dropout_step(model, first_step)
    dataset = training_dataset(
        corpus.training.token_ids, seq_len, config.batch_size, config.seed, config.steps, first_step
    )

    console = rich.get_console()
    console.print(
        f"{model.count_params():,} parameters; {run.model_config.vocab_size:,} different tokens, "
        f"{len(corpus.training.token_ids):,} to train on, {len(corpus.validation.token_ids):,} to "
        f"validate on, {corpus.validation.tokens_per_char:.2f} per character"
    )
    if share := corpus.validation.unknown_share:
        console.print(f"{share:.2%} of the tokens to validate on are unknown to the tokenizer")
    console.print(describe_compute(config))
    seconds = history[-1]["train_seconds"] if history else 0.0
    clock = Clock(first_step, seconds, config.max_seconds)
    stop = StopOnSignal(console)
    recorder = Recorder(run, clock, validation, sliding, corpus, stop, history)
    bar = ProgressBar(clock, recorder, config.steps, config.batch_size * seq_len, console)
    with stop.listening():
        all_callbacks = [clock, stop, recorder, bar, *callbacks]
        model.fit(dataset, shuffle=False, verbose=0, callbacks=all_callbacks)
    plot_history(recorder.history, run.path / "loss.png")
    return recorder.metrics, stop.signal if clock.step < config.steps else None


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


def select_device(name):
    """Makes TensorFlow use one kind of device.

    Args:
        name: "auto" (whatever TensorFlow prefers), "cpu", "gpu" or "xpu".

    Raises:
        InputError: TensorFlow sees no such device.
    """
    if name == "auto":
        return
    if name != "cpu" and not tf.config.list_physical_devices(name.upper()):
        raise InputError(
            f"--device {name}: TensorFlow {tf.__version__} sees no {name.upper()}; "
            "install its driver and TensorFlow's build for it, or use --device auto"
        )
    for other in ("GPU", "XPU"):
        if other != name.upper():
            tf.config.set_visible_devices([], other)
