"""ICT-FaceKit Light as cloned → a head file."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..._errors import InputError
from ...files import Limits
from .._anatomy import colours_by_landmarks, regions_by_landmarks
from .._checks import components, largest_cosine, manifold, metres_a_unit, triangles
from .._imported import Imported, finish, packed
from .._points68 import landmarks68_arrays, read_points68, shipped_landmarks
from ..flame._local import higher_local_arrays
from ._read import IctFiles, read_ict

ACTIVATION_MEAN, ACTIVATION_STD = 0.1, 0.2
"""Of each expression, which the files give at full activation: mostly near none, one-sided on average."""

EYEBALLS = {"left_eyeball": range(21_451, 23_021), "right_eyeball": range(23_021, 24_591)}
"""Sclera and iris of each eye."""

INSIDE = range(11_248, 21_451)
"""The mouth's and eyes' sockets, gums, tongue, teeth: kept as they are, part of no region."""

VEILS = range(24_591, 26_719)
"""Lacrimal fluid, blends, occlusion shells and lashes, which lie before the eyes: vertices are kept, triangles not."""

_IDENTITIES, _EXPRESSIONS = 100, 57


def import_ict(folder: Path, *, landmarks: Path | None = None, limits: Limits | None = None) -> Imported:
    """A head from a clone of ICT-FaceKit (or its FaceXModel folder): all 26,719 vertices in their order.

    Triangles of what lies before the eyes are left out. `landmarks` is a text of 68 lines, a vertex and its weight
    three times each, in place of those in the folder. Raises `InputError` for anything that is not sound.
    """
    files = read_ict(folder, limits)
    notes: list[str] = []
    unit, metres = metres_a_unit(files.neutral)
    if unit != "centimetres":
        notes.append(f"The folder's unit is {unit}, not ICT-FaceKit's centimetres; everything was brought to metres.")
    template = (metres * files.neutral).astype(np.float32)
    faces = _triangles(files, template, folder)
    identity, expression = np.float32(metres) * files.identity, np.float32(metres * ACTIVATION_STD) * files.expression
    try:
        notes += components(identity, "identity") + (components(expression, "expression") if len(expression) else [])
    except InputError as error:
        raise InputError(f"{folder} is not a usable ICT-FaceKit: {error}") from None
    cosine = largest_cosine(identity)
    if cosine > 0.01:
        notes.append(f"The identity components are not orthogonal over all vertices (largest cosine {cosine:.2g}).")
    for kind, found, full in (("identity", len(identity), _IDENTITIES), ("expression", len(expression), _EXPRESSIONS)):
        if found != full:
            notes.append(f"The folder holds {found} of ICT-FaceKit's {full} {kind} files.")
    notes.append(
        "ICT-FaceKit has no joints: the head turns as one rigid piece, the jaw opens by an expression, eyes look about "
        "by expressions."
    )
    stored = packed("identity", identity), packed("expression", expression)
    worst = float(np.sqrt((stored[0].square_error + stored[1].square_error).max()))
    notes.append(
        f"Bases are stored in half precision: a random head's vertices are off by {1e6 * worst:.1f} µm at most (RMS "
        "of the worst vertex)."
    )
    prior = np.concatenate([np.zeros(len(identity)), np.full(len(expression), ACTIVATION_MEAN / ACTIVATION_STD)])
    arrays: dict[str, np.ndarray] = {"template": template, "faces": faces, **stored[0].arrays, **stored[1].arrays}
    arrays["prior_mean"] = prior.astype(np.float32)
    used = {folder.name: files.sha256}
    arrays |= shipped_landmarks("ict", faces)
    if landmarks is not None:
        corners, weights, used[landmarks.name] = read_points68(landmarks, len(template))
        arrays |= landmarks68_arrays(faces, corners, weights)
    else:
        arrays |= landmarks68_arrays(
            faces, np.repeat(files.landmarks[:, None], 3, axis=1), np.tile([1.0, 0.0, 0.0], (68, 1))
        )
    arrays |= _parts(template, arrays)
    regions = {key.split("/")[1]: value for key, value in arrays.items() if key.startswith("region/")}
    local, origin = higher_local_arrays(identity, expression, regions)
    metadata = {
        "name": "ICT-FaceKit Light",
        "licence": "MIT (USC Institute for Creative Technologies, ICT-FaceKit)",
        "source": folder.resolve().name,
        "source_sha256": files.sha256,
        "provenance": "; ".join(f"{name} {sha}" for name, sha in used.items()),
        "unit_of_source": unit,
        "expression_names": ", ".join(files.expression_names),
        "local_models": origin,
        "prior": (
            f"identity coefficients of unit variance and mean zero; expressions' activations of mean {ACTIVATION_MEAN} "
            f"and standard deviation {ACTIVATION_STD}; one rigid piece"
        ),
    }
    return finish(arrays | local, metadata, notes)


def _triangles(files: IctFiles, template: np.ndarray, folder: Path) -> np.ndarray:
    """Triangles of all that doesn't lie before the eyes; quads are cut from their first corner."""
    cut = [(a, b, c) for a, *rest in files.polygons for b, c in _pairs(rest)]
    faces = np.array([triangle for triangle in cut if max(triangle) < VEILS.start], np.int64).reshape(-1, 3)
    try:
        faces = triangles({"f": faces}, "f", template)
        manifold(faces, "its neutral mesh")
    except InputError as error:
        raise InputError(f"{folder} is not a usable ICT-FaceKit: {error}") from None
    return faces


def _pairs(rest: Sequence[int]) -> list[tuple[int, int]]:
    return list(itertools.pairwise(rest))


def _parts(template: np.ndarray, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Regions and colours, by the ranges of vertices and the landmarks."""
    corners, weights = arrays["faces"][arrays["landmarks68_face"]], arrays["landmarks68_barycentric"].astype(np.float64)
    template = template.astype(np.float64)
    points = (template[corners] * weights[:, :, None]).sum(axis=1)
    inside = np.zeros(len(template), bool)
    inside[INSIDE.start : INSIDE.stop] = inside[VEILS.start : VEILS.stop] = True
    eyes = {name: np.arange(part.start, part.stop, dtype=np.int32) for name, part in EYEBALLS.items()}
    regions = regions_by_landmarks(template, arrays["faces"], points, eyes, inside)
    colours = colours_by_landmarks(template, points, eyes, inside)
    return {**{f"region/{name}/vertices": index for name, index in regions.items()}, "colours": colours}
