"""Ways in which a file can come out wrong: of a disk, a download, an editor."""

import io
import json
import math
import zipfile

MEMBERS = ("config.json", "tokenizer.json", "metadata.json", "run.json")  # JSON inside archives
VALUES = (None, True, -1, 0, 0.5, 3, 10**9, 10**30, 1e308, math.nan, -math.inf,
          "", "x" * 10**5, "\ud800", "\0", "../../x", "os.system", [], {}, [None] * 3)  # fmt: skip
DEPTH = 100_000  # of brackets


def damage_bytes(content, draw):
    """Changes some bytes.

    Args:
        content: bytes, not empty.
        draw: `random.Random`.
    """
    size, content = len(content), bytearray(content)
    begin, length = draw.randrange(size), draw.randrange(1, 400)
    if draw.random() < 0.3:  # near the end, where archives keep what they know of themselves
        begin = max(size - draw.randrange(1, 4000), 0)
    end = min(begin + length, size)
    match draw.randrange(8):
        case 0:
            del content[begin:]
        case 1:
            for _ in range(draw.choice((1, 1, 8, 64))):
                content[draw.randrange(size)] ^= 1 << draw.randrange(8)
        case 2:
            content[begin:end] = bytes(end - begin)
        case 3:
            content[begin:end] = draw.randbytes(end - begin)
        case 4:
            del content[begin:end]
        case 5:
            content[begin:begin] = content[begin:end]
        case 6:  # a splice: what stands here comes from there
            there = draw.randrange(size)
            content[begin:end] = content[there : there + end - begin]
        case 7:  # a block of a disk
            block = min(4096, size)
            begin = begin // block * block
            content[begin : begin + block] = bytes(len(content[begin : begin + block]))
    return bytes(content)


def damage_json(content, draw):
    """Changes a value, a key, or the whole of a JSON text, which stays JSON, mostly."""
    value = json.loads(content)
    holder, key = draw.choice(list(_places(value)))
    match draw.randrange(8):
        case 0:
            del holder[key]
        case 1:
            if isinstance(holder, dict):
                holder[draw.choice(("class_name", "module", "x" * 50))] = holder.pop(key)
        case 2:
            others, other = draw.choice(list(_places(value)))
            holder[key], others[other] = others[other], holder[key]
        case 3 if isinstance(holder[key], int | float):
            holder[key] = holder[key] * draw.choice((-1, 2, 10, 1000, 2**40)) + draw.choice((0, 1))
        case 4 if draw.random() < 0.1:
            return b"[" * DEPTH
        case _:
            holder[key] = draw.choice(VALUES)
    return json.dumps(value).encode()


def damage_member(content, draw):
    """Changes a JSON text in a zip archive, whose checksums are right afterwards.

    Args:
        content: bytes of an archive, which may have something else before it.
        draw: `random.Random`.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
        begin = min(info.header_offset for info in archive.infolist())
    name = draw.choice([name for name in MEMBERS if name in members])
    members[name] = damage_json(members[name], draw)
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
