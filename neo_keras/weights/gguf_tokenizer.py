"""A tokenizer as the metadata of a GGUF file has it, both ways."""

import json

from tokenizers import decoders, normalizers

from neo_keras.errors import InputError, shortened
from neo_keras.text.cuts import parts_of
from neo_keras.text.tokenizer import Tokenizer
from neo_keras.text.tokenizer_models import BYTE_TOKENS, IMPORTED
from neo_keras.weights.gguf_pre_tokenizers import PRE_TOKENIZERS

SPACE = "\u2581"  # how SentencePiece spells one
# The types of tokens.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
# The types of the fields that are read; of a list, of its items.
_FIELDS = {
    "model": str, "pre": str, "tokens": [str], "merges": [str], "scores": [float],
    "token_type": [int], "bos_token_id": int, "eos_token_id": int, "unknown_token_id": int,
    "add_bos_token": bool, "add_space_prefix": bool,
}  # fmt: skip
# What llama.cpp takes for the end where a file names none: a byte that no text has, spelled so.
_NEVER_WRITTEN = ("\u00ff", "<0xFF>")


def tokenizer_from_gguf(fields: dict) -> tuple[str, dict]:
    """Makes a tokenizer of the metadata of a GGUF file.

    Args:
        fields: Python values by their keys, such as "tokenizer.ggml.tokens".

    Returns:
        (the text of a `tokenizer.json`, the fields of a `tokenizer_config.json`).

    Raises:
        InputError: The file has no tokenizer, or one of another kind.
    """
    get = _getter(fields)
    _check_types(get)
    kind, tokens = get("model"), get("tokens")
    if kind not in _READ or not tokens:
        raise InputError(
            f"expected a GGUF file with a tokenizer of the model {' or '.join(_READ)}, got "
            f"{kind if tokens else 'no tokens'}: take the tokenizer.json of its Hugging Face folder"
        )
    types = get("token_type", [NORMAL] * len(tokens))
    scores = get("scores", tokens)
    if not len(types) == len(scores) == len(tokens) == len(set(tokens)):
        raise InputError(
            f"expected a GGUF file with tokens of their own, each with a type and a score, got "
            f"{len(tokens)} tokens, {len(set(tokens))} of them different, {len(types)} types and "
            f"{len(scores)} scores: fetch it again"
        )
    # Of rows that only fill the embedding up there is no token.
    vocab = {token: i for i, (token, t) in enumerate(zip(tokens, types)) if t != UNUSED}
    named = {name: get(f"{name}_token_id") for name in ("bos", "eos", "unknown")}
    named = {name: tokens[i] for name, i in named.items() if i is not None and i < len(tokens)}
    eos = named.get("eos")
    if eos in _NEVER_WRITTEN or (eos and types[tokens.index(eos)] in (UNKNOWN, UNUSED)):
        del named["eos"]
    is_added = (UNKNOWN, CONTROL, USER_DEFINED)
    content = _READ[kind](get, vocab, named) | {
        "version": "1.0",
        "added_tokens": [
            _added_token(token, i, types[i] != USER_DEFINED)
            for token, i in vocab.items()
            if types[i] in is_added or (not get("token_type") and token in named.values())
        ],
    }
    add_bos = get("add_bos_token", _adds_bos(get)) and "bos" in named
    config = {"bos_token": named.get("bos"), "eos_token": named.get("eos")}
    config |= {"add_bos_token": add_bos, "chat_template": fields.get("tokenizer.chat_template")}
    return json.dumps(content, ensure_ascii=False), config


def _check_types(get):
    for name, expected in _FIELDS.items():
        value = get(name)
        values, kind = (value, expected[0]) if isinstance(expected, list) else ([value], expected)
        is_list = isinstance(values, list)
        if value is not None and not (is_list and all(type(item) is kind for item in values)):
            raise InputError(
                f"expected a GGUF file whose tokenizer.ggml.{name} is of type {kind.__name__}, got "
                f"{shortened(str(value))}: fetch it again"
            )


def _getter(fields):
    return lambda name, default=None: fields.get(f"tokenizer.ggml.{name}", default)


def _added_token(content, token_id, special):
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": token_id, "content": content, **flags, "special": special}


