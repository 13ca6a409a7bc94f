"""The notebook, run as a person runs it, in a kernel of this Python. Offline."""

import json
import re

import nbformat
import pytest
from notebook_runner import ROOT, check_no_outputs, execute, set_parameters, text_of

NOTEBOOK = ROOT / "notebooks" / "shakespeare.ipynb"
STEPS = 50


@pytest.fixture(scope="module")
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


@pytest.fixture(scope="module")
def executed(tmp_path_factory, tiny_corpus_text):
    """(the executed notebook, the directory that it ran in)."""
    directory = tmp_path_factory.mktemp("notebook")
    (directory / "sonnet.txt").write_text(tiny_corpus_text, encoding="utf-8")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    set_parameters(
        notebook,
        SOURCES=["sonnet.txt"],
        STEPS=STEPS,
        BATCH_SIZE=7,
        SEQ_LEN=31,
        NUM_LAYERS=2,
        NUM_HEADS=3,
        HIDDEN_DIM=30,
        PROMPT="Shall I",
    )
    probe = "import json; open('history.json', 'w').write(json.dumps(history.history))"
    notebook.cells.append(nbformat.v4.new_code_cell(probe))
    execute(notebook, directory)
    return notebook, directory


def test_stores_no_outputs(notebook):
    check_no_outputs(notebook)


@pytest.mark.exhaustive
def test_loss_falls_below_blind_guessing(executed):
    notebook, directory = executed
    history = json.loads((directory / "history.json").read_text())
    blind = float(re.search(r"blind guessing: ([\d.]+)", text_of(notebook, "training"))[1])
    assert len(history["loss"]) == len(history["val_loss"]) == 5
    assert history["val_loss"][-1] < history["val_loss"][0] < blind
    assert history["loss"][-1] < blind - 0.5


@pytest.mark.exhaustive
def test_shows_samples_and_a_plot(executed):
    notebook, _ = executed
    steps = re.findall(r"written after (\d+) steps", text_of(notebook, "training"))
    assert steps == ["10", "20", "30", "40", "50"]
    (plot,) = [cell for cell in notebook.cells if cell.id == "plot"]
    assert any("image/png" in output.get("data", {}) for output in plot.outputs)


@pytest.mark.exhaustive
def test_the_file_is_whole_and_continues_the_prompt(executed, tiny_corpus_text):
    from neo_keras import Sampler, generate_text, load_engine

    notebook, directory = executed
    path = directory / "my_gpt" / "model-int8.tflite"
    assert str(path) in text_of(notebook, "download")
    engine, tokenizer = load_engine(path)
    assert engine.max_seq_len == 31
    text = "".join(generate_text(engine, tokenizer, "Shall I", 500, Sampler(0.8), seed=1))
    assert len(text) == 500 and set(text) <= set(tiny_corpus_text)
    assert text_of(notebook, "writing") == "Shall I" + text


@pytest.mark.exhaustive
def test_the_card_and_the_keras_file(executed):
    import keras

    from neo_keras import GPT, make_optimizer  # noqa: F401 (as the cell says)

    notebook, directory = executed
    model = keras.saving.load_model(directory / "my_gpt" / "model.keras")
    size = (directory / "my_gpt" / "model-int8.tflite").stat().st_size
    assert f"model-int8.tflite: {size / 1e6:.1f} MB" in text_of(notebook, "export")
    card = (directory / "my_gpt" / "README.md").read_text()
    assert f"{model.count_params():,} parameters" in card and "`model-int8.tflite`" in card


def test_the_prose_names_the_size_of_the_default_file(notebook):
    """One byte for each of the numbers that the cells of the notebook make, and little besides."""
    from neo_keras import GPT, ModelConfig

    values = {}
    (cell,) = [cell for cell in notebook.cells if cell.id == "parameters"]
    exec(cell.source, values)
    model = GPT(
        ModelConfig(
            vocab_size=70,
            max_seq_len=values["SEQ_LEN"],
            num_layers=values["NUM_LAYERS"],
            num_heads=values["NUM_HEADS"],
            hidden_dim=values["HIDDEN_DIM"],
            max_ngram=5,
            embedding_norm=True,
        )
    )
    assert 2.5e6 < model.count_params() < 3.4e6
    assert "a file of three megabytes" in notebook.cells[0].source.replace("\n", " ")
