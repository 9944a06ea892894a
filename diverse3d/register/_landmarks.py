"""Landmarks that a user marked on a scan, from the formats in which people keep them."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .._errors import InputError
from ..files import Limits, lines_of, parse_json, read_bytes, read_npy

_NAMED = {
    "right_eye_outer": 36, "right_eye_inner": 39, "left_eye_inner": 42, "left_eye_outer": 45,
    "exocanthion_right": 36, "endocanthion_right": 39, "endocanthion_left": 42, "exocanthion_left": 45,
    "nose_tip": 30, "pronasale": 30, "sellion": 27, "nasion": 27, "subnasale": 33,
    "alare_right": 31, "alare_left": 35, "mouth_right": 48, "mouth_left": 54,
    "cheilion_right": 48, "cheilion_left": 54, "upper_lip": 51, "lower_lip": 57,
    "labiale_superius": 51, "labiale_inferius": 57, "chin": 8, "menton": 8, "gnathion": 8,
}  # fmt: skip
"""Names of iBUG's points; right and left are the person's."""

FEWEST = 4
"""Landmarks that a pose needs; they must not lie on one line."""


def read_landmarks(path: Path) -> np.ndarray:
    """iBUG's points [68, 3] in the scan's unit, NaN where not given.

    A JSON table of names or numbers (counted from 0) to [x, y, z], MeshLab's `.pp`, an array [68, 3] or [51, 3]
    (.npy), or text: `name x y z` a line, or 68 or 51 lines `x y z`. Raises `InputError` for anything else, unknown
    names and fewer than four points.
    """
    limits = Limits.from_environment()
    if not path.is_file():
        raise InputError(f"There is no landmark file {path}.")
    if path.suffix.lower() == ".npy":
        return _checked(_rows(read_npy(path, limits), path), path)
    data = read_bytes(path, "text_bytes", limits)
    if path.suffix.lower() == ".pp":
        found = re.findall(rb"<point\b([^>]*)/?>", data)
        pairs = [_of_tag(tag, path) for tag in found]
        return _checked(_table(pairs, path), path)
    if data.lstrip()[:1] in b"{[" and data.strip():
        tree = parse_json(data, str(path), limits)
        if isinstance(tree, dict):
            return _checked(_table([(str(name), value) for name, value in tree.items()], path), path)
        return _checked(_rows(tree, path), path)
    lines = [line.replace(b",", b" ").split() for line in lines_of(data, path, limits) if not line.startswith(b"#")]
    if lines and all(len(line) == 3 for line in lines):
        return _checked(_rows([[_number(word, path) for word in line] for line in lines], path), path)
    if any(len(line) != 4 for line in lines):
        raise InputError(f"{path} can't be read as landmarks: lines of a name and three numbers are needed.")
    return _checked(_table([(line[0].decode("utf-8", "replace"), line[1:]) for line in lines], path), path)


def _of_tag(tag: bytes, path: Path) -> tuple[str, list[bytes]]:
    parts = dict(re.findall(rb'(\w+)="([^"]*)"', tag))
    try:
        return parts[b"name"].decode("utf-8", "replace"), [parts[axis] for axis in (b"x", b"y", b"z")]
    except KeyError:
        raise InputError(f"{path} holds a point without a name, x, y and z.") from None


def _table(pairs: Sequence[tuple[str, object]], path: Path) -> np.ndarray:
    places = np.full((68, 3), np.nan)
    for name, value in pairs:
        word = re.sub(r"[\s\-]+", "_", name.strip().lower())
        row = int(word) if word.isdigit() and int(word) < 68 else _NAMED.get(word)
        if row is None:
            raise InputError(
                f"{path} names a landmark {name[:40]!r}, which is not known; use numbers of iBUG's 68 points from 0, "
                f"or {', '.join(sorted(_NAMED))}."
            )
        if not isinstance(value, list | tuple) or len(value) != 3:
            raise InputError(f"{path}: the landmark {name[:40]!r} has no three coordinates.")
        places[row] = [_number(word, path) for word in value]
    return places


def _rows(values: object, path: Path) -> np.ndarray:
    try:
        rows = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{path} holds landmarks that are no numbers.") from None
    if rows.shape not in ((68, 3), (51, 3)):
        raise InputError(
            f"{path} holds an array of shape {rows.shape}; landmarks without names are [68, 3] or [51, 3]."
        )
    return np.concatenate([np.full((68 - len(rows), 3), np.nan), rows])


def _number(word: object, path: Path) -> float:
    try:
        return float(word)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise InputError(f"{path} holds a coordinate that is no number, {str(word)[:40]!r}.") from None


def _checked(places: np.ndarray, path: Path) -> np.ndarray:
    known = np.isfinite(places).all(axis=1)
    if known.sum() < FEWEST:
        raise InputError(f"{path} gives {int(known.sum())} landmarks; at least {FEWEST} are needed for a pose.")
    spread = np.linalg.svd(places[known] - places[known].mean(axis=0), compute_uv=False)
    if spread[1] < 0.05 * max(spread[0], 1e-300):
        raise InputError(f"{path} gives landmarks that lie on one line; add some beside it.")
    return np.where(known[:, None], places, np.nan)
