"""Tokenizers whose added tokens are hard to keep whole, and texts that are full of them."""

import json
import random

import tokenizers
from tiny_tokenizers import MAKE
from tokenizers import AddedToken

from neo_keras.text import tokenizer_models

# Some hold what a text is cut at, some overlap themselves or others, some are ordinary words. Where
# two overlap, those that are not normalized come first.
FIRST = ["<|endoftext|>", "[END OF TEXT]", "<a>", "<a>b", "User:", ". ", "a. b"]
SECOND = ["a a", "x<a>y", "\n\n", "the", "日本語。日本", " e\u0301.", "  ", "本", "User: the"]
WORDS = [
    *"ab.xy<>\n。日😀½\x85\u3000",
    "the",
    " the",
    " a",
    "a a",
    "日本語",
    "e\u0301",
    "'ll",
    "User",
]
WORDS += ["<unk>", "Ġthe", " END OF TEXT]", "\r\n", "?!", "x_1"]


def gpt2_like():
    """A byte-level BPE as GPT-2's file is: empty affixes instead of none."""
    fields = json.loads(tokenizer_models.train_bpe([strewn_text(0, 3000)], 400).to_str())
    fields["model"] |= {"continuing_subword_prefix": "", "end_of_word_suffix": ""}
    return tokenizers.Tokenizer.from_str(json.dumps(fields))


MAKE_PLAIN = {**MAKE, "gpt2": gpt2_like}


def with_added_tokens(name: str) -> tokenizers.Tokenizer:
    """Makes one of `MAKE_PLAIN`, with all of these added tokens."""
    hf = MAKE_PLAIN[name]()
    hf.add_special_tokens([AddedToken(token, normalized=False) for token in FIRST])
    hf.add_tokens(SECOND)
    return hf


def strewn_text(seed: int, num_chars: int) -> str:
    """A text with added tokens, some of them broken off, at random places."""
    parts = random.Random(seed).choices([*WORDS, *FIRST, *SECOND], k=num_chars)
    return "".join(parts)[:num_chars]
