"""The encoder-decoder against plain NumPy, and that against PyTorch's `nn.Transformer`."""

import dataclasses
import json

import keras
import numpy as np
import pytest
from conftest import randomize
from numpy_encoder_decoder import Reference
from tolerances import assert_close

from neo_keras.config import ModelConfig
from neo_keras.model.attention import length_mask, sinusoidal_table
from neo_keras.model.encoder_decoder import EncoderDecoder, model_class
from neo_keras.model.gpt import GPT

BATCH_SIZE, SOURCE_LEN, SEQ_LEN = 3, 11, 7
SOURCE_LENS = np.array([11, 1, 5], "int32")
VOCAB_SIZE = 13

# As in the paper, and as in ours; every axis has a size of its own. head_dim is 14.
PAPER = ModelConfig(
    VOCAB_SIZE, max_seq_len=17, num_layers=2, num_heads=5, hidden_dim=70, position="sinusoidal",
    norm="layer", norm_position="post", activation="relu", use_bias=True, qk_norm=False,
    tie_embeddings=True, architecture="encoder-decoder",
)  # fmt: skip
MODERN = ModelConfig(
    VOCAB_SIZE, max_seq_len=17, num_layers=2, num_heads=15, num_kv_heads=3, hidden_dim=210,
    architecture="encoder-decoder",
)  # fmt: skip
CONFIGS = {
    "paper": PAPER,
    "paper pre-norm": dataclasses.replace(PAPER, norm_position="pre"),
    "modern": MODERN,
    "learned": dataclasses.replace(PAPER, position="learned", tie_embeddings=False),
    "ngrams": dataclasses.replace(
        MODERN, max_ngram=4, ngram_rows=101, ngram_dim=11, embedding_norm=True
    ),
}
# In each of 2 blocks of the encoder and 2 of the decoder, of up to 210 + 11 + 210 + 210 + 840
# inputs, and 445 more of the attention to the source.
ADDITIONS = 7_000
REFERENCED = [name for name in CONFIGS if name != "ngrams"]


@pytest.fixture(params=CONFIGS)
def model(request):
    return random_model(CONFIGS[request.param])


def random_model(config, **kwargs):
    model = model_class(config)(config, **kwargs)
    randomize(model, seed=7)
    return model


def random_ids(seq_len, seed=11):
    rng = np.random.default_rng(seed)
    return rng.integers(VOCAB_SIZE, size=(BATCH_SIZE, seq_len)).astype("int32")


def make_inputs(source_len=SOURCE_LEN, source_lens=SOURCE_LENS, seq_len=SEQ_LEN):
    return {
        "source_ids": random_ids(source_len),
        "source_lens": source_lens,
        "token_ids": random_ids(seq_len, seed=12),
    }


@pytest.mark.parametrize("name", REFERENCED)
def test_agrees_with_the_reference(name):
    model = random_model(CONFIGS[name])
    expected = Reference(model).logits(make_inputs())
    logits = np.array(model(make_inputs()))
    assert logits.dtype == np.float32 and logits.shape == (BATCH_SIZE, SEQ_LEN, VOCAB_SIZE)
    assert expected.std() > 0.3
    assert_close(logits, expected, ADDITIONS)


def torch_state(model):
    """Our weights under the names of `nn.Transformer`."""
    weights = {w.path.split("/", 1)[1]: np.array(w) for w in model.weights}
    layers = {"attention": "self_attn", "cross_attention": "multihead_attn"}
    norms = {"encoder": ["attention", "feed_forward"],
             "decoder": ["attention", "cross_attention", "feed_forward"]}  # fmt: skip
    state = {}
    for ours, side in (("encoder_block", "encoder"), ("block", "decoder")):
        for i in range(model.config.num_layers):
            block, theirs = f"{ours}_{i}", f"{side}.layers.{i}"
            for number, name in enumerate(norms[side], 1):
                state[f"{theirs}.norm{number}.weight"] = weights[f"{block}/{name}_norm/gamma"]
                state[f"{theirs}.norm{number}.bias"] = weights[f"{block}/{name}_norm/beta"]
                if name not in layers:
                    continue
                parts = ["qkv"] if name == "attention" else ["query", "key_value"]
                for kind, suffix in (("kernel", "weight"), ("bias", "bias")):
                    arrays = [weights[f"{block}/{name}/{part}/{kind}"].T for part in parts]
                    state[f"{theirs}.{layers[name]}.in_proj_{suffix}"] = np.concatenate(arrays)
                    output = weights[f"{block}/{name}/output/{kind}"].T
                    state[f"{theirs}.{layers[name]}.out_proj.{suffix}"] = output
            name = f"{block}/feed_forward"
            state[f"{theirs}.linear1.weight"] = weights[f"{name}/expand/kernel"].T
            state[f"{theirs}.linear1.bias"] = weights[f"{name}/expand/bias"]
            state[f"{theirs}.linear2.weight"] = weights[f"{name}/contract_kernel"]
            state[f"{theirs}.linear2.bias"] = weights[f"{name}/contract_bias"]
    for ours, theirs in (("encoder_norm", "encoder.norm"), ("final_norm", "decoder.norm")):
        state[f"{theirs}.weight"] = weights[f"{ours}/gamma"]
        state[f"{theirs}.bias"] = weights[f"{ours}/beta"]
    return state


