"""68 landmarks as text, a vertex and its weight three times a line; tables of landmarks that come with the package."""

import functools
import hashlib
import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from .._errors import InputError
from ..files import Limits, one_line, read_bytes
from ._imported import on_faces

_JAW = 17


def read_points68(path: Path, vertices: int) -> tuple[np.ndarray, np.ndarray, str]:
    """Corners int [68, 3], weights float64 [68, 3] and the file's SHA-256.

    A line holds a vertex and its weight three times, as GNM's `head_sparse_68.txt` does. Raises `InputError` for
    anything else.
    """
    data = read_bytes(path, "text_bytes", Limits.from_environment())
    lines = [line.split() for line in data.splitlines() if line.strip() and not line.lstrip().startswith(b"#")]
    if len(lines) != 68 or any(len(line) != 6 for line in lines):
        raise InputError(f"{path} holds no 68 lines of a vertex and its weight, three times each.")
    try:
        numbers = np.array([[float(word) for word in line] for line in lines])
    except ValueError as error:
        raise InputError(f"{path} holds what is no number ({one_line(error)}).") from None
    corners, weights = numbers[:, 0::2], numbers[:, 1::2]
    if not np.isfinite(numbers).all() or (corners != np.round(corners)).any():
        raise InputError(f"{path} holds numbers that are no vertices and weights.")
    if corners.min() < 0 or corners.max() >= vertices:
        raise InputError(f"{path} must name vertices from 0 to {vertices - 1}.")
    if np.abs(weights.sum(axis=1) - 1).max() > 1e-2 or weights.min() < -0.05:
        raise InputError(f"{path}: the weights of a line must sum to 1.")
    return corners.astype(np.int64), weights / weights.sum(axis=1, keepdims=True), hashlib.sha256(data).hexdigest()


def jaw_order(points: np.ndarray) -> np.ndarray:
    """int [68]: the rows in iBUG's order, whose jaw line runs from the right ear over the chin to the left one.

    `points` [68, 3] lie on the face, which looks along +z. GNM's own file has some rows of the jaw backwards.
    """
    jaw, top = points[:_JAW], points[36:48, 1].mean()
    order = np.argsort(np.arctan2(jaw[:, 0], top + 0.02 - jaw[:, 1]), kind="stable")
    return np.concatenate([order, np.arange(_JAW, 68)])


def landmarks68_arrays(faces: np.ndarray, corners: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Head-file arrays of the 68 by vertices [68, 3] and weights."""
    face, barycentric = on_faces(faces, corners, weights)
    return {"landmarks68_face": face, "landmarks68_barycentric": barycentric}


@functools.cache
def _table(name: str) -> dict[str, Any]:
    path = resources.files("diverse3d") / "assets" / f"{name}-landmarks.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def shipped_landmarks(name: str, faces: np.ndarray) -> Mapping[str, np.ndarray]:
    """Head-file arrays of the landmarks found on a known mesh (`gnm`, `ict`); {} where the triangles are others."""
    table = _table(name)
    if table.get("triangles_sha256") != triangles_sha256(faces):
        return {}
    dense = np.array(table["dense"])
    face, weights = on_faces(faces, dense[:, 1:4].astype(np.int64), dense[:, 4:])
    found = {
        "landmarks_dense_index": dense[:, 0].astype(np.int32),
        "landmarks_dense_face": face,
        "landmarks_dense_barycentric": weights,
    }
    sparse = np.array(table["ibug68"])
    return found | landmarks68_arrays(faces, sparse[:, :3].astype(np.int64), sparse[:, 3:])


def triangles_sha256(faces: np.ndarray) -> str:
    """What tells one mesh's triangles from another's."""
    return hashlib.sha256(np.ascontiguousarray(faces, "<i4").tobytes()).hexdigest()
