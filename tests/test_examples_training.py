"""Training on examples: what counts in a batch, what it changes, and whole runs."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from example_files import completions, make_tokenizer, text, write, write_model
from short_runs import different_arrays
from tolerances import assert_close

from neo_keras.config import ModelConfig, TrainingConfig
from neo_keras.errors import InputError
from neo_keras.run_directory.directory import RunDirectory
from neo_keras.text.corpus import open_corpus
from neo_keras.text.packing import PackedExamples, make_example, pack
from neo_keras.training.dataset import packed_training_dataset, packed_validation_dataset
from neo_keras.training.resolve import resolve
from neo_keras.training.start import resume_run, start_run
from neo_keras.training.train_step import TrainStep, make_train_step
from neo_keras.training.trainer import train
from neo_keras.weights.open import open_pretrained

TOKENIZER = make_tokenizer()
SEQ_LEN, BATCH_SIZE = 18, 5


@pytest.fixture(scope="module")
def packed():
    """Rows of examples whose token ids are all different."""
    rng, first, examples = np.random.default_rng(3), 0, []
    for n, m in rng.integers(1, 8, (41, 2)):
        examples.append(
            make_example(
                [(range(first, first + n), False), (range(first + n, first + n + m), True)]
            )
        )
        first += n + m
    return pack(examples, SEQ_LEN, TOKENIZER)


def batches(dataset):
    return list(dataset.as_numpy_iterator())


def test_an_epoch_visits_each_row_once(packed):
    steps = 2 * len(packed)
    data = batches(packed_training_dataset(packed, False, BATCH_SIZE, 7, steps))
    firsts = np.concatenate([token_ids[:, 0] for token_ids, _, _ in data])
    epochs = firsts[: len(firsts) // len(packed) * len(packed)].reshape(-1, len(packed))
    for epoch in epochs:
        assert sorted(epoch) == sorted(packed.rows[:, 0])
    assert (epochs[0] != epochs[1]).any() and (epochs[1] != epochs[2]).any()
    for token_ids, next_ids, weights in data:
        assert token_ids.shape == next_ids.shape == weights.shape == (BATCH_SIZE, 18)
        np.testing.assert_array_equal(token_ids[:, 1:], next_ids[:, :-1])
        assert weights.mean() == pytest.approx(1)
        trained = {i for row in packed.rows[packed.weights > 0].tolist() for i in [row]}
        assert {*next_ids[weights > 0].tolist()} <= trained


def test_a_batch_is_a_function_of_seed_and_step(packed):
    settings = packed, True, BATCH_SIZE, 7, 30
    whole = batches(packed_training_dataset(*settings))
    resumed = batches(packed_training_dataset(*settings, first_step=19))
    other = batches(packed_training_dataset(packed, True, BATCH_SIZE, 8, 30))
    tf.nest.map_structure(np.testing.assert_array_equal, resumed, whole[19:])
    assert (other[0][1] != whole[0][1]).any()
    inputs, next_ids, weights = whole[0]
    segment_ids = inputs["segment_ids"]
    assert segment_ids.dtype == inputs["token_ids"].dtype == "int32"
    # What is trained is predicted from a token of the same example.
    following = np.pad(segment_ids[:, 1:], ((0, 0), (0, 1)), mode="edge")
    assert ((segment_ids == following) | (weights == 0))[:, :-1].all()


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_validation_counts_every_trained_token_once(packed, batch_size):
    data = batches(packed_validation_dataset(packed, batch_size))
    counted = np.concatenate([next_ids[weights > 0] for _, next_ids, weights in data])
    assert sorted(counted) == sorted(packed.rows[packed.weights > 0])
    assert np.mean([weights.mean() for _, _, weights in data]) == pytest.approx(1)
    values = np.concatenate([weights[weights > 0] for _, _, weights in data])
    assert len({*values.tolist()}) == 1


@pytest.fixture
def train_step(make_model):
    config = ModelConfig(vocab_size=13, max_seq_len=17, num_layers=1, num_heads=3, hidden_dim=42)
    training = resolve(config, TrainingConfig(cpu_replicas=1, jit_compile=False))
    return TrainStep(make_model(config), training)


def loss_and_gradients(train_step, token_ids, next_ids, weights):
    with tf.GradientTape() as tape:
        loss = train_step.compute_loss(token_ids, next_ids, sample_weight=weights)
    gradients = tape.gradient(loss, train_step.trainable_variables)
    return float(loss), [tf.convert_to_tensor(gradient).numpy() for gradient in gradients]


def test_a_part_of_a_batch_without_trained_tokens(train_step):
    """In a graph, as a step is, which does not know how many there are."""
    token_ids = np.random.default_rng(5).integers(0, 13, (3, 17)).astype("int32")

    @tf.function(input_signature=[tf.TensorSpec([3, 17])])
    def gradients_of(weights):
        with tf.GradientTape() as tape:
            loss = train_step.compute_loss(token_ids, token_ids, sample_weight=weights)
        return loss, tape.gradient(loss, train_step.trainable_variables)

    loss, gradients = gradients_of(tf.zeros((3, 17)))
    assert float(loss) == 0
    assert not any(np.any(tf.convert_to_tensor(gradient)) for gradient in gradients)


def test_what_is_not_trained_has_no_gradient(train_step):
    """The output layer's gradient is computed by hand, without the tokens of weight 0."""
    rng = np.random.default_rng(5)
    token_ids, next_ids = rng.integers(0, 13, (2, 3, 17)).astype("int32")
    counted = rng.random((3, 17)) < 0.4
    weights = (counted / counted.mean()).astype("float32")
    loss, gradients = loss_and_gradients(train_step, token_ids, next_ids, weights)

    hidden = np.float64(train_step.model.hidden(token_ids))[counted]
    output = train_step.model.token_embedding.reverse_embeddings
    logits = hidden @ np.float64(output)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    targets = np.eye(13)[next_ids[counted]]
    expected = hidden.T @ (probabilities - targets) / counted.sum()
    names = [variable.path for variable in train_step.trainable_variables]
    assert_close(gradients[names.index(output.path)], expected, 42 + 51)
    assert loss == pytest.approx(-np.log(probabilities[targets > 0]).mean(), rel=1e-5)

    others = np.where(counted, next_ids, (next_ids + rng.integers(1, 13, (3, 17))) % 13)
    loss_of_others, gradients_of_others = loss_and_gradients(
        train_step, token_ids, others.astype("int32"), weights
    )
    assert loss_of_others == loss
    for gradient, gradient_of_others in zip(gradients, gradients_of_others):
        np.testing.assert_array_equal(gradient_of_others, gradient)
    changed = np.where(counted, (next_ids + 1) % 13, next_ids).astype("int32")
    assert loss_and_gradients(train_step, token_ids, changed, weights)[0] != loss


