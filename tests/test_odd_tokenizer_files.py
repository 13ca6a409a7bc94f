"""Whatever a tokenizer.json holds, it is refused in one line, or encodes as the library does."""

import copy
import json

import pytest
import tokenizers
from tiny_tokenizers import MAKE, SAMPLE

from neo_keras.errors import InputError
from neo_keras.text.tokenizer import Tokenizer

FIELDS = {kind: json.loads(make().to_str()) for kind, make in MAKE.items()}
SIZE = len(FIELDS["bpe"]["model"]["vocab"])
MERGES = FIELDS["bpe"]["model"]["merges"]


def changed(kind="bpe", vocab=None, model=None, **changes) -> str:
    """The text of a tokenizer.json; None takes away."""
    fields = copy.deepcopy(FIELDS[kind])
    for part, of_part in (
        (fields["model"]["vocab"], vocab),
        (fields["model"], model),
        (fields, changes),
    ):
        part |= of_part or {}
        for name in [name for name in part if part[name] is None]:
            del part[name]
    return json.dumps(fields)


def added(content="<x>", token_id=SIZE, **flags) -> dict:
    names = ("single_word", "lstrip", "rstrip", "normalized", "special")
    return {"id": token_id, "content": content, **dict.fromkeys(names, False), **flags}


REFUSED = {
    "no model": json.dumps({"version": "1.0", "added_tokens": []}),
    "model of another type": changed(model={"type": 3}),
    "vocabulary is a list": changed(model={"vocab": ["a"]}),
    "vocabulary is missing": changed(model={"vocab": {}, "merges": None}),
    "ids are text": changed(vocab={"a": "1"}),
    "ids are fractions": changed(vocab={"a": 0.5}),
    "a negative id": changed(vocab={"a": -1}),
    "a huge id": changed(vocab={"a": 2**32 - 1}),
    "an id of 40 bits": changed(vocab={"a": 2**40}),
    "an id twice": changed("char", vocab={"a": 1}),
    "the unknown token is missing": changed("char", vocab={"<unk>": None}),
    "a merge of unknown tokens": changed(model={"merges": [*MERGES, ["zz", "qq"]]}),
    "a merge without a result": changed(model={"merges": [*MERGES, ["<", ">"]]}),
    "a merge of three": changed(model={"merges": [*MERGES, ["a", "b", "c"]]}),
    "a merge of numbers": changed(model={"merges": [[1, 2]]}),
    "a merge that is a word": changed(model={"merges": ["ab"]}),
    "an empty vocabulary": changed(model={"vocab": {}, "merges": []}),
    "dropout": changed(model={"dropout": 0.5}),
    # The library gives up on this one, with its stack on stderr and an error that is no Exception.
    "a damaged normalizer": changed(
        normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"}
    ),
    "a damaged pattern": changed(pre_tokenizer={"type": "Split", "pattern": {"Regex": "(["}}),
    "nested without end": '{"normalizer":' + '{"type":"Sequence","normalizers":[' * 10_000,
    "added tokens are a number": changed(added_tokens=3),
    "an added token without flags": changed(added_tokens=[{"id": SIZE, "content": "<x>"}]),
    "a gap before an added token": changed(added_tokens=[added(token_id=SIZE + 7)]),
    "an added token's id twice": changed(added_tokens=[added(), added("<y>")]),
    "an added token's id is a byte's": changed(added_tokens=[added(token_id=5)]),
    "added tokens in another order": changed(added_tokens=[added("<y>", SIZE + 1), added()]),
    "an added token of no letters": changed(added_tokens=[added("")]),
    "half a surrogate pair": changed("char").replace('"a": ', '"\\ud800": '),
    "not a number": '{"model": NaN}',
    "a byte order mark": "\ufeff" + changed(),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_line(name, capfd):
    with pytest.raises(InputError, match="^the text: expected [^\n]*$"):
        Tokenizer.from_json(REFUSED[name])
    assert capfd.readouterr() == ("", "")


ACCEPTED = {
    "a normalizer": changed(normalizer={"type": "NFKC"}),
    "a byte only as an added token": changed(
        "byte",
        vocab={"õ": None, "ÿ": FIELDS["byte"]["model"]["vocab"]["õ"]},
        added_tokens=[added("õ", 255)],
    ),
    "a byte is missing": changed(vocab={"õ": None}),
    "ignore_merges": changed(model={"ignore_merges": True}),
    "byte_fallback": changed(model={"byte_fallback": True}),
    "fuse_unk": changed(model={"fuse_unk": True, "unk_token": "<none>"}),
    "a merge twice": changed(model={"merges": [*MERGES, MERGES[0], MERGES[3]]}),
    "merges of the older form": changed(model={"merges": [" ".join(merge) for merge in MERGES]}),
    "no type of the model": changed(model={"type": None}),
    "an added token that is an ordinary one": changed(
        added_tokens=[added("the", FIELDS["bpe"]["model"]["vocab"]["the"])]
    ),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_taken_as_the_library_takes_it(name):
    tokenizer = Tokenizer.from_json(ACCEPTED[name])
    ids = tokenizer.encode(SAMPLE).tolist()
    assert ids == tokenizers.Tokenizer.from_str(ACCEPTED[name]).encode(SAMPLE).ids
    if "byte is missing" not in name and "normalizer" not in name:
        assert tokenizer.decode(ids) == SAMPLE
