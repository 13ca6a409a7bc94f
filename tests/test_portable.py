"""A model trained here opens in other programs, and writes the same greedy text in each."""

import pytest
from llama_server import serve
from short_runs import SHAPE, train_here

from neo_keras.errors import InputError
from neo_keras.export.exporter import export_run
from neo_keras.generation.decoding import generate_text
from neo_keras.generation.load import load_engine
from neo_keras.generation.sampler import GREEDY
from neo_keras.presets import PRESETS
from neo_keras.run_directory.directory import RunDirectory

PROMPT, NUM_TOKENS = "And often is his", 40
FORMATS = ("huggingface", "gguf", "litertlm")


@pytest.fixture(scope="module")
def run(corpus_file, tmp_path_factory):
    """A run of the preset in small, and its exports."""
    preset = PRESETS["portable"].model
    assert preset["max_ngram"] == 1
    # llama.cpp takes rows of 32 numbers.
    shape = {**SHAPE, **preset, "hidden_dim": 64, "num_layers": 2, "max_seq_len": 64}
    shape["num_speculative_tokens"] = 0
    path = tmp_path_factory.mktemp("portable") / "run"
    run, _ = train_here(path, corpus_file, steps=60, eval_every=30, **shape)
    export_run(run, FORMATS, ["float32"])
    return run


@pytest.fixture(scope="module")
def expected(run):
    """What the Keras model writes."""
    engine, tokenizer = load_engine(run.path)
    return "".join(generate_text(engine, tokenizer, PROMPT, NUM_TOKENS, GREEDY))


@pytest.mark.exhaustive
def test_transformers(run, expected):
    pytest.importorskip("torch", reason="transformers needs PyTorch: pip install torch")
    transformers = pytest.importorskip("transformers", reason="pip install transformers")
    folder = str(run.export / "huggingface")
    pipeline = transformers.pipeline("text-generation", model=folder)
    settings = dict(do_sample=False, max_new_tokens=NUM_TOKENS, return_full_text=False)
    (answer,) = pipeline(PROMPT, **settings)
    assert answer["generated_text"] == expected


@pytest.mark.exhaustive
def test_llama_cpp(run, expected):
    with serve(run.export / "model-float32.gguf") as post:
        answer = post("completion", prompt=PROMPT, n_predict=NUM_TOKENS, temperature=0)
    assert answer["content"] == expected


@pytest.mark.exhaustive
def test_litert_lm(run, expected):
    from neo_keras.export.litertlm import LiteRTLM

    with LiteRTLM(run.export / "model-float32.litertlm") as runtime:
        assert runtime.continue_greedily(PROMPT, NUM_TOKENS) == expected


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["huggingface", "model-float32.gguf"])
def test_our_own_reader(run, expected, name):
    engine, tokenizer = load_engine(run.export / name)
    assert "".join(generate_text(engine, tokenizer, PROMPT, NUM_TOKENS, GREEDY)) == expected


@pytest.mark.exhaustive
def test_training_goes_on_from_an_export(run, corpus_file, tmp_path):
    from neo_keras.training.launch import launch
    from neo_keras.training.trainer import train

    common = dict(
        data=[str(corpus_file)], preset=None, overwrite=False, device="auto", strategy=None,
        tokenizer=None, compile="off", mixed_precision="float32", vocab_size=None,
        max_seq_len=None, steps=20, eval_every=10, sample_every=0, batch_size=3,
        num_speculative_tokens=2,  # a drafter, which no weights of others have
    )  # fmt: skip
    source = str(run.export / "huggingface")
    path = tmp_path / "tuned"
    tuned, corpus, strategy, pretrained = launch(
        run=path, resume=False, pretrained=source, **common
    )
    metrics, _ = train(tuned, corpus, pretrained=pretrained)
    assert tuned.read_best()["val_loss"] <= run.read_metrics()["best_val_loss"] + 1e-4
    assert metrics["step"] == 20
    again = RunDirectory.open(path)
    assert again.asked["pretrained"] == source and again.model_config.activation == "relu_squared"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"max_ngram": 3}, "no other program has an n-gram table"),
        ({"position": "sinusoidal"}, "no other program has sinusoidal positions"),
        ({"norm_position": "post"}, "no other program has norms after the sums"),
    ],
)
@pytest.mark.parametrize("form", ["huggingface", "gguf"])
def test_what_cannot_leave_is_refused(changes, reason, form):
    from neo_keras.config import ModelConfig
    from neo_keras.weights.conversion import target_of

    with pytest.raises(InputError, match=f"{form} cannot hold this model: {reason}; train"):
        target_of(ModelConfig(13, **changes), form)
