"""Examples: from files to what of them is trained, and to rows."""

import gzip
import warnings

import imported_tokenizers
import numpy as np
import pytest
import tokenizers
from chat_templates import CHATML
from example_files import completions, make_tokenizer, text, write

from neo_keras.commands import generate_command
from neo_keras.config import ModelConfig
from neo_keras.errors import InputError
from neo_keras.text.corpus import Corpus, open_corpus
from neo_keras.text.example_forms import DOCUMENT, RECORD_FORMS
from neo_keras.text.examples import ExampleCorpus
from neo_keras.text.packing import make_example, pack
from neo_keras.text.tokenizer import Tokenizer
from neo_keras.text.tokenizer_config import TokenizerConfig

TOKENIZER = make_tokenizer()
END = TOKENIZER.end_token_id


def open_examples(*paths, column=None, tokenizer=TOKENIZER):
    return open_corpus([str(path) for path in paths], column, tokenizer=tokenizer)


def tokenize(corpus, seq_len=23, tokenizer=TOKENIZER):
    return corpus.tokenize(tokenizer, ModelConfig(tokenizer.vocab_size, max_seq_len=seq_len))


def contents(corpus):
    """Of training and validation, sorted."""
    return sorted(example.content for example in [*corpus.training, *corpus.validation])


def test_what_is_a_corpus_of_examples(tmp_path):
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(f"the text of {name}\r\n")
    (tmp_path / "empty.txt").write_text("\n")
    assert isinstance(open_examples(tmp_path / "a.txt"), Corpus)
    assert isinstance(open_examples(tmp_path, tokenizer=None), Corpus)
    corpus = open_examples(tmp_path)
    assert isinstance(corpus, ExampleCorpus) and corpus.has_examples
    assert contents(corpus) == ["the text of a.txt\n", "the text of b.txt\n"]
    (tmp_path / "r.jsonl").write_text('{"text": "x"}\n')
    assert contents(open_examples(tmp_path))[2] == "x"  # files and records are both documents


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson.gz", "a.csv", "a.tsv", "a.parquet"])
def test_documents_of_records(tmp_path, name):
    from record_files import write as write_records

    texts = ["you", "", None, "été the", "you you"]
    path = write_records(tmp_path / name, texts, "story")
    assert contents(open_examples(path, column="story")) == ["you", "you you", "été the"]


def test_completions_of_gzip_with_other_fields(tmp_path):
    records = [{**record, "id": i} for i, record in enumerate(completions())]
    path = write(tmp_path / "a.jsonl", records)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress((tmp_path / "a.jsonl").read_bytes()))
    with pytest.warns(UserWarning, match="only 'prompt' and 'completion' is used, not 'id'"):
        corpus = open_examples(tmp_path / "b.jsonl.gz")
    assert contents(corpus) == sorted([r["prompt"], r["completion"]] for r in completions())
    with pytest.warns(UserWarning):
        assert open_examples(path).sha256 == corpus.sha256
    changed = write(tmp_path / "a.jsonl", [*completions()[:-1], completions(31)[-1]])
    assert open_examples(changed).sha256 != corpus.sha256


def test_what_of_an_example_is_trained():
    tokenizer = make_tokenizer("char")
    (prompt, is_prompt_trained), (completion, is_trained) = RECORD_FORMS[-1].encode(
        tokenizer, ["the ", "x_1"]
    )
    assert tokenizer.decode(prompt) == "the " and not is_prompt_trained
    assert tokenizer.decode(completion) == "x_1<|endoftext|>" and is_trained
    example = make_example([(prompt, False), (completion, True)])
    assert example.token_ids.tolist() == prompt + completion
    assert example.weights.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    document = make_example(DOCUMENT.encode(tokenizer, "the"))
    assert tokenizer.decode(document.token_ids) == "the<|endoftext|>"
    assert document.weights.tolist() == [0, 1, 1, 1]  # nothing predicts the first one


def test_a_token_before_a_text():
    tokenizer = make_tokenizer(bos_token="<|endoftext|>", add_bos_token=True)
    document = make_example(DOCUMENT.encode(tokenizer, "you"))
    inner = TOKENIZER.encode("you").tolist()
    assert document.token_ids.tolist() == [END, *inner, END]
    assert document.weights.tolist() == [0, *[1] * len(inner), 1]
    completion = make_example(RECORD_FORMS[-1].encode(tokenizer, ["you", " the"]))
    assert completion.token_ids.tolist() == [END, *inner, *TOKENIZER.encode(" the"), END]