def _row_of(get):
    name = get("pre", "default")
    for row in PRE_TOKENIZERS:
        if name in row.names:
            return row
    known = ", ".join(row.names[0] for row in PRE_TOKENIZERS)
    raise InputError(
        f"expected a GGUF file whose tokenizer.ggml.pre is known ({known} ...), got {name}: take "
        "the tokenizer.json of its Hugging Face folder"
    )


def _adds_bos(get):
    return True if get("model") == "llama" else _row_of(get).add_bos


def _read_gpt2(get, vocab, named):
    """The parts of a tokenizer.json of a byte-level BPE."""
    row = _row_of(get)
    merges = [merge.split(" ") for merge in get("merges", [])]
    merges = [merge for merge in merges if len(merge) == 2 and "".join(merge) in vocab]
    model = {"type": "BPE", "vocab": vocab, "merges": merges, "ignore_merges": row.ignore_merges}
    return {
        "model": model,
        "normalizer": _json(normalizers.NFC()) if row.nfc else None,
        "pre_tokenizer": _json(row.component()),
        "decoder": _json(decoders.ByteLevel()),
    }


def _read_llama(get, vocab, named):
    """The parts of a tokenizer.json of a BPE by SentencePiece."""
    add_prefix, scores = get("add_space_prefix", True), get("scores", [0.0] * len(get("tokens")))
    types = get("token_type", [NORMAL] * len(scores))
    joined = {token: scores[i] for token, i in vocab.items() if types[i] in (NORMAL, USER_DEFINED)}
    steps = [normalizers.Prepend(SPACE)] * add_prefix + [normalizers.Replace(" ", SPACE)]
    decode = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    decode += [decoders.Strip(" ", 1, 0)] * add_prefix
    model = {
        "type": "BPE", "vocab": vocab, "merges": merges_of(joined, vocab),
        "unk_token": named.get("unknown"), "byte_fallback": vocab.keys() >= set(BYTE_TOKENS),
    }  # fmt: skip
    return {
        "model": model,
        "normalizer": _json(normalizers.Sequence(steps)),
        "pre_tokenizer": None,
        "decoder": _json(decoders.Sequence(decode)),
    }


_READ = {"gpt2": _read_gpt2, "llama": _read_llama}


def merges_of(scores: dict[str, float], vocab: dict[str, int]) -> list[tuple[str, str]]:
    """The merges of a BPE that does what SentencePiece does: it joins what has the best score.

    Args:
        scores: Of the tokens that come of joining two.
        vocab: Ids of all tokens.
    """
    merges = []
    for token, score in scores.items():
        pairs = ((token[:i], token[i:]) for i in range(1, len(token)))
        pairs = [pair for pair in pairs if pair[0] in vocab and pair[1] in vocab]
        pairs.sort(key=lambda pair: (vocab[pair[0]], vocab[pair[1]]))
        merges += [(-score, vocab[token], pair) for pair in pairs]
    return [pair for *_, pair in sorted(merges, key=lambda merge: merge[:2])]


def _json(component):
    return json.loads(component.__getstate__())


def gguf_fields_from(tokenizer: Tokenizer, num_rows: int | None = None) -> dict:
    """The metadata of a GGUF file with a tokenizer.

    Args:
        num_rows: Of the model's embedding: tokens of no use fill up what the tokenizer lacks.

    Returns:
        Python values by their keys: str, bool, int, or list of str, int or float.

    Raises:
        InputError: llama.cpp would not give the ids that the tokenizer gives.
    """
    content = json.loads(tokenizer.to_json())
    vocab, added = content["model"]["vocab"], content["added_tokens"]
    if tokenizer.kind != "char" and content["model"]["type"] != "BPE":
        raise _no_gguf(f"{tokenizer.kind} ({content['model']['type']})")
    for token in added:
        if token["lstrip"] or token["rstrip"] or token["single_word"]:
            raise _no_gguf(f"one whose {token['content']!r} changes the text around it")
    tokens = [f"[PAD{i}]" for i in range(max(num_rows or 0, tokenizer.vocab_size))]
    types = [UNUSED] * len(tokens)
    for token, i in vocab.items():
        tokens[i], types[i] = token, NORMAL
    write = _write_characters if tokenizer.kind == "char" else _write_bpe
    fields = write(tokenizer, content, tokens, types)
    for token in added:
        tokens[token["id"]] = token["content"]
        types[token["id"]] = CONTROL if token["special"] else USER_DEFINED
    unk_token = content["model"].get("unk_token")
    if unk_token in vocab:
        types[vocab[unk_token]] = UNKNOWN
        fields["unknown_token_id"] = vocab[unk_token]
    suppressed = tokenizer.suppressed_ids(len(tokens)).tolist()
    config = tokenizer.config
    fields |= {"tokens": tokens, "token_type": types, "add_bos_token": config.add_bos_token}
    fields |= {"add_eos_token": False} | ({"suppress_tokens": suppressed} if suppressed else {})
    never = [*suppressed, *(tokens.index(t) for t in _NEVER_WRITTEN if t in vocab)]
    end_token_id = tokenizer.end_token_id
    fields["eos_token_id"] = never[0] if end_token_id is None and never else end_token_id
    fields["bos_token_id"] = tokenizer.bos_token_id
    named = {f"tokenizer.ggml.{name}": value for name, value in fields.items()}
    named["tokenizer.chat_template"] = config.chat_template
    return {name: value for name, value in named.items() if value is not None}


