"""A texture's place for every vertex: the surface laid out flat without seams, so that no vertex is doubled.

The skin is one sheet with one opening, at the neck. It is mapped on to a disc whose rim is that opening, by Tutte's
theorem: where every inner vertex lies in the middle (by positive weights) of its neighbours, no triangle folds over.
Plain weights would leave a face far from the rim next to nothing, so they are changed as Yoshizawa, Belyaev and Seidel
(Shape Modeling International 2004) do: towards vertices whose triangles are stretched too much, weights fall.
"""

import jax.numpy as jnp
import numpy as np
import scipy.sparse as sparse
from jaxtyping import Float, Int
from scipy.sparse.linalg import splu
from scipy.spatial import cKDTree

from .._arrays import on_device
from ._graph import boundary_loops, neighbours, pieces
from ._visible import facing_camera

_ROUNDS = 12
_CORNER = 0.145  # side of the squares in the corners that the disc of radius 1/2 leaves free
_RIM = 0.49  # of a square's side: keeps charts a few texels apart
_VIEWS = ((0.0, 4.0), (45.0, 3.0), (-45.0, 3.0), (180.0, 1.0), (135.0, 1.0), (-135.0, 1.0))
"""Sides (degrees) from which surface is looked at, and how long a metre seen from there is to be."""
_UNSEEN = 0.4  # the same of what none of them sees: the mouth's and the nostrils' inside
_BACK = 0.45  # share of the depth of a part without an opening that gets no place of its own


def unwrap(template_m: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]) -> Float[np.ndarray, "V 2"]:
    """One place (u to the right, v upwards, 0 to 1) a vertex, of a template in FLAME's frame.

    The largest connected part fills the disc, neck at the rim and face upright below the middle; the others (eyeballs)
    lie in the corners. Of a part without an opening only the front has a place, and the back lies flat on its rim.
    Triangles turn the same way as on the surface seen from outside.
    """
    template, faces = np.asarray(template_m, np.float64), np.asarray(faces)
    weight = _importance(template, faces)
    label = pieces(faces, len(template))
    parts = [np.flatnonzero(label[faces[:, 0]] == part) for part in np.unique(label[faces[:, 0]])]
    parts.sort(key=len, reverse=True)
    uv = np.full((len(template), 2), 0.5)
    for number, part in enumerate(parts):
        used, local = np.unique(faces[part], return_inverse=True)
        centre, side = _square(number, len(parts))
        uv[used] = centre + _RIM * side * _disc(
            template[used], local.reshape(-1, 3), weight[used] if number == 0 else np.ones(len(used))
        )
    return uv


def _square(number: int, count: int) -> tuple[Float[np.ndarray, "2"], float]:
    """Middle and side of the square that a part gets: all of it for the first, else a cell in a corner."""
    if number == 0:
        return np.array([0.5, 0.5]), 1.0
    cell, corner = divmod(number - 1, 4)
    grid = int(np.ceil(np.sqrt(np.ceil((count - 1) / 4))))
    side = _CORNER / grid
    within = (np.array(divmod(cell, grid)) + 0.5) * side
    # The first two, which are eyes, are the lower ones.
    flip = np.array([corner % 2, corner // 2], bool)
    return np.where(flip, 1.0 - within, within), side


def _importance(template: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]) -> Float[np.ndarray, " V"]:
    """How long a metre of the surface is to be, by how often it is seen from the front and the sides of the face."""
    length = np.full(len(template), _UNSEEN)
    for yaw, worth in _VIEWS:
        c, s = np.cos(np.radians(yaw)), np.sin(np.radians(yaw))
        turned = template @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]).T
        seen = facing_camera(on_device(turned, jnp.float32), on_device(faces, jnp.int32))
        length = np.maximum(length, worth * seen)
    mean = sparse.csr_matrix((np.ones(6 * len(faces)), neighbours(faces)), shape=(len(template),) * 2)
    mean = mean + sparse.identity(len(template))
    mean = sparse.diags(1.0 / np.asarray(mean.sum(1)).ravel()) @ mean
    for _ in range(4):  # no sudden change of scale
        length = mean @ length
    return length