def test_a_completion_goes_on_from_its_prompt():
    """A tokenizer that puts a space before a text puts none before what goes on from another."""
    tokenizer = Tokenizer(imported_tokenizers.llama2()).with_end_token()
    assert tokenizer.adds_prefix
    (prompt, _), (completion, _) = RECORD_FORMS[-1].encode(tokenizer, ["the", "se"])
    assert tokenizer.decode([*prompt, *completion[:-1]]) == "these"
    assert prompt == tokenizer.encode("the").tolist()


def test_documents_without_an_end_token_end_as_they_do_in_a_text():
    tokenizer = Tokenizer.characters_of("the\n ")
    ((_, _), (token_ids, _)) = DOCUMENT.encode(tokenizer, "the")
    assert tokenizer.decode(token_ids) == "the\n\n"
    with pytest.raises(InputError, match="a token that ends a text, got one without"):
        RECORD_FORMS[-1].encode(tokenizer, ["the", "the"])


def test_validation_is_a_tenth_drawn_and_always_the_same(tmp_path):
    records = [{"text": text(i, 4)} for i in range(97)]
    corpus = open_examples(write(tmp_path / "a.jsonl", records))
    assert len(corpus.validation) == 9 and len(corpus.training) == 88
    places = [int(example.place.split()[-1]) for example in corpus.validation]
    assert len(set(places)) == 9 and min(places) < 30 and max(places) > 60
    again = open_examples(tmp_path / "a.jsonl")
    assert [e.place for e in again.validation] == [e.place for e in corpus.validation]


def test_copies_stay_on_one_side(tmp_path):
    records = [{"text": text(i % 20, 4)} for i in range(60)]
    with pytest.warns(UserWarning) as caught:
        corpus = open_examples(write(tmp_path / "a.jsonl", records))
    (warning,) = caught
    assert str(warning.message).startswith(
        "4 of 60 documents are copies of some that are validated"
    )
    assert f"{corpus.validation[0].content[:40]}" in str(warning.message) or "line" in str(warning)
    validated = {example.content for example in corpus.validation}
    assert len(validated) == len(corpus.validation) == 2
    assert len(corpus.training) == 54  # copies of each other stay
    assert not validated & {example.content for example in corpus.training}


def test_long_completions_are_cut_at_the_end(tmp_path):
    records = completions(20)
    records[3]["completion"] += " the" * 40
    records[5]["prompt"] += " the" * 40
    path = write(tmp_path / "a.jsonl", records)
    with pytest.warns(UserWarning, match="are longer than 31 tokens, and are cut at the end") as w:
        tokenized = tokenize(open_examples(path), seq_len=31)
    assert "2 of 18 prompts with completions" in str(w[0].message)
    assert "; 1 of them have nothing left to train on" in str(w[0].message)
    assert tokenized.training.segments.max(axis=1).sum() == 17
    with pytest.raises(InputError, match="none of 18 .* has a token to train on within 2 tokens"):
        tokenize(open_examples(path), seq_len=2)


def test_characters_are_those_of_the_trained_tokens(tmp_path):
    """Also of those that are a part of a character; end tokens have none."""
    path = write(tmp_path / "a.jsonl", completions())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        corpus = open_examples(path)
        tokenized = tokenize(corpus, seq_len=97)
    num_chars = sum(len(example.content[1]) for example in corpus.training)
    assert tokenized.training.num_chars == num_chars
    ends = len(corpus.training)
    num_tokens = ends + sum(len(TOKENIZER.encode(e.content[1])) for e in corpus.training)
    assert tokenized.training.num_tokens == num_tokens
    bits = 1.7 / np.log(2) * num_tokens / num_chars
    assert tokenized.training.bits_per_char(1.7) == pytest.approx(bits)
    assert tokenized.training.unknown_share == 0


def test_unknown_tokens_are_counted():
    tokenizer = make_tokenizer("char")
    packed = pack([make_example(DOCUMENT.encode(tokenizer, "xQQ"))], 7, tokenizer)
    assert (packed.num_tokens, packed.num_unknown, packed.num_chars) == (3, 2, 2)
    assert packed.unknown_bytes == 4


def test_what_is_kept_of_the_validation_part(tmp_path, monkeypatch):
    corpus = open_examples(write(tmp_path / "a.jsonl", completions()))
    expected = "".join("".join(e.content) + "<|endoftext|>" for e in corpus.validation)
    assert corpus.excerpt == expected
    tokenized = tokenize(corpus, seq_len=97)
    assert tokenized.sample_prompts[0] == corpus.validation[0].content[0]
    assert tokenized.sample_questions == tokenized.sample_prompts
    rows = tokenized.validation
    assert len(rows.token_ids) == len(TOKENIZER.encode(expected))
    monkeypatch.setattr("neo_keras.text.examples.MAX_TAIL_CHARS", 17)
    assert corpus.excerpt == expected[:17]


