"""Generate text with a trained model."""

import itertools
import re
import secrets
import sys

from neo_keras.environment import prepare_for_keras
from neo_keras.errors import ArgumentParser, FailedError, InputError, one_line_errors, utf8_path

ESCAPES = {"n": "\n", "t": "\t", "\\": "\\"}
AT_LEAST = {
    "num_beams": 1,
    "threads": 1,
    "seq_len": 2,
    "max_tokens": 0,
    "num_samples": 0,
    "seed": 0,
}


# fmt: off
def parse_arguments():
    parser = ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("model", nargs="?", type=utf8_path, metavar="MODEL", default="runs/shakespeare",
        help="run directory, SavedModel directory or .tflite file; or weights of others: a folder "
        "of Hugging Face's transformers, of PEFT or of KerasHub, a .gguf file, or "
        "hf://OWNER/NAME [%(default)s]")
    prompt = parser.add_mutually_exclusive_group()
    prompt.add_argument("--prompt", metavar="TEXT", default="", help="the text to continue; for a "
        "model that was trained on pairs, a source; with --chat, a message [none]")
    prompt.add_argument("--prompt-file", metavar="FILE", help="file with the text to continue; "
        "- for stdin")
    prompt.add_argument("--interactive", action="store_true", help="continue each line that you "
        "type, or that a pipe gives; Ctrl-C ends a text, Ctrl-D all of it")
    add("--chat", action="store_true", help="a conversation with a model that has a chat template: "
        "it answers each line that you type, or that a pipe gives, or --prompt alone; Ctrl-C ends "
        "an answer, Ctrl-D the conversation")
    add("--system", metavar="TEXT", help="what the model is told before a conversation")
    add("--max-tokens", type=int, metavar="N", default=500, help="of a text or an answer, at most "
        "[%(default)s]")
    temperature = parser.add_mutually_exclusive_group()
    temperature.add_argument("--temperature", type=float, metavar="X", default=0.8,
        help="of sampling; below 1: safer, above: wilder [%(default)s]")
    temperature.add_argument("--greedy", dest="temperature", action="store_const", const=0,
        help="always take the most likely token: temperature 0")
    add("--top-k", type=int, metavar="N", help="sample from the N most likely tokens only")
    add("--top-p", type=float, metavar="X", help="nucleus sampling: sample from the most likely "
        "tokens that together reach this probability")
    add("--min-p", type=float, metavar="X", help="sample from tokens at least this likely, as a "
        "share of the most likely one")
    add("--repetition-penalty", type=float, metavar="X", default=1.0, help="above 1: less of the "
        "tokens that the text has already, prompt included [off]")
    add("--num-beams", type=int, metavar="N", default=1, help="beam search with N beams instead of "
        "sampling; not from a .tflite [off]")
    add("--seed", type=int, metavar="N", help="of sampling; same seed, same text [a new one]")
    add("--stop", metavar="TEXT", action="append", default=[], type=unescaped, help="stop string: "
        "end before this text, in which \\n is a line break, \\t a tab and \\\\ a backslash; "
        "several times: before the first to come")
    add("--num-samples", type=int, metavar="N", default=1, help="how many texts, each with the "
        "next seed [%(default)s]")
    add("--seq-len", type=int, metavar="N", help="context of weights of others, in tokens "
        "[1024, or as long as they have]")
    add("--threads", type=int, metavar="N", help="to compute with, from a .tflite [1 or as many as "
        "there are cores, at most 4: the faster of the two]")
    return parser.parse_args()
# fmt: on


def unescaped(text):
    """What is meant by escapes, which a shell leaves as they are."""
    return re.sub(r"\\[nt\\]", lambda match: ESCAPES[match[0][1]], text)


def check_arguments(args):
    for name, least in AT_LEAST.items():
        if (value := getattr(args, name)) is not None and value < least:
            raise InputError(f"--{name.replace('_', '-')} must be at least {least}, got {value}")
    if args.seed is not None and args.seed >= 2**32:
        raise InputError(f"--seed must be below 2**32, got {args.seed}")
    if args.interactive and args.num_samples != 1:
        raise InputError("--interactive writes one text for each line: leave out --num-samples")
    if args.system is not None and not args.chat:
        raise InputError("--system begins a conversation: add --chat")
    for name, default in {"interactive": False, "num_samples": 1, "num_beams": 1}.items():
        if args.chat and getattr(args, name) != default:
            raise InputError(f"--chat answers as it goes: leave out --{name.replace('_', '-')}")


def read_prompt(args):
    from neo_keras.text.formats import normalize_string, read_plain_text

    if args.prompt_file is None:
        return normalize_string(args.prompt)
    path = "/dev/stdin" if args.prompt_file == "-" else args.prompt_file
    try:
        return "".join(read_plain_text(path))
    except OSError as error:
        raise InputError(f"cannot read the prompt file {args.prompt_file} ({error})") from None


def write_samples(args):
    from neo_keras.generation.decoding import generate_text
    from neo_keras.generation.interactive import answer_lines, write_chunks
    from neo_keras.generation.load import load_engine
    from neo_keras.generation.sampler import OPTIONS, Sampler

    check_arguments(args)
    sampler = Sampler(**{name: getattr(args, name) for name in OPTIONS})
    prompt = read_prompt(args)
    prepare_for_keras()
    engine, tokenizer = load_engine(args.model, args.threads, args.seq_len)
    if args.num_beams > 1:
        engine.check_beam_search()
    seed = secrets.randbits(32) if args.seed is None else args.seed
    seeds, stop_strings = itertools.count(seed), list(filter(None, args.stop))

    def chunks_after(prompt):
        settings = args.max_tokens, sampler, next(seeds), stop_strings, args.num_beams
        return generate_text(engine, tokenizer, prompt, *settings)

    beginning = [prompt] if engine.end_token_id is None else []  # a source is another text
    if args.chat:
        chunks_after, beginning = conversation_with(engine, tokenizer, args, sampler, seeds), []
    if args.interactive or (args.chat and not prompt):
        return answer_lines(chunks_after)
    for i in range(args.num_samples):
        write_chunks(itertools.chain(beginning, chunks_after(prompt)))
        if i + 1 < args.num_samples:
            print()
    if args.seed is None and sampler.temperature and args.num_beams == 1:
        print(f"(--seed {seed} writes this again)", file=sys.stderr)


def conversation_with(engine, tokenizer, args, sampler, seeds):
    """A function that answers one message after the other."""
    from neo_keras.generation.chat import Conversation
    from neo_keras.text.formats import normalize_string

    system = None if args.system is None else normalize_string(args.system)
    conversation, stop_strings = Conversation(engine, tokenizer, system), [*filter(None, args.stop)]

    def chunks_after(message):
        settings = args.max_tokens, sampler, next(seeds), stop_strings
        return conversation.answer(message, *settings)

    return chunks_after


if __name__ == "__main__":
    arguments, is_stdout_closed = parse_arguments(), sys.stdout is None
    with one_line_errors():
        if is_stdout_closed:
            raise FailedError("stdout is closed, and the text goes there: open it, or redirect it")
        write_samples(arguments)