@pytest.mark.parametrize("norm_position", ["post", "pre"])
def test_agrees_with_pytorch(norm_position):
    torch = pytest.importorskip("torch")
    model = random_model(dataclasses.replace(PAPER, norm_position=norm_position))
    theirs = torch.nn.Transformer(
        d_model=70, nhead=5, num_encoder_layers=2, num_decoder_layers=2, dim_feedforward=280,
        dropout=0.0, activation="relu", norm_first=norm_position == "pre", batch_first=True,
    ).eval()  # fmt: skip
    state = {name: torch.tensor(np.array(x)) for name, x in torch_state(model).items()}
    theirs.load_state_dict(state, strict=True)
    inputs, reference = make_inputs(), Reference(model)
    source, x = (
        torch.tensor(np.array([reference.embed(row) for row in inputs[name]]), dtype=torch.float32)
        for name in ("source_ids", "token_ids")
    )
    padding = torch.tensor(np.arange(SOURCE_LEN) >= SOURCE_LENS[:, None])
    causal = torch.triu(torch.ones(SEQ_LEN, SEQ_LEN, dtype=torch.bool), diagonal=1)
    with torch.no_grad():
        y = theirs(
            source, x, tgt_mask=causal, src_key_padding_mask=padding,
            memory_key_padding_mask=padding,
        ).numpy()  # fmt: skip
    expected = y @ np.array(model.token_embedding.embeddings).T
    assert_close(model(inputs), expected, ADDITIONS)
    assert_close(reference.logits(inputs), expected, ADDITIONS)


def test_sinusoidal_table_by_hand():
    table = sinusoidal_table(3, 4)
    # Frequencies 1 and 1 / 100: sin 2, cos 2, sin 0.02, cos 0.02.
    np.testing.assert_allclose(table[2], [0.909297, -0.416147, 0.019999, 0.999800], atol=1e-6)
    np.testing.assert_array_equal(table[0], [0, 1, 0, 1])
    np.testing.assert_array_equal(sinusoidal_table(3, 5)[:, :2], table[:, :2])  # an odd width, too


def test_length_mask():
    mask = np.array(length_mask(np.array([2, 3], "int32"), 3))
    assert mask.shape == (2, 1, 1, 3)
    assert mask[:, 0, 0].tolist() == [[0, 0, -1e9], [0, 0, 0]]


def test_cached_equals_full(model):
    inputs = make_inputs()
    full = np.array(model(inputs))
    source = model.encode(inputs["source_ids"], inputs["source_lens"])
    for chunks in ([1] * SEQ_LEN, [SEQ_LEN], [3, 4], [5, 1, 1]):
        assert_cached_equals_full(model, inputs, source, full, chunks)


def assert_cached_equals_full(model, inputs, source, full, chunks):
    cache = {**model.empty_cache(BATCH_SIZE), **source}
    logits, begin = [], 0
    for size in chunks:
        positions = np.arange(begin, begin + size, dtype="int32")
        token_ids = inputs["token_ids"][:, begin : begin + size]
        chunk_logits, cache = model.step(token_ids, positions, cache)
        logits.append(np.array(chunk_logits))
        begin += size
    assert cache.keys() == model.empty_cache().keys()
    assert_close(np.concatenate(logits, axis=1), full, ADDITIONS)


def test_padding_of_the_source_changes_nothing(model):
    inputs = make_inputs()
    full = np.array(model(inputs))
    padded = {**inputs, "source_ids": random_ids(17, seed=5)}  # other padding, and more of it
    for i, length in enumerate(SOURCE_LENS):
        padded["source_ids"][i, :length] = inputs["source_ids"][i, :length]
    assert_close(model(padded), full, ADDITIONS)


