"""Texts that are hard to cut."""

import random
import re

CHUNK_BYTES = 61
# Words, line breaks and characters of up to 4 bytes, for chunks of 61 bytes to cut anywhere.
WORDS = ["the ", "été ", "\r\n", "日本", "。", "x\n", "can't, ", "😀", "\r", "  ", "reading. "]


def words(seed, count=1500):
    return "".join(random.Random(seed).choices(WORDS, k=count))


def whole(folder):
    """The text, by the plainest means."""
    text = ""
    for path in sorted(folder.iterdir()):
        if text and text[-1] != "\n":
            text += "\n"
        text += path.read_bytes().decode().removeprefix("\ufeff")
    return re.sub("\r\r?\n|\r", "\n", text)
