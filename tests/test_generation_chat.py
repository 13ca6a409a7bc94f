"""A conversation: the cache is kept, a turn ends, the oldest turns are forgotten."""

import dataclasses
import re
import types

import pytest
from chat_templates import TEMPLATES, chat_tokenizer
from scripted_engine import ScriptedRunner, one_hot
from scripts import run_script
from test_interactive import Terminal, command
from tiny_models import make_run

from neo_keras.errors import InputError
from neo_keras.generation.chat import Conversation
from neo_keras.generation.decoding import generate_text
from neo_keras.generation.engine import Engine
from neo_keras.generation.sampler import GREEDY, Sampler
from neo_keras.text.chat import encode_prompt
from neo_keras.text.tokenizer import Tokenizer

TOKENIZER = chat_tokenizer("chatml")
END = TOKENIZER.encode("<|im_end|>")[0].item()
ASSISTANT = TOKENIZER.encode("<|im_start|>assistant\n").tolist()


class Runner(ScriptedRunner):
    """Answers with the letters of `answers`, one answer after the other, and ends each turn."""

    def __init__(self, max_seq_len, answers, end=END):
        self.answers, self.end, self.num_ended = answers, end, 0
        super().__init__(max_seq_len, 8, self.next_logits)

    def next_logits(self, held):
        starts = [i for i in range(len(held)) if held[: i + 1][-len(ASSISTANT) :] == ASSISTANT]
        said = TOKENIZER.decode(held[starts[-1] + 1 :])
        answer = self.answers[min(len(starts), len(self.answers)) - 1]
        rest = TOKENIZER.encode(answer[len(said) :]).tolist()
        return one_hot(rest[0] if rest else self.end, TOKENIZER.vocab_size)


def engine(answers, max_seq_len=128, **options):
    config = types.SimpleNamespace(
        vocab_size=TOKENIZER.vocab_size, max_seq_len=max_seq_len, num_speculative_tokens=0,
        architecture="decoder-only", end_token_id=None,
    )  # fmt: skip
    made = Engine(Runner(max_seq_len, answers, **options), config)
    made.chunk_size = 8
    return made


def answers(conversation, *messages, max_tokens=9):
    return ["".join(conversation.answer(text, max_tokens, GREEDY)) for text in messages]


def test_the_cache_is_kept():
    one = engine(["the", "a a"])
    conversation = Conversation(one, TOKENIZER, "S")
    assert answers(conversation, "Hi") == ["the"]
    calls, held = one._runner.calls, [*one._held]
    assert calls[0][:2] == ("prefill", 0)
    num_calls = len(calls)
    assert answers(conversation, "a") == ["a a"]
    assert ("reset",) not in calls
    # What was said is kept, all but the last token: it was sampled, and never read.
    assert calls[num_calls][:2] == ("prefill", len(held))
    assert [m["content"] for m in conversation.messages] == ["S", "Hi", "the", "a", "a a"]
    prompt = encode_prompt(TOKENIZER, conversation.messages[:-1])
    assert one._held[: len(prompt)] == prompt


