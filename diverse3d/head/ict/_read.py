"""ICT-FaceKit's folder: vertices and faces of its OBJ files, the landmarks of its JSON; sizes checked first."""

import hashlib
import re
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..._errors import InputError
from ...files import Limits, parse_json, read_bytes

MAIN_FOLDER, NEUTRAL, INDICES = "FaceXModel", "generic_neutral_mesh.obj", "vertex_indices.json"

ICT_VERTICES = 26_719
"""Vertices of ICT-FaceKit Light."""

_BESIDES = ("PupilDilate_L", "PupilDilate_R", "cheekRaiser_L", "cheekRaiser_R")
"""Expressions that have files but no place in the JSON's list."""

_MOST_IDENTITIES, _MOST_EXPRESSIONS = 1000, 200
_VERTEX = re.compile(rb"^v[ \t]+(\S+[ \t]+\S+[ \t]+\S+)", re.MULTILINE)
_VERTEX_LINE, _FACE = re.compile(rb"^v[ \t]", re.MULTILINE), re.compile(rb"^f[ \t]+([^\r\n]*)", re.MULTILINE)


class IctFiles(NamedTuple):
    """What the folder holds, in its own unit."""

    neutral: np.ndarray
    """float64 [V, 3]"""
    polygons: list[list[int]]
    """Corners of each face, three or four, 0-based"""
    identity: np.ndarray
    """float32 [I, V, 3]: file less neutral"""
    expression: np.ndarray
    """float32 [E, V, 3]: likewise, at full activation"""
    expression_names: tuple[str, ...]
    landmarks: np.ndarray
    """int [68]: vertices"""
    sha256: str
    """Of the names and contents of all files that were read, in order."""


def read_ict(folder: Path, limits: Limits | None = None) -> IctFiles:
    """Read a clone of ICT-FaceKit, or its FaceXModel folder; raises `InputError` naming the file that is wrong."""
    limits = Limits.from_environment() if limits is None else limits
    inner = folder / MAIN_FOLDER if (folder / MAIN_FOLDER).is_dir() else folder
    for name in (NEUTRAL, INDICES):
        if not (inner / name).is_file():
            raise InputError(f"{inner} lacks {name}; give ICT-FaceKit's folder as it was cloned.")
    digest = hashlib.sha256()
    neutral, data = _vertices(inner / NEUTRAL, limits, digest)
    if len(neutral) != ICT_VERTICES:
        raise InputError(
            f"{inner / NEUTRAL} has {len(neutral)} vertices, not the {ICT_VERTICES} of ICT-FaceKit Light; the full "
            "version and other meshes can't be imported."
        )
    polygons = _polygons(data, inner / NEUTRAL, len(neutral))
    table = parse_json(_read(inner / INDICES, "json_bytes", limits, digest), str(inner / INDICES), limits)
    landmarks, listed = _indices(table, inner / INDICES, len(neutral))
    names = sorted(path.name.removesuffix(".obj") for path in inner.glob("*.obj") if path.name != NEUTRAL)
    numbers = sorted(int(name[8:]) for name in names if re.fullmatch(r"identity\d{3}", name))
    if not numbers:
        raise InputError(f"{inner} holds no identity000.obj and so on; give ICT-FaceKit's folder as it was cloned.")
    gap = next((i for i in range(min(len(numbers), _MOST_IDENTITIES)) if numbers[i] != i), None)
    if gap is not None:
        raise InputError(f"{inner} lacks identity{gap:03d}.obj, though it holds identity{numbers[-1]:03d}.obj.")
    expressions = [name for name in names if not re.fullmatch(r"identity\d{3}", name)]
    unknown = next((name for name in expressions if name not in listed), None)
    if unknown is not None:
        raise InputError(f"{inner / unknown}.obj is neither an identity nor an expression of {INDICES}; move it away.")
    if len(expressions) > _MOST_EXPRESSIONS:
        raise InputError(f"{inner} holds {len(expressions)} expressions, more than {_MOST_EXPRESSIONS}.")
    parts = []
    for files in ([f"identity{number:03d}" for number in numbers], expressions):
        part = np.empty((len(files), len(neutral), 3), np.float32)
        for row, name in zip(part, files, strict=True):
            path = inner / f"{name}.obj"
            vertices, _ = _vertices(path, limits, digest)
            if len(vertices) != len(neutral):
                raise InputError(f"{path} has {len(vertices)} vertices; {NEUTRAL} has {len(neutral)}.")
            row[:] = vertices - neutral
        parts.append(part)
    return IctFiles(neutral, polygons, parts[0], parts[1], tuple(expressions), landmarks, digest.hexdigest())


def _read(path: Path, limit: str, limits: Limits, digest: "hashlib._Hash") -> bytes:
    data = read_bytes(path, limit, limits)
    digest.update(path.name.encode() + b"\0" + data)
    return data


def _vertices(path: Path, limits: Limits, digest: "hashlib._Hash") -> tuple[np.ndarray, bytes]:
    """Vertices [n, 3] in the order of their lines, and the file's content."""
    data = _read(path, "text_bytes", limits, digest)
    rows = _VERTEX.findall(data)
    if len(rows) > limits.mesh_elements:
        raise limits.exceeded("mesh_elements", f"{path} has more vertices")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # which is how numpy says that something is no number
            values = np.fromstring(b" ".join(rows), np.float64, sep=" ") if rows else np.zeros(0)
    except (ValueError, DeprecationWarning):
        values = np.zeros(1)
    if values.size != 3 * len(rows) or len(rows) != len(_VERTEX_LINE.findall(data)):
        raise InputError(f"{path} has a vertex that is no row of three numbers.")
    if not np.isfinite(values).all() or np.abs(values).max(initial=0.0) > 1e6:
        raise InputError(f"{path} has vertices that are not finite, or beyond a million.")
    return values.reshape(-1, 3), data


def _polygons(data: bytes, path: Path, count: int) -> list[list[int]]:
    polygons = []
    for number, line in enumerate(_FACE.findall(data)):
        words = [word.split(b"/", 1)[0] for word in line.split(None, 5)]
        if len(words) not in (3, 4):
            corners = "more than four" if len(words) > 4 else str(len(words))
            raise InputError(f"{path}: face {number} has {corners} corners; triangles and quads are needed.")
        if not all(word.isdigit() and len(word) < 10 for word in words):
            raise InputError(f"{path}: face {number} doesn't name its vertices by number.")
        corner = [int(word) - 1 for word in words]
        if min(corner) < 0 or max(corner) >= count:
            raise InputError(f"{path}: face {number} names a vertex that isn't one of 1 to {count}.")
        if len(set(corner)) != len(corner):
            raise InputError(f"{path}: face {number} has a corner twice.")
        polygons.append(corner)
    if not polygons:
        raise InputError(f"{path} has no faces.")
    return polygons


def _indices(table: object, path: Path, count: int) -> tuple[np.ndarray, frozenset[str]]:
    """The 68 landmarks' vertices, and the names that expressions may have."""
    if not isinstance(table, dict):
        raise InputError(f"{path} is no table.")
    points, names = table.get("idx_to_landmark_verts"), table.get("expressions")
    if not isinstance(points, list) or len(points) != 68 or not all(type(i) is int and 0 <= i < count for i in points):
        raise InputError(f"{path}: 'idx_to_landmark_verts' must be 68 vertices from 0 to {count - 1}.")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{path}: 'expressions' must be a list of names.")
    return np.array(points), frozenset([*names, *_BESIDES])
