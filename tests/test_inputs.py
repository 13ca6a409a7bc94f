"""What several workers make of a batch is what one makes, whatever is trained on."""

import numpy as np
import pytest
import tensorflow as tf

from neo_keras.text.pairs import encode_pairs
from neo_keras.text.tokenizer import Tokenizer
from neo_keras.training.dataset import (
    continuation_training_dataset,
    continuation_validation_dataset,
    pairs_training_dataset,
    pairs_validation_dataset,
    share_of,
    training_dataset,
    validation_dataset,
)

BATCH_SIZE, SEQ_LEN, SEED, STEPS = 6, 7, 3, 11
TEXT = np.arange(101)  # whose token ids are the places where they stand


def make_pairs():
    letters = "abcdefghijk"
    tokenizer = Tokenizer.characters_of(letters).with_end_token()
    texts = [(letters[i % 11] * (1 + i // 11), letters[: 1 + i % 4]) for i in range(13)]
    return encode_pairs(texts, tokenizer, 8)


TRAINING = {"batch_size": BATCH_SIZE, "seed": SEED, "steps": STEPS, "first_step": 2}
INPUTS = {
    "text": (training_dataset, TEXT, SEQ_LEN, TRAINING),
    "continuations": (continuation_training_dataset, TEXT, SEQ_LEN, TRAINING),
    "validation text": (validation_dataset, TEXT, SEQ_LEN, {"batch_size": BATCH_SIZE}),
    "sliding": (validation_dataset, TEXT, SEQ_LEN, {"batch_size": BATCH_SIZE, "sliding": True}),
    "validation continuations": (
        continuation_validation_dataset, TEXT, SEQ_LEN, {"batch_size": BATCH_SIZE}
    ),
    "pairs": (pairs_training_dataset, make_pairs(), TRAINING),
    "validation pairs": (pairs_validation_dataset, make_pairs(), {"batch_size": BATCH_SIZE}),
}  # fmt: skip


def batches(name, *share):
    make, *data, settings = INPUTS[name]
    dataset = make(*data, **settings)
    if share:
        dataset = share_of(dataset, *share)
    return [[tensor.numpy() for tensor in tf.nest.flatten(batch)] for batch in dataset]


@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.parametrize("num_workers", [2, 3])
def test_shares_make_up_the_batch(name, num_workers):
    shares = [batches(name, i, num_workers, num_workers) for i in range(num_workers)]
    whole = batches(name)
    assert len(whole) > 1
    for batch, *parts in zip(whole, *shares, strict=True):
        for array, *array_parts in zip(batch, *parts, strict=True):
            assert {len(part) for part in array_parts} == {BATCH_SIZE // num_workers}
            np.testing.assert_array_equal(np.concatenate(array_parts), array)
