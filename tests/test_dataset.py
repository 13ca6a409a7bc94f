"""Training batches are functions of (seed, step); validation sees every window once."""

import keras
import numpy as np
import pytest

from neo_keras.errors import InputError
from neo_keras.training.dataset import training_dataset, validation_dataset

SEQ_LEN, BATCH_SIZE = 7, 5
NUM_TOKENS = 101  # 13 windows and some to spare: an epoch ends amid a batch
NUM_WINDOWS = 13


def training_batches(seed=3, steps=23, num_tokens=NUM_TOKENS, first_step=0):
    """[(inputs, targets)] of a text whose token ids are the places where they stand."""
    text = np.arange(num_tokens)
    dataset = training_dataset(text, SEQ_LEN, BATCH_SIZE, seed, steps, first_step)
    return [(inputs.numpy(), targets.numpy()) for inputs, targets in dataset]


def window_starts(**kwargs):
    """Where each window of the run begins, in the order of training."""
    return np.concatenate([inputs[:, 0] for inputs, _ in training_batches(**kwargs)])


def test_batches_are_windows_with_the_next_tokens_as_targets():
    batches = training_batches()
    assert len(batches) == 23
    for inputs, targets in batches:
        assert inputs.dtype == targets.dtype == np.int32
        assert inputs.shape == targets.shape == (BATCH_SIZE, SEQ_LEN)
        np.testing.assert_array_equal(inputs, inputs[:, :1] + np.arange(SEQ_LEN))
        np.testing.assert_array_equal(targets, inputs + 1)


@pytest.mark.parametrize("first_step", [1, 2, 3, 13, 22])
def test_starting_at_a_step_equals_skipping_to_it(first_step):
    expected = training_batches()[first_step:]
    np.testing.assert_array_equal(training_batches(first_step=first_step), expected)


def test_a_longer_run_begins_like_a_shorter_one():
    np.testing.assert_array_equal(training_batches(steps=31)[:23], training_batches())


