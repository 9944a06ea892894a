"""Landmarks for an imported head whose files name none."""

import dataclasses
import time
from collections.abc import Callable, Mapping

import numpy as np
from scipy.spatial import cKDTree

from .._errors import InputError
from ..head._anatomy import colours_by_landmarks, eyeballs_alone, plain_colours, view_centre
from ..head._imported import Imported, on_faces
from ..surface import pieces
from ._cast import Surface
from ._find import Found, Shown, find_landmarks

_DRAWN, _COMPONENTS = 2, 20
_SIZE_PX = 400
_BORDER_M = 0.010
_FOUND_ABOVE_M = 0.004  # how far above the middle of a painted brow the detector's line of it runs
_FEWEST_VERTICES = 1500
"""Coarser meshes show no face that a detector would believe."""


def find_for_import(
    imported: Imported, *, opening: np.ndarray | None = None, progress: Callable[[str], None] = lambda text: None
) -> Imported:
    """The imported head with `landmarks68` and `landmarks_dense` found on it, colours where it has none, and a note.

    The template and two heads drawn from its identity components are shown to the detector from nine sides; about
    20 s for 20,000 vertices. `opening` [V, 3] (metres) opens the mouth, where an expression does. Raises `InputError`
    where the detector doesn't see the head as a face.
    """
    start = time.monotonic()
    arrays = imported.arrays
    template, faces = arrays["template"].astype(np.float64), arrays["faces"]
    if len(template) < _FEWEST_VERTICES:
        raise InputError(
            f"a head of {len(template)} vertices is too coarse for landmarks to be found on it; give them as a file "
            "(--landmarks FILE)."
        )
    heads = drawn_heads(arrays, _DRAWN)
    points, found = _points68(arrays), None
    if points is None:
        # First on plain skin, from the template alone; then on lips and brows painted where that says they are.
        eyes = eyeballs_alone(template, faces)
        found = _find(arrays, plain_colours(template, eyes), heads[:1], _centre(template, eyes), None)
        points = _placed(template, *found.ibug68)
    eyes = _eyes(arrays) or eyeballs_alone(template, faces)
    colours = arrays.get("colours")
    if colours is None:
        above = 0.0 if found is None else _FOUND_ABOVE_M
        colours = colours_by_landmarks(template, points, eyes, _inside(arrays, eyes), brows_m=-above)
    found = _find(arrays, colours, heads, view_centre(points), opening, progress)
    seconds = time.monotonic() - start
    added = {"colours": colours}
    if "landmarks_dense_face" not in arrays:
        added |= dense_arrays(faces, found)
    kind = "468" if "landmarks_dense_face" in added else "none new"
    if "landmarks68_face" not in arrays:
        face, weights = on_faces(faces, *found.ibug68)
        added |= {"landmarks68_face": face, "landmarks68_barycentric": weights}
        kind = "68 and 468" if "landmarks_dense_face" in added else "68"
    note = (
        f"Landmarks ({kind}) were found by showing the head to the detector: {len(found.points)} of 468 points in "
        f"{found.pictures} pictures, scattered by {1e3 * np.median(found.spread_m):.1f} mm, in {seconds:.0f} s."
    )
    notes = [text for text in imported.notes if not text.startswith("Without 68 landmarks")]
    return dataclasses.replace(imported, arrays={**arrays, **added}, notes=(*notes, note))


def dense_arrays(faces: np.ndarray, found: Found) -> dict[str, np.ndarray]:
    """The head file's arrays of mediapipe's points."""
    face, weights = on_faces(faces, found.corners, found.weights)
    return {
        "landmarks_dense_index": found.points,
        "landmarks_dense_face": face,
        "landmarks_dense_barycentric": weights,
    }


def _find(
    arrays: Mapping[str, np.ndarray],
    colours: np.ndarray,
    heads: list[np.ndarray],
    centre: np.ndarray | None,
    opening: np.ndarray | None,
    progress: Callable[[str], None] = lambda text: None,
) -> Found:
    shown = [Shown(head, colours, opening) for head in heads]
    mesh = surface_of(arrays, colours, opening)
    return find_landmarks(mesh, shown, centre_m=centre, size_px=_SIZE_PX, progress=progress)


def surface_of(arrays: Mapping[str, np.ndarray], colours: np.ndarray, opening: np.ndarray | None = None) -> Surface:
    """What points may lie on: the face, where that region is known, else the largest piece of the mesh.

    With an `opening` of the mouth the lips are told apart by which of them moves.
    """
    template, faces = arrays["template"].astype(np.float64), arrays["faces"]
    off = np.ones(len(template), bool)
    if "region/face/vertices" in arrays:
        # A little more than the region, for the ends of the jaw line may lie on its border.
        face = arrays["region/face/vertices"]
        near = cKDTree(template[face]).query(template)[0] < _BORDER_M
        off[near & (pieces(faces, len(template)) == 0)] = False
        off[face] = False
        for side in ("left", "right"):
            off[arrays.get(f"region/{side}_ear/vertices", [])] = True
    else:
        off[pieces(faces, len(template)) == 0] = False
    lower = upper = np.zeros(len(faces), bool)
    if opening is not None and "region/lips/vertices" in arrays:
        lips = np.zeros(len(template), bool)
        lips[arrays["region/lips/vertices"]] = True
        moved = np.linalg.norm(opening, axis=1) > 0.4 * np.linalg.norm(opening[lips], axis=1).max()
        lower, upper = (lips & ~off & moved)[faces].all(axis=1), (lips & ~off & ~moved)[faces].all(axis=1)
    return Surface(template, faces, colours, ~off[faces].any(axis=1), upper, lower)


def _centre(template: np.ndarray, eyes: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """What the first pictures look at: by the eyeballs, without which the head is taken to be in FLAME's frame."""
    if not eyes:
        return None
    middle = np.mean([template[eye].mean(axis=0) for eye in eyes.values()], axis=0)
    return np.array([0.0, middle[1] - 0.026, middle[2] - 0.045])


def drawn_heads(arrays: Mapping[str, np.ndarray], count: int) -> list[np.ndarray]:
    """The template and so many heads drawn from the first identity components, float64 [V, 3] each."""
    template = arrays["template"].astype(np.float64)
    basis = arrays["identity_basis"][:_COMPONENTS].astype(np.float64)
    if "identity_scale" in arrays:
        basis *= arrays["identity_scale"][:_COMPONENTS, None, None]
    draws = np.random.default_rng(0).standard_normal((count, len(basis)))
    return [template, *(template + np.einsum("k,kvc->vc", draw, basis) for draw in draws)]


def _points68(arrays: Mapping[str, np.ndarray]) -> np.ndarray | None:
    if "landmarks68_face" not in arrays:
        return None
    corners = arrays["faces"][arrays["landmarks68_face"]]
    return _placed(arrays["template"].astype(np.float64), corners, arrays["landmarks68_barycentric"])


def _placed(template: np.ndarray, corners: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return (template[corners] * weights[:, :, None]).sum(axis=1)


def _eyes(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    names = [name for name in ("left_eyeball", "right_eyeball") if f"region/{name}/vertices" in arrays]
    return {name: arrays[f"region/{name}/vertices"] for name in names}


def _inside(arrays: Mapping[str, np.ndarray], eyes: Mapping[str, np.ndarray]) -> np.ndarray:
    """What is neither the largest piece of the mesh nor an eyeball: teeth, tongue."""
    inside = pieces(arrays["faces"], len(arrays["template"])) != 0
    for eye in eyes.values():
        inside[eye] = False
    return inside