def _no_gguf(what):
    return InputError(
        f"expected a tokenizer that GGUF files can have (char, bpe, byte, or one that came with "
        f"weights of GPT-2's or Llama's kind), got {what}: export another format"
    )


def _write_characters(tokenizer, content, tokens, types):
    """Characters, as if SentencePiece had them, without any that are joined."""
    if SPACE in tokens and " " in tokens:
        raise _no_gguf("characters with both a space and U+2581, which stands for one")
    tokens[:] = [SPACE if token == " " else token for token in tokens]
    scores = [0.0] * len(tokens)
    return {"model": "llama", "pre": "default", "scores": scores, "add_space_prefix": False}


def _write_bpe(tokenizer, content, tokens, types):
    model = content["model"]
    merges = [tuple(merge) for merge in model["merges"]]
    if tokenizer.kind == IMPORTED and not content["pre_tokenizer"]:
        return _write_llama(content, tokens, types, merges)
    if content["normalizer"] not in (None, {"type": "NFC"}):
        raise _no_gguf(f"one with the normalizer {content['normalizer']['type']}")
    given = _without_offsets(_parts(content["pre_tokenizer"]))
    for row in PRE_TOKENIZERS:
        is_row = _without_offsets(parts_of(row.component())) == given
        if is_row and row.ignore_merges == bool(model.get("ignore_merges")):
            # llama.cpp wants some merge: of nothing that a text has, where there is none.
            pairs = [" ".join(merge) for merge in merges] or [f"{tokens[0]} {tokens[0]}"]
            return {"model": "gpt2", "pre": row.names[0], "merges": pairs,
                    "add_space_prefix": False}  # fmt: skip
    raise _no_gguf("one with another pre-tokenizer or without one")


def _parts(component):
    return component.get("pretokenizers", [component])


def _without_offsets(parts):
    """Parts of a pre-tokenizer without what no token id depends on."""
    return [{key: value for key, value in part.items() if key != "trim_offsets"} for part in parts]


def _write_llama(content, tokens, types, merges):
    model, normalizer = content["model"], content["normalizer"] or {}
    steps = normalizer.get("normalizers", [normalizer])
    replace, prepend = _json(normalizers.Replace(" ", SPACE)), _json(normalizers.Prepend(SPACE))
    if steps not in ([replace], [prepend, replace]) or model.get("ignore_merges"):
        raise _no_gguf("a BPE without words of another kind than Llama's")
    ranks = {}
    for rank, merge in enumerate(merges):
        ranks.setdefault("".join(merge), rank)
    vocab = model["vocab"]
    scores = {token: -float(rank) for token, rank in ranks.items()}
    joined = merges_of(scores, vocab)
    if set(joined) != set(merges) or list(map("".join, joined)) != list(map("".join, merges)):
        raise _no_gguf("a BPE that joins in another order than SentencePiece")
    for token in BYTE_TOKENS:
        if token in vocab:
            types[vocab[token]] = BYTE
    return {"model": "llama", "pre": "default", "add_space_prefix": prepend in steps,
            "scores": [scores.get(token, 0.0) for token in tokens]}  # fmt: skip
