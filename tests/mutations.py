"""Ways to damage a file: anywhere in it, or beneath checksums and lengths, which are put right afterwards."""

import io
import json
import random
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from functools import cache
from typing import Any

Random = random.Random
Mutator = Callable[[bytes, Random], bytes]


def damage(data: bytes, inner: tuple[Mutator, ...], rng: Random) -> bytes:
    """A file's content, damaged once, or up to three times; `inner` is the damage that suits its kind."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        kinds = (*inner, *inner, *_GENERIC)
        try:
            data = rng.choice(kinds)(data, rng)
        except Exception:  # damaged too much already for what lies beneath to be found
            data = rng.choice(_GENERIC)(data, rng)
    return data


# Damage to any file.


def _place(data: bytes, rng: Random) -> int:
    """A place in a file, in its first bytes more often than not."""
    most = max(len(data) - 1, 0)
    return rng.randint(0, min(most, rng.choice((32, 160, most))))


def flip_bits(data: bytes, rng: Random) -> bytes:
    changed = bytearray(data or b"\0")
    for _ in range(rng.choice((1, 1, 2, 8))):
        changed[_place(changed, rng)] ^= 1 << rng.randint(0, 7)
    return bytes(changed)


def set_bytes(data: bytes, rng: Random) -> bytes:
    at, new = (
        _place(data, rng),
        bytes(rng.choice((0, 1, 10, 32, 34, 48, 127, 128, 255)) for _ in range(rng.randint(1, 6))),
    )
    return data[:at] + new + data[at + len(new) :]


def extreme_word(data: bytes, rng: Random) -> bytes:
    at, width = _place(data, rng), rng.choice((1, 2, 4, 8))
    most = (1 << 8 * width) - 1
    value = rng.choice((0, 1, most, most >> 1, (most >> 1) + 1, most >> 4, most // 5))
    return data[:at] + value.to_bytes(width, rng.choice(("little", "big"))) + data[at + width :]


def extreme_number(data: bytes, rng: Random) -> bytes:
    places = [found.span() for found in re.finditer(rb"\d+(?:\.\d+)?", data[: rng.choice((400, 100_000))])]
    if not places:
        return flip_bits(data, rng)
    start, end = places[rng.randint(0, len(places) - 1)]
    new = rng.choice(
        (b"0", b"-1", b"1", b"99999", b"4294967295", b"4294967296", b"9" * 19, b"9" * 30, b"1e400", b"nan", b"")
    )
    return data[:start] + new + data[end:]


def truncate(data: bytes, rng: Random) -> bytes:
    return data[: rng.randint(0, len(data))]


def cut(data: bytes, rng: Random) -> bytes:
    at = _place(data, rng)
    return data[:at] + data[at + rng.randint(1, 64) :]


def insert(data: bytes, rng: Random) -> bytes:
    at = _place(data, rng)
    return data[:at] + bytes(rng.randint(0, 255) for _ in range(rng.randint(1, 16))) + data[at:]


def repeat(data: bytes, rng: Random) -> bytes:
    at = _place(data, rng)
    return data[:at] + data[at : at + rng.randint(1, 200)] * rng.randint(2, 60) + data[at:]


_GENERIC = (flip_bits, set_bytes, extreme_word, extreme_number, truncate, cut, insert, repeat)


# Damage beneath checksums and lengths.


def damage_json(tree: Any, rng: Random) -> Any:
    """JSON with one value replaced, removed or multiplied."""
    spots: list[tuple[Any, Any]] = []

    def visit(value: Any) -> None:
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, item in items:
            spots.append((value, key))
            visit(item)

    tree = json.loads(json.dumps([tree]))  # in a list, so that the whole may be replaced, too
    visit(tree)
    holder, key = spots[rng.randint(0, len(spots) - 1)]
    deep: Any = 0
    for _ in range(rng.choice((3, 100, 500))):
        deep = [deep] if rng.randint(0, 1) else {"a": deep}
    new = rng.choice(
        (None, True, -1, 0, 1, 0.5, 5, 5126, 65536, 10**9, 2**31, 2**63, 10**30, -1e300, float("nan"), float("inf"), "",
         "x", "../../../etc/passwd", "file:///etc/passwd", "\ud800", "a\x1b[31m\n", [], {}, [0] * 30_000, deep)
    )  # fmt: skip
    if rng.randint(0, 4) == 0:
        del holder[key]
    elif rng.randint(0, 4) == 0 and isinstance(holder[key], list):
        holder[key] = holder[key] * rng.choice((2, 300))
    else:
        holder[key] = new
    return tree[0] if tree else None


def in_json(data: bytes, rng: Random) -> bytes:
    return json.dumps(damage_json(json.loads(data), rng)).encode()


def in_glb(data: bytes, rng: Random) -> bytes:
    size = int.from_bytes(data[12:16], "little")
    text = json.dumps(damage_json(json.loads(data[20 : 20 + size]), rng)).encode()
    return glb(text, data[20 + size :])


def glb(text: bytes, rest: bytes) -> bytes:
    text += b" " * (-len(text) % 4)
    body = struct.pack("<I4s", len(text), b"JSON") + text + rest
    return struct.pack("<4sII", b"glTF", 2, 12 + len(body)) + body


def in_safetensors(data: bytes, rng: Random) -> bytes:
    size = int.from_bytes(data[:8], "little")
    header = json.dumps(damage_json(json.loads(data[8 : 8 + size]), rng)).encode()
    return struct.pack("<Q", len(header)) + header + data[8 + size :]


def in_safetensors_data(data: bytes, rng: Random) -> bytes:
    """Other numbers: what lies beyond the header is damaged alone."""
    start = 8 + int.from_bytes(data[:8], "little")
    changed = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        at = start + rng.randint(0, len(data) - start - 4) // 4 * 4
        new = rng.choice((0.0, 0.01, 0.02, -1.0, 1e4, 3e38, float("nan"), float("inf"), 1e-40))
        changed[at : at + 4] = struct.pack("<f", new)
    return bytes(changed)


def in_npz(data: bytes, rng: Random) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    at = rng.randint(0, len(entries) - 1)
    name, content = entries[at]
    act = rng.randint(0, 9)
    if act == 0:
        entries.insert(at, (rng.choice(("../x.npy", "vertices.npy", "x", "a/b.npy", "\x1b.npy")), content))
    elif act == 1:
        entries.pop(at)
    elif act == 2:
        entries = [(f"{i}.npy", content) for i in range(1200)]
    elif act < 6:
        at_number = rng.randint(128, max(128, len(content) - 1))
        entries[at] = (name, content[:at_number] + bytes([rng.randint(0, 255)]) + content[at_number + 1 :])
    else:
        entries[at] = (name, rng.choice((extreme_number, flip_bits, cut, truncate, set_bytes))(content, rng))
    whole = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(whole, "w", rng.choice((0, 8, 8, 12, 14))) as archive:
        warnings.simplefilter("ignore")  # of a name that is there twice
        for name, content in entries:
            archive.writestr(name, content)
    return whole.getvalue()


def in_png(data: bytes, rng: Random) -> bytes:
    chunks = png_chunks(data)
    at = rng.randint(0, len(chunks) - 1)
    name, content = chunks[at]
    act = rng.randint(0, 5)
    if act == 0:
        chunks.insert(
            at, rng.choice((*chunks, text_bomb(), (b"tRNS", b"\0\1"), (b"acTL", b"\xff" * 8), (b"eXIf", content)))
        )
    elif act == 1:
        chunks.pop(at)
    elif act == 2 and name == b"IDAT":
        chunks[at] = (name, zlib.compress(flip_bits(zlib.decompress(content), rng)))
    else:
        chunks[at] = (name, rng.choice(_GENERIC)(content, rng))
    return png(chunks)


def png_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    chunks, at = [], 8
    while at + 12 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += 12 + size
    if not chunks:
        raise ValueError("no chunks are left")
    return chunks


def png(chunks: list[tuple[bytes, bytes]]) -> bytes:
    parts = [struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@cache
def text_bomb() -> tuple[bytes, bytes]:
    return b"zTXt", b"Comment\0\0" + zlib.compress(bytes(30 << 20), 9)