def test_the_description(tmp_path):
    records = [{"text": text(i, 5)} for i in range(40)]
    tokenized = tokenize(open_examples(write(tmp_path / "a.jsonl", records)))
    packed = tokenized.training
    assert tokenized.description == (
        f"36 documents to train on ({len(packed.token_ids):,} tokens, of which "
        f"{packed.num_tokens:,} are trained, in {len(packed)} rows of {packed.rows.shape[1] - 1}, "
        f"{packed.fill:.1%} full), 4 to "
        "validate on"
    )
    assert tokenized.sample_prompts == ()
    assert packed.num_tokens == len(packed.token_ids) - 36
    assert tokenized.num_training_rows == len(packed)


def said(*contents, system=None):
    """A conversation that begins with the user's words."""
    messages = [{"role": "system", "content": system}] if system else []
    roles = ("user", "assistant") * len(contents)
    return {"messages": messages + [dict(role=r, content=c) for r, c in zip(roles, contents)]}


@pytest.fixture(scope="module")
def chat_tokenizer():
    """With ChatML's template and markers, as Qwen's."""
    hf = tokenizers.Tokenizer.from_str(TOKENIZER.to_json())
    hf.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    config = TokenizerConfig(eos_token="<|endoftext|>", chat_template=CHATML)
    return Tokenizer(hf, config)


def test_of_a_conversation_the_assistants_turns_are_trained(tmp_path, chat_tokenizer):
    records = [said(text(i, 2), text(i, 3), "you", "été", system="the") for i in range(12)]
    path = write(tmp_path / "a.jsonl", records)
    corpus = open_examples(path, tokenizer=chat_tokenizer)
    tokenized = tokenize(corpus, 211, chat_tokenizer)
    assert tokenized.description.startswith("11 conversations to train on (")
    rows = tokenized.validation
    (first,) = corpus.validation
    contents = [message["content"] for message in first.content]
    turns = (
        "<|im_start|>system\n{}<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
    )
    rest = "{}<|im_end|>\n<|im_start|>user\nyou<|im_end|>\n<|im_start|>assistant\nété<|im_end|>\n"
    rendered = (turns + rest).format(*contents)
    assert chat_tokenizer.decode(rows.token_ids) == corpus.excerpt == rendered
    trained = chat_tokenizer.decode(rows.rows[rows.weights > 0])
    assert trained == f"{contents[2]}<|im_end|>été<|im_end|>"
    assert rows.num_chars == len(contents[2]) + len("été")
    assert tokenized.sample_prompts[0] == turns.format(*contents)
    assert tokenized.sample_questions == (contents[1],)
    assert (
        generate_command("run", corpus.excerpt, chat_tokenizer) == "python generate.py run --chat"
    )
    for text_end in ("<|endoftext|>", "<|im_end|>"):
        assert "--chat" not in generate_command("run", f"a\nyou{text_end}", chat_tokenizer)
    # Cut within the first answer: what is left of that is trained.
    prompt_len = len(chat_tokenizer.encode(tokenized.sample_prompts[0]))
    with pytest.warns(UserWarning, match="conversations are longer than"):
        cut = tokenize(corpus, prompt_len, chat_tokenizer).validation
    assert cut.token_ids.tolist() == rows.token_ids[: prompt_len + 1].tolist()
    assert cut.num_tokens == 1


def test_conversations_that_the_model_cannot_read(tmp_path, chat_tokenizer):
    path = write(tmp_path / "a.jsonl", [said("you", "the"), said("the", "you")])
    with pytest.raises(InputError, match=r"a.jsonl, line \d: the model has no chat template"):
        tokenize(open_examples(path))
    config = TokenizerConfig(eos_token="<|endoftext|>", chat_template="{{ raise_exception('no') }}")
    tokenizer = Tokenizer(tokenizers.Tokenizer.from_str(chat_tokenizer.to_json()), config)
    with pytest.raises(InputError, match=r"a.jsonl, line \d: .*got one that says 'no'"):
        tokenize(open_examples(path, tokenizer=tokenizer), tokenizer=tokenizer)


def test_a_prompt_does_not_begin_twice():
    hf = tokenizers.Tokenizer.from_str(TOKENIZER.to_json())
    hf.add_special_tokens(["<s>"])
    template = "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}"
    config = TokenizerConfig("<|endoftext|>", "<s>", True, template)
    tokenizer, form = Tokenizer(hf, config), RECORD_FORMS[0]
    messages = said("you", "the")["messages"]
    assert tokenizer.decode(form.encode(tokenizer, messages)[0][0]) == "<s>you"
    assert form.prompt(tokenizer, messages) == "you"
