"""JSON in, its size, depth and number of values checked before it is parsed, and out; every number is finite."""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .._errors import InputError
from ._limits import Limits, one_line, read_bytes
from ._whole import whole_file

# Strings (to pass over, with all that they hold; an unended one goes to the end) and what makes structure.
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{},]', re.DOTALL)
_HALF_CHARACTER = re.compile(rb"\\u[dD][89a-fA-F]")


def read_json(path: Path, limits: Limits | None = None) -> Any:
    """What a JSON file holds; raises `InputError` as `parse_json` does, and where there is no such file."""
    limits = Limits.from_environment() if limits is None else limits
    return parse_json(read_bytes(path, "json_bytes", limits), str(path), limits)


def parse_json(data: bytes, name: str, limits: Limits | None = None, *, limit: str = "json_bytes") -> Any:
    """What JSON text holds: tables, lists, text, finite numbers, whole numbers of 64 bits, true, false and null.

    `name` says in messages what is read. Raises `InputError` for anything else, and for more than `limits` allow
    (`limit` is the one on its size).
    """
    limits = Limits.from_environment() if limits is None else limits
    if len(data) > getattr(limits, limit):
        raise limits.exceeded(limit, f"The JSON of {name} is larger")
    _check_structure(data, name, limits)
    try:
        value = json.loads(data.decode("utf-8-sig"), parse_constant=_refuse, parse_float=_finite, parse_int=_whole)
        if _HALF_CHARACTER.search(data):
            json.dumps(value, ensure_ascii=False).encode()  # half a character can't be written or printed again
    except ValueError as error:  # also what decoding and encoding raise
        raise InputError(f"{name} is not JSON that can be read ({one_line(error)}); give an intact file.") from None
    return value


def json_text(content: Any) -> str:
    """JSON that every reader takes: numbers that are not finite become null."""
    return json.dumps(_plain(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_json(path: Path, content: Any) -> None:
    """Write such JSON, whole or not at all."""
    with whole_file(path) as aside:
        aside.write_text(json_text(content), encoding="utf-8")


def _check_structure(data: bytes, name: str, limits: Limits) -> None:
    depth, values = 0, 1
    for token in _TOKEN.finditer(data):
        kind = data[token.start()]
        if kind in b"[{":
            depth += 1
        elif kind in b"]}":
            depth -= 1
        if kind in b"[{,":
            values += 1
        if depth > limits.json_depth:
            raise limits.exceeded("json_depth", f"{name} is nested deeper")
        if values > limits.json_values:
            raise limits.exceeded("json_values", f"{name} holds more")


def _refuse(text: str) -> float:
    raise ValueError(f"{text} is no number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is out of range")
    return value


def _whole(text: str) -> int:
    if len(text) > 20 or not -(1 << 63) <= int(text) < 1 << 63:
        raise ValueError(f"{text[:20]} is out of range")
    return int(text)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):  # numpy's and jax's arrays and numbers
        return _plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value