def _disc(
    points: Float[np.ndarray, "n 3"], faces: Int[np.ndarray, "f 3"], weight: Float[np.ndarray, " n"]
) -> Float[np.ndarray, "n 2"]:
    """Places of one part's vertices in the unit disc."""
    count, loops = len(points), boundary_loops(faces)
    closed = not loops
    if closed:
        faces = _front(points, faces)
        loops = boundary_loops(faces)
    if not loops:  # no surface to speak of
        return np.zeros((count, 2))
    loops.sort(key=lambda loop: float(np.linalg.norm(points[loop] - points[np.roll(loop, 1)], axis=1).sum()))
    rim = loops.pop()
    angle = _rim_angles(points[rim], upright=closed)
    # Each further opening is closed by a vertex in its middle, or its edge could fold.
    filled, middles, weights = [faces], [points], [weight]
    for number, loop in enumerate(loops, start=count):
        middles.append(points[loop].mean(axis=0, keepdims=True))
        weights.append(weight[loop].mean(keepdims=True))
        filled.append(np.stack([np.roll(loop, -1), loop, np.full(len(loop), number)], axis=1))
    fixed = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    uv = _embed(np.concatenate(middles), np.concatenate(filled), np.concatenate(weights), rim, fixed)[:count]
    placed = np.zeros(count, bool)
    placed[faces] = True
    nearest = cKDTree(points[rim]).query(points[~placed])[1] if not placed.all() else np.zeros(0, np.int64)
    uv[~placed] = fixed[nearest]
    return uv


def _front(points: Float[np.ndarray, "n 3"], faces: Int[np.ndarray, "f 3"]) -> Int[np.ndarray, "g 3"]:
    """The triangles of the largest connected piece before a plane."""
    depth = points[:, 2]
    faces = faces[(depth > depth.min() + _BACK * np.ptp(depth))[faces].all(axis=1)]
    label = pieces(faces, len(points))
    return faces[label[faces[:, 0]] == 0]


def _embed(
    points: Float[np.ndarray, "n 3"],
    faces: Int[np.ndarray, "f 3"],
    weight: Float[np.ndarray, " n"],
    rim: Int[np.ndarray, " r"],
    fixed: Float[np.ndarray, "r 2"],
) -> Float[np.ndarray, "n 2"]:
    """The least stretched of a few rounds of solving and changing weights."""
    count = len(points)
    pairs = np.unique(np.stack(neighbours(faces)), axis=1)
    row, column = pairs[:, (pairs[0] != pairs[1])]
    inner = np.setdiff1d(np.unique(faces), rim)
    strength = 1.0 / np.maximum(np.linalg.norm(points[row] - points[column], axis=1), 1e-6)
    local = points[faces] * weight[faces].mean(axis=1)[:, None, None]
    best, least = np.zeros((count, 2)), np.inf
    for _ in range(_ROUNDS):
        matrix = sparse.csr_matrix((strength, (row, column)), shape=(count, count))
        matrix = sparse.diags(np.asarray(matrix.sum(1)).ravel()) - matrix
        rows = matrix[inner]
        uv = np.zeros((count, 2))
        uv[rim] = fixed
        if len(inner):
            uv[inner] = splu(sparse.csc_matrix(rows[:, inner])).solve(-(rows[:, rim] @ fixed))
        square, area = _stretch(local, uv[faces])
        total = float((square * area).sum() / area.sum())
        if not total < least:
            break
        best, least = uv, total
        vertex, mass = np.zeros(count), np.zeros(count)
        for corner in range(3):
            np.add.at(vertex, faces[:, corner], square * area)
            np.add.at(mass, faces[:, corner], area)
        stretch = np.sqrt(vertex / np.maximum(mass, 1e-30)).clip(1e-6)
        strength = strength / stretch[column]
        strength /= strength.mean()
    return best


def _stretch(
    corners: Float[np.ndarray, "f 3 3"], uv: Float[np.ndarray, "f 3 2"]
) -> tuple[Float[np.ndarray, " f"], Float[np.ndarray, " f"]]:
    """Mean square length on the surface of a unit of the map, and area on the surface, of each triangle."""
    (s, t), (p, q) = ((a[:, 1] - a[:, 0], a[:, 2] - a[:, 0]) for a in (uv, corners))
    flat = s[:, 0] * t[:, 1] - s[:, 1] * t[:, 0]
    flat = np.where(np.abs(flat) < 1e-12, 1e-12, flat)[:, None]
    across, upwards = (p * t[:, 1:] - q * s[:, 1:]) / flat, (q * s[:, :1] - p * t[:, :1]) / flat
    square = ((across**2).sum(axis=1) + (upwards**2).sum(axis=1)) / 2
    return square, np.linalg.norm(np.cross(p, q), axis=1) / 2


def _rim_angles(points: Float[np.ndarray, "r 3"], *, upright: bool) -> Float[np.ndarray, " r"]:
    """Angles by length along the rim: its foremost point lowest, or its topmost point uppermost."""
    step = np.linalg.norm(np.roll(points, -1, axis=0) - points, axis=1)
    along = 2 * np.pi * np.concatenate([[0.0], np.cumsum(step)[:-1]]) / max(float(step.sum()), 1e-12)
    anchor = int(points[:, 1].argmax() if upright else points[:, 2].argmax())
    return along - along[anchor] + (np.pi / 2 if upright else -np.pi / 2)