def test_ngrams_reach_back_into_the_source():
    """The last 3 tokens before the source's last one, plus 1; 0 where there is none."""
    model = random_model(CONFIGS["ngrams"])
    source_ids = random_ids(SOURCE_LEN)
    history = np.array(model.encode(source_ids, SOURCE_LENS)["kv_cache_k_tokens"])
    assert history.shape == (BATCH_SIZE, 3 + 17) and not history[:, 3:].any()
    assert history[0, :3].tolist() == (source_ids[0, 7:10] + 1).tolist()
    assert history[1, :3].tolist() == [0, 0, 0]  # of a source of one token
    assert history[2, :3].tolist() == (source_ids[2, 1:4] + 1).tolist()


def test_every_token_of_the_source_counts_and_only_the_past_of_the_target(model):
    inputs = make_inputs()
    logits = np.array(model(inputs))
    for place in (0, 4):  # the encoder looks ahead: even the first logits know of them
        source_ids = inputs["source_ids"].copy()
        source_ids[2, place] = (source_ids[2, place] + 1) % VOCAB_SIZE
        changed = np.array(model({**inputs, "source_ids": source_ids}))
        assert np.abs(changed - logits)[2, 0].max() > 1e-4
        np.testing.assert_array_equal(changed[:2], logits[:2])
    token_ids = inputs["token_ids"].copy()
    token_ids[:, 4:] = (token_ids[:, 4:] + 1) % VOCAB_SIZE
    changed = np.array(model({**inputs, "token_ids": token_ids}))
    np.testing.assert_array_equal(changed[:, :4], logits[:, :4])  # to the last bit
    assert np.abs(changed - logits)[:, 4].max() > 1e-4


def test_number_of_parameters():
    # Encoder block: qkv 71 * 210, output 71 * 70, feed-forward 71 * 280 + 281 * 70, norms 4 * 70;
    # decoder block: also query 71 * 70, key_value 71 * 140, output 71 * 70, a norm 2 * 70.
    encoder = 14_910 + 4_970 + 19_880 + 19_670 + 280
    decoder = encoder + 4_970 + 9_940 + 4_970 + 140
    assert EncoderDecoder(PAPER).count_params() == 2 * (encoder + decoder) + 13 * 70 + 4 * 70


def test_keras_file_round_trip(model, tmp_path):
    model.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras", safe_mode=True)
    assert type(restored) is EncoderDecoder and restored.config == model.config
    np.testing.assert_array_equal(restored(make_inputs()), model(make_inputs()))


def test_serializes_its_configuration():
    model = EncoderDecoder(PAPER, dtype="mixed_bfloat16", name="d")
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(model)))
    restored = keras.saving.deserialize_keras_object(config, safe_mode=True)
    assert restored.get_config() == model.get_config()


def test_a_model_for_each_architecture():
    assert model_class(PAPER) is EncoderDecoder
    assert model_class(dataclasses.replace(PAPER, architecture="decoder-only")) is GPT


def test_post_norm_and_sinusoidal_positions_in_a_decoder_alone():
    config = dataclasses.replace(PAPER, architecture="decoder-only")
    model = random_model(config)
    reference = Reference(model)
    x = reference.embed(random_ids(SEQ_LEN)[0])
    for i in range(2):
        name = f"block_{i}"
        x = reference.add(
            x, f"{name}/attention", reference.attend, source=None, places=None, past=True
        )
        x = reference.add(x, f"{name}/feed_forward", reference.feed_forward)
    expected = reference.norm(x, "final_norm") @ reference.weights["token_embedding/embeddings"].T
    logits = model(random_ids(SEQ_LEN))
    assert_close(logits[0], expected, ADDITIONS)


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["paper", "ngrams"])
def test_fit_with_and_without_xla(name):
    losses = []
    config = dataclasses.replace(CONFIGS[name], num_layers=1)
    for jit_compile in (False, True):
        keras.utils.set_random_seed(3)
        model = EncoderDecoder(config)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("adamw", loss, jit_compile=jit_compile)
        targets = random_ids(SEQ_LEN, seed=13)
        history = model.fit(make_inputs(), targets, epochs=2, shuffle=False, verbose=0)
        losses.append(history.history["loss"])
    assert losses[0][1] < losses[0][0]
    assert_close(losses[1], losses[0], ADDITIONS)
