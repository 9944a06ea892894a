"""Arrays and texts from safetensors files; their header is checked before anything else is read."""

from typing import Any

import numpy as np
from safetensors.numpy import load

from ._errors import InputError
from ._json import parse_json
from ._limits import Limits, one_line

_TYPES = frozenset({"BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64", "F16", "F32", "F64"})


def parse_safetensors(
    data: bytes, name: str, limits: Limits, *, what: str = "file"
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Arrays and metadata of a safetensors file's content; `name` and `what` say in messages what is read.

    Raises `InputError` where it is damaged, its header is beyond `limits`, or it holds anything but numbers.
    """
    size = int.from_bytes(data[:8], "little")
    if not 2 <= size <= len(data) - 8:
        raise InputError(f"{name} is not a safetensors {what} (its header is cut short); give an intact one.")
    header = parse_json(data[8 : 8 + size], f"{name} (the header)", limits)
    if not isinstance(header, dict):
        raise InputError(f"{name} is not a safetensors {what} (its header is no table); give an intact one.")
    metadata = header.pop("__metadata__", None) or {}
    for key, entry in header.items():
        if not _is_sound(entry):
            raise InputError(f"{name} holds {key[:60]!r}, which is no array of plain numbers; save it as one.")
    try:
        arrays = load(data)  # refuses unless the arrays declared fill the file exactly, one after another
    except Exception as error:  # a third-party parser, on bytes that may be hostile
        raise InputError(f"{name} is not a safetensors {what} ({one_line(error)}); give an intact one.") from None
    return arrays, metadata


def _is_sound(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("dtype"), str) and entry["dtype"] in _TYPES
