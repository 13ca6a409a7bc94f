"""What a training is about to do, and what it came to, in words."""

from neo_keras.commands import generate_command, quoted
from neo_keras.training.compute import describe_compute
from neo_keras.training.distribution import describe_strategy
from neo_keras.training.flops import count_weights


def describe_start(model, corpus, config, strategy):
    """What to say before the first step.

    Args:
        model: built.
        corpus: `TokenizedCorpus`.
        config: `TrainingConfig`.
        strategy: `tf.distribute.Strategy`.

    Returns:
        Lines of text.
    """
    epochs = config.steps * config.global_batch_size / corpus.num_training_rows
    unknown = []
    if share := corpus.validation.unknown_share:
        unknown = [f"{share:.2%} of the tokens to validate on are unknown to the tokenizer"]
    num_params = count_weights(model.config).total
    return [
        f"{num_params:,} parameters; {model.config.vocab_size:,} different tokens, "
        f"{corpus.description}, {corpus.validation.tokens_per_char:.2f} per character",
        *unknown,
        f"{config.steps:,} steps, {epochs:.3g} times over that; {config.optimizer}, learning "
        f"rate {config.learning_rate:g}, {config.schedule}",
        describe_compute(config) + describe_strategy(strategy),
    ]


def describe_end(run, metrics):
    """What to say when training ended by itself.

    Args:
        run: `RunDirectory`.
        metrics: as `train` returns them.

    Returns:
        Lines of text.
    """
    lines = describe_stop(run, metrics)
    sliding = ""
    if "val_loss_sliding" in metrics:
        sliding = (
            f"; with at least half a context {metrics['val_loss_sliding']:.4f} nats, "
            f"{metrics['val_bits_per_char_sliding']:.3f} bits"
        )
    return [
        *lines,
        f"validation loss {metrics['val_loss']:.4f} nats per token "
        f"({metrics['val_bits_per_char']:.3f} bits per character{sliding}), "
        f"{metrics['train_seconds']:.0f} s of training at {metrics['tokens_per_second']:,} "
        f"tokens/s, {metrics['compile_seconds']:.0f} s of compilation",
        f"next: {generate_command(run, run.path)} or python export.py {quoted(run.path)}",
    ]


def describe_stop(run, metrics):
    """Why training ended before its last step; no lines if it did not."""
    if metrics["stopped_early"]:
        return [
            f"stopped early: nothing below {metrics['best_val_loss']:.4f}, the loss at step "
            f"{metrics['best_step']}, in {run.training_config.patience} validations"
        ]
    if metrics["step"] < run.training_config.steps:
        resume = f"python train.py --run {quoted(run.path)} --resume"
        return [f"saved step {metrics['step']}; go on: {resume}"]
    return []
