"""The pre-tokenizers that GGUF files name: a new one is a row of `PRE_TOKENIZERS`."""

import dataclasses

from tokenizers import Regex, pre_tokenizers

from neo_keras.text.word_patterns import WORD_PATTERNS


@dataclasses.dataclass(frozen=True)
class PreTokenizer:
    """What a `tokenizer.ggml.pre` stands for."""

    names: tuple[str, ...]  # the first one is written
    parts: tuple  # of the library
    nfc: bool = False  # whether the tokenizer.json normalizes, which llama.cpp does not
    ignore_merges: bool = False
    add_bos: bool = False  # unless the file says otherwise

    def component(self):
        return self.parts[0] if len(self.parts) == 1 else pre_tokenizers.Sequence(list(self.parts))


def _split(pattern):
    return pre_tokenizers.Split(Regex(pattern), "isolated")


_BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
_GPT2 = pre_tokenizers.ByteLevel(add_prefix_space=False)


def _words(name):
    return _split(WORD_PATTERNS[name]), _BYTES


PRE_TOKENIZERS = (
    PreTokenizer(("gpt-2", "phi-2", "olmo", "mpt", "jais", "exaone4", "modern-bert"), (_GPT2,)),
    PreTokenizer(
        ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"),
        (pre_tokenizers.Digits(individual_digits=True), _GPT2),
    ),
    PreTokenizer(
        ("qwen2", "deepseek-r1-qwen", "megrez", "stablelm2", "hunyuan"), _words("qwen2"), nfc=True
    ),
    PreTokenizer(
        ("llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral", "lfm2"), _words("llama-bpe"),
        ignore_merges=True, add_bos=True,
    ),
    PreTokenizer(("dbrx", "smaug-bpe", "glm4", "chatglm-bpe"), _words("llama-bpe")),
    PreTokenizer(("gpt-4o", "llama4"), _words("gpt-4o")),
    PreTokenizer(("tekken",), _words("tekken"), ignore_merges=True, add_bos=True),
    PreTokenizer(  # of files that do not say
        ("default",),
        (
            _split(r"[\p{P}\$\+<=>\^~\|]+"), _split(WORD_PATTERNS["gpt-2"]), _split(r"\p{N}+"),
            _split("[0-9][0-9][0-9]"), _BYTES,
        ),
    ),
)  # fmt: skip
