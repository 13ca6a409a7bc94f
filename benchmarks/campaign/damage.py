"""Ways in which a file can come out wrong: of a disk, a download, an editor."""

import io
import json
import math
import zipfile

MEMBERS = ("config.json", "tokenizer.json", "metadata.json", "run.json")  # JSON inside archives
VALUES = (None, True, -1, 0, 0.5, 3, 10**9, 10**30, 1e308, math.nan, -math.inf,
          "", "x" * 10**5, "\ud800", "\0", "../../x", "os.system", [], {}, [None] * 3)  # fmt: skip
DEPTH = 100_000  # of brackets


def damage_bytes(content, rng):
    """Changes some bytes.

    Args:
        content: bytes, not empty.
        rng: `random.Random`.
    """
    size, content = len(content), bytearray(content)
    begin, length = rng.randrange(size), rng.randrange(1, 400)
    if rng.random() < 0.3:  # near the end, where archives keep what they know of themselves
        begin = max(size - rng.randrange(1, 4000), 0)
    end = min(begin + length, size)
    match rng.randrange(8):
        case 0:
            del content[begin:]
        case 1:
            for _ in range(rng.choice((1, 1, 8, 64))):
                content[rng.randrange(size)] ^= 1 << rng.randrange(8)
        case 2:
            content[begin:end] = bytes(end - begin)
        case 3:
            content[begin:end] = rng.randbytes(end - begin)
        case 4:
            del content[begin:end]
        case 5:
            content[begin:begin] = content[begin:end]
        case 6:  # a splice: what stands here comes from there
            there = rng.randrange(size)
            content[begin:end] = content[there : there + end - begin]
        case 7:  # a block of a disk
            block = min(4096, size)
            begin = begin // block * block
            content[begin : begin + block] = bytes(len(content[begin : begin + block]))
    return bytes(content)


def damage_json(content, rng):
    """Changes a value, a key, or the whole of a JSON text, which stays JSON, mostly."""
    value = json.loads(content)
    holder, key = rng.choice(list(_places(value)))
    match rng.randrange(8):
        case 0:
            del holder[key]
        case 1:
            if isinstance(holder, dict):
                holder[rng.choice(("class_name", "module", "x" * 50))] = holder.pop(key)
        case 2:
            others, other = rng.choice(list(_places(value)))
            holder[key], others[other] = others[other], holder[key]
        case 3 if isinstance(holder[key], int | float):
            holder[key] = holder[key] * rng.choice((-1, 2, 10, 1000, 2**40)) + rng.choice((0, 1))
        case 4 if rng.random() < 0.1:
            return b"[" * DEPTH
        case _:
            holder[key] = rng.choice(VALUES)
    return json.dumps(value).encode()


def damage_member(content, rng):
    """Changes a JSON text in a zip archive, whose checksums are right afterwards.

    Args:
        content: bytes of an archive, which may have something else before it.
        rng: `random.Random`.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
        begin = min(info.header_offset for info in archive.infolist())
    name = rng.choice([name for name in MEMBERS if name in members])
    members[name] = damage_json(members[name], rng)
    written = io.BytesIO()
    written.write(content[:begin])
    with zipfile.ZipFile(written, "a") as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    return written.getvalue()


def _places(value):
    """Yields (holder, key) of everything in a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in list(items):
        yield value, key
        if isinstance(inner, dict | list):
            yield from _places(inner)