@pytest.fixture(scope="module")
def pretrained_folder(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model") / "tiny", max_seq_len=31)


SETTINGS = dict(batch_size=3, jit_compile=False, cpu_replicas=1, steps_per_execution=1, steps=6,
                eval_every=3, sample_every=0)  # fmt: skip


def start(path, data, folder, **changes):
    return start_run(path, [data], pretrained=open_pretrained(folder), **{**SETTINGS, **changes})


def run_training(run, corpus, folder, resume=False):
    return train(run, corpus, resume, pretrained=None if resume else open_pretrained(folder))


def test_a_run_goes_on_with_the_same_bits(tmp_path, pretrained_folder):
    data = write(tmp_path / "a.jsonl", completions())
    whole, corpus = start(tmp_path / "whole", data, pretrained_folder)
    metrics, _ = run_training(whole, corpus, pretrained_folder)
    half, corpus = start(tmp_path / "half", data, pretrained_folder, max_seconds=1e-9)
    assert run_training(half, corpus, pretrained_folder)[0]["step"] < 6
    resumed, corpus = resume_run(half.path)
    assert resumed.training_config.document_mask is not None
    run_training(resumed, corpus, pretrained_folder, resume=True)
    assert different_arrays(whole.last, resumed.last) == []
    # The validation loss, by hand: of each example alone.
    model, validation = whole.load_model(), corpus.validation
    losses = []
    for row, weights, segments in zip(validation.rows, validation.weights, validation.segments):
        for number in range(1, segments.max() + 1):
            token_ids, counted = row[segments == number], weights[segments == number][1:] > 0
            logits = np.float64(model(token_ids[None, :-1]))[0]
            logits -= np.log(np.exp(logits).sum(axis=-1, keepdims=True))
            losses += (-logits[np.arange(len(counted)), token_ids[1:]])[counted].tolist()
    assert len(losses) == validation.num_tokens
    assert metrics["best_val_loss"] == pytest.approx(np.mean(losses), rel=1e-4)
    bits = corpus.validation.bits_per_char(metrics["best_val_loss"])
    assert metrics["best_val_bits_per_char"] == pytest.approx(bits)


def test_other_examples_are_not_resumed(tmp_path, pretrained_folder):
    data = write(tmp_path / "a.jsonl", completions())
    run, _ = start(tmp_path / "run", data, pretrained_folder)
    write(tmp_path / "a.jsonl", completions()[::-1])
    with pytest.raises(InputError, match="the text is not the one that .* was trained on"):
        resume_run(run.path)
    write(tmp_path / "a.jsonl", completions())
    with pytest.raises(InputError, match="a resumed run keeps its document_mask"):
        run.training_config = dataclasses.replace(run.training_config, document_mask=True)
        run.save_config()
        resume_run(run.path, document_mask=False)


@pytest.mark.parametrize("is_folder", [False, True])
def test_a_run_of_old_has_one_text_of_its_documents(tmp_path, pretrained_folder, is_folder):
    texts = [text(i, 9) for i in range(60)]
    data = write(tmp_path / "a.jsonl", [{"text": document} for document in texts])
    if is_folder:
        (data := tmp_path / "folder").mkdir()
        for i, content in enumerate(texts):
            (data / f"{i}.txt").write_text(content, encoding="utf-8")
    run, _ = start(tmp_path / "run", str(data), pretrained_folder)
    tokenizer = run.load_tokenizer()
    corpus = open_corpus([str(data)], document_end=tokenizer.document_end)
    run.data = {**run.data, "sha256": corpus.sha256}
    run.save_config()
    _, tokenized = resume_run(run.path)
    assert not isinstance(tokenized.training, PackedExamples)
    whole = np.concatenate([tokenized.training.token_ids[:], tokenized.validation.token_ids[:]])
    assert all(document in tokenizer.decode(whole) for document in texts)


def test_what_a_run_keeps(tmp_path, pretrained_folder):
    """A text to check exports on, as of any other."""
    from neo_keras.export.parity import encode_reference

    data = write(tmp_path / "a.jsonl", completions())
    run, corpus = start(tmp_path / "run", data, pretrained_folder, num_speculative_tokens=2)
    run_training(run, corpus, pretrained_folder)
    opened = RunDirectory.open(run.path)
    kept = opened.load_validation_text()
    assert kept.count("<|endoftext|>") == 3
    reference, encoded = encode_reference(opened.load_model(), kept, opened.load_tokenizer())
    assert len(encoded.token_ids) == len(corpus.validation.token_ids)
    assert np.isfinite(reference.loss)
    from neo_keras.training.train_drafter import train_drafter

    assert train_drafter(run, corpus) is None
    assert run.read_best()["drafter_trained"]


def test_the_mask_is_for_examples(tmp_path, pretrained_folder):
    data = write(tmp_path / "a.jsonl", [{"text": text(i, 3)} for i in range(40)])
    run, corpus = start(tmp_path / "run", data, pretrained_folder)
    assert resolve(run.model_config, run.training_config, corpus).document_mask is True
    asked = dataclasses.replace(run.training_config, document_mask=False)
    assert resolve(run.model_config, asked, corpus).document_mask is False
    (tmp_path / "a.txt").write_text("the you " * 200)
    run, corpus = start(tmp_path / "plain", str(tmp_path / "a.txt"), pretrained_folder)
    assert resolve(run.model_config, run.training_config, corpus).document_mask is False


def test_a_mask_and_replicas_compiled_by_xla_make_the_same_step(tmp_path, pretrained_folder):
    data = write(tmp_path / "a.jsonl", completions())
    run, corpus = start(tmp_path / "run", data, pretrained_folder, batch_size=4)
    losses = []
    for changes in ({}, {"jit_compile": True, "cpu_replicas": 2}, {"remat": True}):
        config = resolve(run.model_config, run.training_config, corpus)
        config = dataclasses.replace(config, document_mask=True, **changes)
        train_step = make_train_step(run.model_config, config)
        dataset = packed_training_dataset(corpus.training, True, 4, seed=1, steps=3)
        losses.append(train_step.fit(dataset, verbose=0, shuffle=False).history["loss"][0])
    np.testing.assert_allclose(losses, losses[0], rtol=1e-5)


@pytest.mark.parametrize(
    "changes, name, message",
    [
        ({"document_mask": True}, "a.txt", "--document-mask on is for examples"),
        ({"sliding_window_eval": True}, "a.jsonl", "--sliding-window-eval is for one plain text"),
    ],
)
def test_options_that_do_not_go_with_the_data(tmp_path, pretrained_folder, changes, name, message):
    (tmp_path / "a.txt").write_text("the you " * 200)
    write(tmp_path / "a.jsonl", completions())
    with pytest.raises(InputError, match=message):
        start(tmp_path / "run", str(tmp_path / name), pretrained_folder, **changes)
    assert not (tmp_path / "run").exists()


def test_too_few_examples_for_a_drafter(tmp_path, pretrained_folder):
    data = write(tmp_path / "a.jsonl", completions(3))
    start(tmp_path / "without", data, pretrained_folder)
    with pytest.raises(InputError, match="training part .* at least 62 tokens, got [0-9]+: give"):
        start(tmp_path / "run", data, pretrained_folder, num_speculative_tokens=2)
    assert not (tmp_path / "run").exists()