@pytest.mark.parametrize("given", [[3, 4, 5, 6, 7], [3, 4], [3, 9, 9], [9], [3, 4, 5, 6, 7, 8, 9]])
def test_begin_goes_back_to_what_is_common(given):
    one = engine(["the"])
    one.prefill([3, 4, 5, 6, 7, 8])
    one._runner.calls.clear()
    one.begin(given, reuse=True)
    assert one._held == given[:-1] == one._runner.slots[: one.position].tolist()
    read = [call[1] for call in one._runner.calls]
    assert read == ([] if given[:2] == [3, 4] and len(given) < 8 else [1])[: len(given) // 3]


def test_special_tokens_end_a_turn():
    for end in (TOKENIZER.end_token_id, END):
        conversation = Conversation(engine(["the"], end=end), TOKENIZER)
        assert answers(conversation, "Hi") == ["the"]
        assert answers(conversation, "Hi", max_tokens=0) == [""]


def test_each_end_token_ends_a_plain_text():
    tokenizer = chat_tokenizer("roles", extra_eos_tokens=("<|user|>", "<|eot_id|>"))
    ids = tokenizer.encode("the a").tolist()
    for end in ("</s>", "<|user|>", "<|eot_id|>"):
        rule = [*ids, tokenizer.encode(end)[0].item()]
        one = engine(["x"])
        one._runner.logits_after = lambda held, rule=rule: one_hot(
            rule[(len(held) - 1) % len(rule)], tokenizer.vocab_size
        )
        assert "".join(generate_text(one, tokenizer, "\n", 20, GREEDY)) == "the a"


def test_a_turn_without_an_answer_is_forgotten():
    one = engine([" "])
    conversation = Conversation(one, TOKENIZER, "S")
    assert answers(conversation, "Hi") == [" "]
    one._runner.answers = ["a"]
    assert answers(conversation, "Ho") == ["a"]
    assert [m["content"] for m in conversation.messages] == ["S", "Ho", "a"]


def test_the_oldest_turns_are_forgotten(recwarn):
    size = len(encode_prompt(TOKENIZER, [{"role": "system", "content": "S"}, {"role": "user",
        "content": "one two"}]))  # fmt: skip
    one = engine(["the", "a", "b", "c"], max_seq_len=2 * size)
    conversation = Conversation(one, TOKENIZER, "S")
    answers(conversation, *["one two"] * 4, max_tokens=4)
    contents = [m["content"] for m in conversation.messages]
    assert contents[0] == "S" and len(contents) < 9 and contents[1] == contents[-2] == "one two"
    roles = [m["role"] for m in conversation.messages]
    assert roles == ["system", *["user", "assistant"] * (len(roles) // 2)]
    said = [str(warning.message) for warning in recwarn]
    assert said == [f"the conversation is longer than the context of {2 * size} tokens: its oldest "
                    "turns are forgotten"]  # fmt: skip
    before = [*conversation.messages]
    with pytest.raises(InputError, match=f"the message has .* and the context {2 * size}: write a"):
        answers(conversation, "one two" * 99)
    assert conversation.messages == before


def test_an_answer_ends_with_the_context():
    one = engine(["the a b c d e f g h"], max_seq_len=45)
    messages = [{"role": "user", "content": "a"}]
    room = 46 - len(encode_prompt(TOKENIZER, messages))
    answer = answers(Conversation(one, TOKENIZER), "a", max_tokens=99)[0]
    assert len(TOKENIZER.encode(answer)) == room and one.position == 45


def test_spaces_that_the_template_writes():
    """Of an answer that begins with the template's own space, the template writes one."""
    tokenizer = chat_tokenizer("{% for m in messages %}{{ '[' + m.content + ']' if m.role == 'user'"
                               " else ' ' + m.content + '</s>' }}{% endfor %}")  # fmt: skip
    conversation = Conversation(engine(["x"]), tokenizer)
    for said, kept in ((" the", "the"), ("  the", " the"), ("the", "the")):
        conversation.messages = [{"role": "user", "content": "a"},
                                 {"role": "assistant", "content": said}]  # fmt: skip
        conversation._settle()
        assert conversation.messages[1]["content"] == kept


@pytest.mark.parametrize("name, system, said", [
    (None, None, "has no chat template"), ("", None, "writes nothing"),
    ("{{ tools | length }}", None, "NoneType"), ("turns", "S", "The role system is not known"),
])  # fmt: skip
def test_refused(name, system, said):
    with pytest.raises(InputError, match=said):
        Conversation(engine(["x"]), chat_tokenizer(name), system)


def test_a_template_that_takes_no_empty_message():
    needy = "{% for m in messages %}{{ m.content or raise_exception('empty') }}{% endfor %}"
    conversation = Conversation(engine(["the"]), chat_tokenizer(needy + TEMPLATES["chatml"]))
    assert answers(conversation, "Hi") == ["the"]


@pytest.fixture(scope="module")
def chat_run(once):
    """A model with a template, whose answers are of any length."""

    def make(best):
        text = "<|im_start|>user\nthe a<|im_end|>\n<|im_start|>assistant\nthe 12 a's<|im_end|>\n"
        make_run(best.parent, steps=30, text=text * 60, tokenizer=TOKENIZER)

    return once("chat_run/best.keras", make).parent


@pytest.mark.parametrize("temperature", [0, pytest.param(0.8, marks=pytest.mark.exhaustive)])
def test_an_answer_is_that_of_a_fresh_prefill(chat_run, temperature):
    from neo_keras.generation.load import load_engine

    one, tokenizer = load_engine(chat_run)
    kept = Conversation(one, tokenizer)
    for seed, text in enumerate(["the", "a's 12", "日本"]):
        again = Conversation(load_engine(chat_run)[0], tokenizer)
        again.messages = [dict(message) for message in kept.messages]
        again._has_forgotten = kept._has_forgotten = True
        settings = 11, Sampler(temperature), seed
        assert "".join(kept.answer(text, *settings)) == "".join(again.answer(text, *settings))


def test_the_command(chat_run):
    options = ["--chat", "--seed", 3, "--max-tokens", 12]
    done = run_script("generate.py", chat_run, *options, stdin=b"the\n\na's\n")
    assert (done.returncode, done.stderr) == (0, "")
    once = run_script("generate.py", chat_run, *options, "--prompt", "the")
    assert (once.returncode, once.stderr) == (0, "")
    assert done.stdout.startswith(once.stdout) and len(done.stdout) > len(once.stdout)


def test_the_system_message(tmp_path):
    """The model is told it: one that knows no such role refuses."""
    config = dataclasses.replace(TOKENIZER.config, chat_template=TEMPLATES["turns"])
    tokenizer = Tokenizer.from_json(TOKENIZER.to_json(), config_text=config.to_json())
    make_run(tmp_path / "run", steps=1, text="the a" * 99, tokenizer=tokenizer, num_layers=1)
    done = run_script("generate.py", tmp_path / "run", "--chat", "--system", "S")
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch("error: [^\n]*The role system is not known[^\n]*\n", done.stderr)


@pytest.mark.exhaustive
def test_exported_models_answer_the_same(chat_run, tmp_path):
    options = [
        "--formats",
        "tflite,saved_model",
        "--quantize",
        "float32",
        "--out",
        tmp_path / "out",
    ]
    assert run_script("export.py", chat_run, *options).returncode == 0
    options = ["--chat", "--greedy", "--max-tokens", 11]
    lines = "the 12\na's\nthe the\n日本\na\n".encode()
    expected = run_script("generate.py", chat_run, *options, stdin=lines)
    assert (expected.returncode, expected.stdout.count("\n") >= 5) == (0, True)
    for name in ("model-float32.tflite", "saved_model"):
        done = run_script("generate.py", tmp_path / "out" / name, *options, stdin=lines)
        assert done == expected


@pytest.mark.parametrize("options, said", [
    ("--system S", "--system begins a conversation: add --chat"),
    ("--chat --interactive", "leave out --interactive"),
    ("--chat --num-samples 2", "leave out --num-samples"),
    ("--chat --num-beams 2", "leave out --num-beams"),
])  # fmt: skip
def test_options_that_do_not_go_together(chat_run, options, said):
    done = run_script("generate.py", chat_run, *options.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(f"error: [^\n]*{said}\n", done.stderr)


def test_at_a_terminal(chat_run):
    args = [str(a) if a != "--interactive" else "--chat" for a in command(chat_run)]
    terminal = Terminal([*args, "--max-tokens", "9"])
    terminal.read_until("> ")
    terminal.type("the " * 99 + "\n")
    assert "error: the message has" in terminal.read_until("\n> ")
    terminal.type("the\n")
    terminal.read_until("the\n")
    terminal.read_until("\n> ")
    terminal.type("\x04")
    assert terminal.end()[0] == 0