def test_every_epoch_visits_every_window_once():
    starts = window_starts(steps=26 * NUM_WINDOWS // BATCH_SIZE)  # 5 does not divide 13 * 26
    epochs = [starts[i : i + NUM_WINDOWS] for i in range(0, 25 * NUM_WINDOWS, NUM_WINDOWS)]
    offsets, orders = [], []
    for epoch in epochs:
        offset = min(epoch)
        np.testing.assert_array_equal(
            np.sort(epoch), offset + SEQ_LEN * np.arange(NUM_WINDOWS)
        )  # all of them, side by side
        offsets.append(offset)
        orders.append(tuple((epoch - offset) // SEQ_LEN))
    assert set(offsets) == set(range(SEQ_LEN))  # 25 draws of 7
    assert len(set(orders)) == 25


def test_seeds_differ():
    starts = {seed: window_starts(seed=seed).tolist() for seed in (0, 1, 2, 3)}
    assert starts[3] == window_starts(seed=3).tolist()
    assert len({tuple(s) for s in starts.values()}) == 4
    # Nor is one seed's epoch another's next one.
    epochs = [s[i : i + 13] for s in starts.values() for i in range(0, 91, 13)]
    assert len({tuple(epoch) for epoch in epochs}) == 28


@pytest.mark.parametrize("seed", [0, 1, 2**31 - 1, 2**31, 2**32 - 1])
def test_every_seed_shuffles_well(seed):
    """Two orders have nothing in common: neither with each other, nor with the text's."""
    num_windows = 2000
    num_tokens = (num_windows + 1) * SEQ_LEN
    epochs = 3
    starts = window_starts(
        seed=seed, steps=epochs * num_windows // BATCH_SIZE, num_tokens=num_tokens
    )
    others = window_starts(seed=seed ^ 1, steps=num_windows // BATCH_SIZE, num_tokens=num_tokens)
    orders = [*starts.reshape(epochs, num_windows), others, np.arange(num_windows)]
    correlations = np.corrcoef(orders)[np.triu_indices(len(orders), k=1)]
    assert abs(correlations).max() < 0.1  # chance: 0.022, one standard deviation


@pytest.mark.parametrize("num_tokens, num_windows", [(14, 1), (20, 1), (21, 2)])
def test_the_shortest_texts(num_tokens, num_windows):
    starts = window_starts(num_tokens=num_tokens)
    assert starts.max() + SEQ_LEN + 1 <= num_tokens
    assert len(set(starts[:num_windows])) == num_windows


def test_too_short_to_train_on():
    with pytest.raises(InputError, match="training part .* at least 14 tokens, got 13"):
        training_batches(num_tokens=13)


def test_too_short_to_validate_on():
    with pytest.raises(InputError, match="validation part .* at least 8 tokens, got 7"):
        validation_dataset(np.arange(7), SEQ_LEN)
    assert len(list(validation_dataset(np.arange(8), SEQ_LEN))) == 1


@pytest.mark.parametrize("num_tokens, num_windows", [(8, 1), (70, 9), (71, 10), (72, 10)])
def test_validation_sees_every_full_window_once(num_tokens, num_windows):
    dataset = validation_dataset(np.arange(num_tokens), SEQ_LEN, BATCH_SIZE)
    inputs, targets, weights = (np.concatenate(part) for part in zip(*dataset.as_numpy_iterator()))
    assert inputs.dtype == targets.dtype == np.int32 and len(inputs) % BATCH_SIZE == 0
    np.testing.assert_array_equal(targets, inputs + 1)
    real = weights[:, 0] > 0
    np.testing.assert_array_equal(inputs[real].ravel(), np.arange(num_windows * SEQ_LEN))
    # The rows that fill up the last batch come last, and the weights make up for them.
    assert real[:num_windows].all() and not real[num_windows:].any()
    np.testing.assert_allclose(weights[real], len(inputs) / num_windows)


@pytest.mark.parametrize("num_tokens, num_windows", [(8, 1), (10, 1), (11, 2), (70, 21), (71, 22)])
def test_sliding_validation_counts_a_token_once(num_tokens, num_windows):
    dataset = validation_dataset(np.arange(num_tokens), SEQ_LEN, BATCH_SIZE, sliding=True)
    inputs, _, weights = (np.concatenate(part) for part in zip(*dataset.as_numpy_iterator()))
    starts = np.minimum(np.arange(len(inputs)), num_windows - 1) * 3  # half of 7
    np.testing.assert_array_equal(inputs, starts[:, None] + np.arange(SEQ_LEN))
    counted = inputs[weights > 0]
    np.testing.assert_array_equal(counted, np.arange(7 + 3 * (num_windows - 1)))
    assert (weights[1:, :4] == 0).all()  # at least four tokens stand before each that counts
    np.testing.assert_allclose(weights[weights > 0], inputs.size / len(counted), rtol=1e-6)


@pytest.mark.parametrize(
    "seq_len, batch_size",
    [(7, 5), (7, 7), (5, 7), (11, 1), (3, 31)],
    ids=["padded", "square", "wider than long", "one by one", "one batch, mostly padding"],
)
def test_evaluate_gives_the_plain_mean_over_windows(tiny_model, seq_len, batch_size):
    token_ids = np.random.default_rng(4).integers(13, size=89)
    num_windows = 88 // seq_len
    losses = []
    for i in range(num_windows):
        window = token_ids[i * seq_len : (i + 1) * seq_len + 1]
        logits = np.array(tiny_model(window[None, :-1]), "float64")[0]
        log_partition = np.log(np.exp(logits).sum(axis=-1))
        losses.append(np.mean(log_partition - logits[np.arange(seq_len), window[1:]]))
    assert np.std(losses) > 0.1  # one window too many or too few would show

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    tiny_model.compile("sgd", loss, jit_compile=False)
    dataset = validation_dataset(token_ids, seq_len, batch_size)
    assert tiny_model.evaluate(dataset, verbose=0) == pytest.approx(np.mean(losses), rel=1e-4)
