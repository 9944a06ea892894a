"""Arrays and texts of safetensors files: in, their header checked before anything else is read, and out."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors.numpy import load

from .._errors import InputError
from ._json import parse_json
from ._limits import Limits, one_line, read_bytes
from ._whole import whole_file

_TYPES = {
    "bool": "BOOL", "uint8": "U8", "int8": "I8", "uint16": "U16", "int16": "I16", "uint32": "U32", "int32": "I32",
    "uint64": "U64", "int64": "I64", "float16": "F16", "float32": "F32", "float64": "F64",
}  # fmt: skip


class Tensors(NamedTuple):
    """What a safetensors file holds."""

    arrays: dict[str, np.ndarray]
    """Arrays of numbers by name."""
    texts: dict[str, str]
    """Its metadata."""
    sha256: str
    """Of the whole file."""


def read_safetensors(
    path: Path, limits: Limits | None = None, *, limit: str = "head_bytes", what: str = "file"
) -> Tensors:
    """Arrays and metadata of a safetensors file; `limit` is the one on its size, `what` it is in messages.

    Raises `InputError` where there is no such file, it is damaged, beyond `limits`, or holds anything but numbers.
    """
    limits = Limits.from_environment() if limits is None else limits
    data = read_bytes(path, limit, limits)
    header, texts = _header(data, path, limits, what)
    for key, entry in header.items():
        if not _is_sound(entry):
            raise InputError(f"{path} holds {key[:60]!r}, which is no array of plain numbers; save it as one.")
    try:
        arrays = load(data)  # refuses unless the arrays declared fill the file exactly, one after another
    except Exception as error:  # a third-party parser, on bytes that may be hostile
        raise InputError(f"{path} is not a safetensors {what} ({one_line(error)}); give an intact one.") from None
    return Tensors(arrays, texts, hashlib.sha256(data).hexdigest())


def read_safetensors_texts(path: Path) -> dict[str, str]:
    """The metadata alone; raises `InputError` as `read_safetensors` does, as far as it comes to light."""
    limits = Limits.from_environment()
    try:
        with path.open("rb") as file:
            start = file.read(8)
            data = start + file.read(min(int.from_bytes(start, "little"), limits.json_bytes))
    except OSError as error:
        raise InputError(f"{path} can't be read ({error.strerror or error}).") from None
    return _header(data, path, limits, "file")[1]


def _header(data: bytes, path: Path, limits: Limits, what: str) -> tuple[dict[str, Any], dict[str, str]]:
    """What is said of each array, and the metadata."""
    size = int.from_bytes(data[:8], "little")
    if not 2 <= size <= len(data) - 8:
        raise InputError(f"{path} is not a safetensors {what} (its header is cut short); give an intact one.")
    header = parse_json(data[8 : 8 + size], f"{path} (the header)", limits)
    if not isinstance(header, dict):
        raise InputError(f"{path} is not a safetensors {what} (its header is no table); give an intact one.")
    texts = header.pop("__metadata__", None) or {}
    if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
        raise InputError(f"{path} is not a safetensors {what} (its metadata is no table of texts); give an intact one.")
    return header, texts


def write_safetensors(path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> str:
    """Write a safetensors file, whole or not at all; returns its SHA-256.

    The library's own writer keeps its metadata in a hash map, in an order that differs from run to run;
    here all names are sorted.
    """
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))}
    chunks, end = [], 0
    # Widest type first, as the format advises, so that every array lies aligned.
    for name, value in sorted(tensors.items(), key=lambda item: (-item[1].dtype.itemsize, item[0])):
        data = np.ascontiguousarray(value).astype(value.dtype.newbyteorder("<"), copy=False).tobytes()
        kind = _TYPES[value.dtype.name]
        header[name] = {"dtype": kind, "shape": list(value.shape), "data_offsets": [end, end + len(data)]}
        chunks.append(data)
        end += len(data)
    text = json.dumps(header, ensure_ascii=True, separators=(",", ":")).encode("ascii")
    text += b" " * (-len(text) % 8)
    content = len(text).to_bytes(8, "little") + text + b"".join(chunks)
    with whole_file(path) as aside:
        aside.parent.mkdir(parents=True, exist_ok=True)
        aside.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def _is_sound(entry: Any) -> bool:
    return isinstance(entry, dict) and entry.get("dtype") in list(_TYPES.values())
