"""The datasets of a run, whatever it trains on: a text or pairs, one device or many."""

import functools

from neo_keras.training.dataset import training_dataset, validation_dataset
from neo_keras.training.distribution import distribute
from neo_keras.training.seq2seq_dataset import (
    continuation_training_dataset,
    continuation_validation_dataset,
    pairs_training_dataset,
    pairs_validation_dataset,
)

VALIDATION_BATCH_SIZE = 64
VALIDATION_BATCH_RATIO = 2  # to the training's: without gradients a window takes less memory


def training_input(model_config, config, corpus, strategy, first_step):
    """What `fit` trains on.

    Args:
        model_config: `ModelConfig`.
        config: `TrainingConfig`.
        corpus: `TokenizedCorpus`.
        strategy: `tf.distribute.Strategy`.
        first_step: where to begin.

    Returns:
        `tf.data.Dataset` or, under a strategy, `tf.distribute.DistributedDataset`.
    """
    settings = config.global_batch_size, config.seed, config.steps, first_step
    if model_config.end_token_id is not None:
        make = functools.partial(pairs_training_dataset, corpus.training, *settings)
    else:
        is_decoder = model_config.architecture == "decoder-only"
        make = functools.partial(
            training_dataset if is_decoder else continuation_training_dataset,
            corpus.training.token_ids,
            model_config.max_seq_len,
            *settings,
        )
    return distribute(strategy, make)


def validation_rows(config):
    """How many windows or pairs to validate on at a time."""
    return min(VALIDATION_BATCH_SIZE, VALIDATION_BATCH_RATIO * config.batch_size)


def validation_inputs(model_config, config, corpus, strategy):
    """What `evaluate` takes.

    Args:
        as `training_input`.

    Returns:
        (validation, sliding validation or None).
    """
    num_replicas = strategy.num_replicas_in_sync
    batch_size = validation_rows(config)
    batch_size = -(-batch_size // num_replicas) * num_replicas

    def make(function, *data, **settings):
        return distribute(
            strategy, functools.partial(function, *data, batch_size=batch_size, **settings)
        )

    if model_config.end_token_id is not None:
        return make(pairs_validation_dataset, corpus.validation), None
    text = corpus.validation.token_ids, model_config.max_seq_len
    if model_config.architecture == "encoder-decoder":
        return make(continuation_validation_dataset, *text), None
    sliding = make(validation_dataset, *text, sliding=True) if config.sliding_window_eval else None
    return make(validation_dataset, *text), sliding
