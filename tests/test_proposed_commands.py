"""A command that is proposed works when it is pasted into a shell."""

import re
import shlex

import pytest
from chat_templates import CHATML
from tiny_models import ALPHABET, SHAPE

from neo_keras.commands import example_prompt, generate_command, quoted
from neo_keras.config import ModelConfig, TrainingConfig
from neo_keras.export.model_card import write_model_card
from neo_keras.model.gpt import GPT
from neo_keras.run_directory.directory import RunDirectory
from neo_keras.text.tokenizer import Tokenizer, make_tokenizer
from neo_keras.text.tokenizer_config import TokenizerConfig
from neo_keras.training.progress import describe_end, describe_stop

METRICS = {"val_loss": 1.0, "val_bits_per_char": 1.0, "train_seconds": 1, "tokens_per_second": 1,
           "compile_seconds": 1, "stopped_early": False, "step": 3, "best_step": 3}  # fmt: skip


@pytest.fixture
def make_run(tmp_path, monkeypatch):
    """Makes a run without weights, below the working directory."""
    monkeypatch.chdir(tmp_path)

    def make(validation_text, tokenizer=None, path="run", **changes):
        tokenizer = tokenizer or Tokenizer.characters_of(ALPHABET)
        config = ModelConfig(**{**SHAPE, "vocab_size": tokenizer.vocab_size, **changes})
        run = RunDirectory(path)
        training_config = TrainingConfig(steps=METRICS["step"])
        data = {"sources": [], "sha256": ""}
        run.create(config, training_config, data, tokenizer, validation_text)
        return run

    return make


def prompt_of(run):
    return example_prompt(run.load_validation_text(), run.load_tokenizer())


def command_of(run, model):
    return generate_command(model, run.load_validation_text(), run.load_tokenizer())


def test_a_plain_text_may_have_an_end_token():
    tokenizer = Tokenizer.characters_of("abc\n").with_end_token()
    assert example_prompt("c\nab<|endoftext|>\nbc\n", tokenizer) == "ab"


@pytest.mark.parametrize(
    ("text", "prompt"),
    [
        ("ef\nab cd  ef gh ij\n", "ab cd ef"),
        ("amid\n\n \n  abc\nd\n", "abc"),
        ("a\na € b\nOnce\nab\n", "ab"),  # what the model does not know is passed over
        ("a\n" + "abc" * 50, "abc" * 13 + "a"),
        ("a\nWas\nOnce", ""),
        ("", ""),
    ],
)
def test_the_prompt_is_one_that_the_model_knows(make_run, text, prompt):
    assert prompt_of(make_run(text)) == prompt


def test_words_are_not_cut_to_what_is_unknown(make_run):
    long_word = "abcdefghij" * 5
    tokenizer = make_tokenizer("word", f"{long_word} ab cd\n" * 9)
    assert tokenizer.unknown_in(long_word) == []
    run = make_run(f"ab\n{long_word}\nab cd ab\n", tokenizer)
    assert prompt_of(run) == "ab cd ab"


def test_the_prompt_of_pairs_is_a_source(make_run):
    tokenizer = Tokenizer.characters_of(ALPHABET).with_end_token()
    text = '{"source": "%s", "target": "b"}\n{"source": "cd e", "target": "f"}\n' % ("a" * 60)
    pairs = dict(architecture="encoder-decoder", end_token_id=13, max_ngram=1)
    assert prompt_of(make_run(text, tokenizer, **pairs)) == "cd e"


@pytest.mark.parametrize("path", ["my runs/it's 1", "-run", "a;b $HOME", "plain"])
@pytest.mark.parametrize("line", ["ab cd", "-a b", 'a\'b "c"'])
def test_paths_and_prompts_are_one_word_each(make_run, path, line):
    run = make_run(f"a\n{line}\n", Tokenizer.characters_of(ALPHABET + "-'\""), path=path)
    assert shlex.split(quoted(path))[0] in (path, f"./{path}")
    python, script, model, *rest = shlex.split(command_of(run, run.path))
    assert (python, script) == ("python", "generate.py")
    assert RunDirectory(model).read_config() and not model.startswith("-")
    assert rest == (["--prompt=-a b"] if line.startswith("-") else ["--prompt", line])
    end = describe_end(run, METRICS)[-1]
    assert f"python export.py {quoted(path)}" in end and command_of(run, path) in end
    assert "best.keras" not in str(describe_end(run, METRICS))
    best = {"best_step": 2, "best_val_loss": 0.5, "best_val_bits_per_char": 0.7}
    said = "best.keras is of step 2, validation loss 0.5000 (0.700 bits per character)"
    assert describe_end(run, {**METRICS, **best})[-2] == said
    stopped = describe_stop(run, {**METRICS, "step": 1})[-1]
    assert stopped.endswith(f"python train.py --run {quoted(path)} --resume")


@pytest.mark.parametrize(
    ("path", "word"),
    [
        ("it's", '"it\'s"'),
        ("it's $HOME", "'it'\"'\"'s $HOME'"),  # within double quotes a shell would replace it
        ("plain", "plain"),
        ("a b", "'a b'"),
    ],
)
def test_an_apostrophe_is_one_that_a_person_can_read(path, word):
    assert quoted(path) == word
    assert shlex.split(word) == [path]


def test_the_card_proposes_a_command_too(make_run, tmp_path):
    run = make_run("a\nab cd\n")
    row = {
        "file": "model-int8.tflite",
        "format": "tflite",
        "size_bytes": 5,
        "bytes_per_parameter": 1.0,
        "loss": 1.0,
    }
    rows = [{**row, "bits_per_char": 1.0, "greedy_agreement": 1.0}]
    text, tokenizer = run.load_validation_text(), run.load_tokenizer()
    write_model_card(tmp_path / "README.md", GPT(run.model_config), tokenizer, rows, [], text)
    command = re.search("```sh\n(.*)\n```", (tmp_path / "README.md").read_text())[1]
    assert command == "python generate.py model-int8.tflite --prompt 'ab cd'"


def test_a_conversation_whose_markers_begin_and_end_texts(make_run):
    """As those of SmolLM2-Instruct."""
    hf = Tokenizer.characters_of(ALPHABET)._hf
    hf.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    markers = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}
    tokenizer = Tokenizer(hf, TokenizerConfig(chat_template=CHATML, **markers))
    said = "<|im_start|>user\nab<|im_end|>\n<|im_start|>assistant\ncd<|im_end|>\n"
    assert command_of(make_run(said, tokenizer), "run") == "python generate.py run --chat"
    plain = make_run("ab\ncd<|im_end|>ef\n", tokenizer, path="plain")
    assert command_of(plain, "plain") == "python generate.py plain --prompt cd"
