"""AdamW with warm-up and cosine decay."""

import keras


def make_optimizer(config, model):
    """The optimizer of a training configuration.

    Weight decay (Loshchilov & Hutter 2019, arXiv:1711.05101) is for the matrices of the blocks and
    the output head; scales, biases and embeddings have none.

    Args:
        config: `TrainingConfig`.
        model: the built model to optimize.

    Returns:
        `keras.optimizers.AdamW`.
    """
    warmup_steps = min(config.warmup_steps, config.steps // 10)
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=config.learning_rate / (warmup_steps + 1),
        warmup_target=config.learning_rate,
        warmup_steps=warmup_steps,
        decay_steps=max(config.steps - warmup_steps, 1),
        alpha=min(config.final_learning_rate / config.learning_rate, 1.0),
    )
    optimizer = keras.optimizers.AdamW(
        schedule,
        weight_decay=config.weight_decay,
        beta_2=config.beta_2,
        global_clipnorm=config.clip_norm,
    )
    optimizer.exclude_from_weight_decay(
        var_list=[
            variable
            for variable in model.trainable_variables
            if len(variable.shape) < 2 or variable.path.endswith("/embeddings")
        ]
    )
    return optimizer
