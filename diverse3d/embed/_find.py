"""Heads shown from several sides → where each point lies on the mesh: averages, made symmetric, snapped to the skin."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import trimesh
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree

from .._errors import InputError
from ..observe import IBUG68_FROM_MEDIAPIPE, IBUG68_MIRRORED
from ..surface import Portrait
from ._cast import LEAST_FACING, LOWER_INNER, UPPER_INNER, Surface, cast

VIEWS = (*(Portrait(yaw=yaw) for yaw in (0, -18, 18, -35, 35, -52, 52)), Portrait(pitch=12), Portrait(pitch=-12))
"""Whence a head is seen."""

OPEN_VIEWS = tuple(Portrait(yaw=yaw, pitch=pitch) for yaw, pitch in ((0, 0), (-12, 0), (12, 0), (0, 10)))
"""Whence a head with an open mouth is seen."""

FACING_POWER = 4  # straight views count more: the line of the jaw is placed by the views from the side
LARGEST_JUMP_M = 0.03  # between a point's place in one picture and its mean; farther is another part of the face
LARGEST_SPREAD_M = 0.006  # points scattered more than this are left out
LEAST_SHARE = 0.15  # of the pictures must place a point
_TIGHTER = 0.7  # share of the usual scatter below which another start is taken
_CLUSTER_M = 0.012  # places nearer than this agree
_EXACT_M = 2e-4  # meshes whose vertices have twins nearer than this are symmetric to the vertex
_STANDARD_CENTRE_M = np.array([0.0, -0.005, -0.02])  # of the views, on a head of FLAME's frame


class Shown(NamedTuple):
    """A head to show: its shape, its colours, and how its mouth opens."""

    vertices: np.ndarray
    """float64 [V, 3]"""
    colours: np.ndarray
    """uint8 [V, 3]"""
    opening: np.ndarray | None = None
    """float64 [V, 3] to add for an open mouth; None where the head has no such expression"""


class Found(NamedTuple):
    """Where points were found: vertices of a triangle and their weights, each summing to one."""

    points: np.ndarray
    """int32 [n]: which of mediapipe's 468 points, ascending; all of the 68's sources are among them."""
    corners: np.ndarray
    """int32 [n, 3]"""
    weights: np.ndarray
    """float64 [n, 3]"""
    spread_m: np.ndarray
    """float64 [n]: how far the pictures scatter about the mean."""
    pictures: int
    """How many pictures were shown."""

    @property
    def ibug68(self) -> tuple[np.ndarray, np.ndarray]:
        """Corners [68, 3] and weights [68, 3] of the 68 iBUG landmarks."""
        rows = np.searchsorted(self.points, IBUG68_FROM_MEDIAPIPE)
        return self.corners[rows], self.weights[rows]


def find_landmarks(
    mesh: Surface,
    heads: Sequence[Shown],
    *,
    centre_m: np.ndarray | None = None,
    size_px: int = 512,
    progress: Callable[[str], None] = lambda text: None,
) -> Found:
    """Show each head from several sides and say where the detector's points lie on the mesh.

    `centre_m` [3] is what the views look at: 26 mm below the eyes and 57 mm behind the lids; by default that of a head
    in FLAME's frame. Pictures of `size_px` show 0.3 m; smaller ones are faster. `progress` hears one sentence a head.
    Raises `InputError` where the detector sees no face in most pictures, or doesn't place all of iBUG's 68.
    """
    centre = _STANDARD_CENTRE_M if centre_m is None else np.asarray(centre_m, np.float64)
    looked_at = float(centre[0]), float(centre[1]), float(centre[2])
    rows, directions, faces_seen = [], [], 0
    for number, head in enumerate(heads):
        shots = [(head.vertices, view, False) for view in VIEWS]
        if head.opening is not None:
            shots += [(head.vertices + head.opening, view, True) for view in OPEN_VIEWS]
        for vertices, view, inner in shots:
            view = view._replace(size_px=size_px, centre_m=looked_at)
            rows.append(cast(mesh, vertices, head.colours, view, inner))
            directions.append(view.rotation[2])
            faces_seen += bool(np.isfinite(rows[-1]).any())
        progress(f"head {number + 1} of {len(heads)}: {faces_seen} of {len(rows)} pictures show a face")
    if faces_seen < len(rows) / 3:
        raise InputError(
            f"the detector sees a face in {faces_seen} of {len(rows)} pictures of the head, too few to place landmarks "
            "by; give them as a file (--landmarks FILE)."
        )
    mean, spread, count = locate(np.stack(rows), np.stack(directions), centre + np.array([0.0, 0.005, -0.02]))
    found = _settle(mesh, mean, spread, count, len(heads))
    return Found(*found, len(rows))


def locate(
    places: np.ndarray, directions: np.ndarray, head_centre_m: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean place [468, 3], spread [468] (metres) and the number of pictures used, per point; a guess has spread ∞.

    `places` [pictures, 468, 3]; `directions` [pictures, 3] say whence each head was seen. The detector also guesses
    points that the head itself hides, and those land on whatever is before them. So a picture counts for a point only
    if a smooth head that bulges out from `head_centre_m` faces the camera at its mean place, the more the better; the
    first means come from the views nearest to the front.
    """
    found = np.isfinite(places[:, :, 0])
    filled = np.nan_to_num(places)
    frontal = found & (directions[:, 2] > np.cos(np.radians(20)))[:, None]
    weight = _weighed(filled, found, directions, head_centre_m, frontal)
    mean, spread, count = _averaged(filled, weight)
    # At the sides the frontal views may mix a point's place with what hides it. Then the thickest cluster is a better
    # start, which shows by how little its places scatter.
    thickest = _thickest(filled, found)
    other = _averaged(filled, _weighed(filled, found, directions, head_centre_m, thickest))
    fewest = min(3, len(places) // len(VIEWS))
    better = (other[1] < _TIGHTER * spread) & (other[2] >= count / 2) & (other[2] > 0)
    better |= (count < 3) & (other[2] > count)
    mean[better], spread[better], count[better] = (part[better] for part in other)
    few = count < fewest
    mean[few], spread[few] = _averaged(filled, thickest.astype(np.float64))[0][few], np.inf
    mean[~found.any(axis=0)] = np.nan
    return mean, spread, count


def _averaged(filled: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean place [468, 3], spread [468] and number of pictures [468]."""
    total = weight.sum(axis=0).clip(1e-12)
    mean = (weight[:, :, None] * filled).sum(axis=0) / total[:, None]
    square = np.square(filled - mean[None]).sum(axis=2)
    return mean, np.sqrt((weight * square).sum(axis=0) / total), (weight > 0).sum(axis=0)


def _weighed(
    filled: np.ndarray, found: np.ndarray, directions: np.ndarray, head_centre_m: np.ndarray, start: np.ndarray
) -> np.ndarray:
    """How much each picture counts for each point, [pictures, 468], from the pictures to start with (bool)."""
    weight = start.astype(np.float64)
    for _ in range(8):
        mean = (weight[:, :, None] * filled).sum(axis=0) / weight.sum(axis=0).clip(1e-12)[:, None]
        distance = np.linalg.norm(filled - mean[None], axis=2)
        typical = (weight * distance).sum(axis=0) / weight.sum(axis=0).clip(1e-12)
        outwards = (mean - head_centre_m) * [1.0, 0.6, 1.0]
        facing = directions @ (outwards / np.linalg.norm(outwards, axis=1, keepdims=True)).T
        near = distance <= np.clip(2.5 * typical + 1e-3, 0.0, LARGEST_JUMP_M)[None]
        weight = np.where(found & near & (facing > LEAST_FACING), facing.clip(0) ** FACING_POWER, 0.0)
    return weight


def _thickest(filled: np.ndarray, found: np.ndarray) -> np.ndarray:
    """The pictures, bool [pictures, 468], that place a point where most others do."""
    start = np.zeros(found.shape, bool)
    for point in range(found.shape[1]):
        rows = np.flatnonzero(found[:, point])
        if len(rows):
            apart = np.linalg.norm(filled[rows, None, point] - filled[None, rows, point], axis=2)
            members = (apart < _CLUSTER_M).sum(axis=1)
            # What the far side of the head hides is drawn towards the middle; so, among like clusters, the outer one.
            outer = np.where(members > 0.6 * members.max(), np.abs(filled[rows, point, 0]), -1.0)
            start[rows[apart[outer.argmax()] < _CLUSTER_M], point] = True
    return start


def mirrored_points(mean: np.ndarray) -> np.ndarray:
    """[468]: the point on the other side of the face, found among the means; -1 where there is none."""
    usable = np.isfinite(mean[:, 0])
    distance = np.linalg.norm(mean[:, None] * [-1.0, 1.0, 1.0] - mean[None], axis=2)
    distance[~usable], distance[:, ~usable] = 1.0, 1.0
    twin = linear_sum_assignment(distance + distance.T)[1]
    twin[twin[twin] != np.arange(468)] = -1
    return twin


def snap(mesh: Surface, points: np.ndarray, allowed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nearest place of the allowed faces to each point: vertex triples [n, 3], barycentric weights [n, 3]."""
    faces = mesh.faces[allowed]
    surface = trimesh.Trimesh(mesh.template, faces, process=False)
    place, _, face = trimesh.proximity.closest_point_naive(surface, points)
    weight = trimesh.triangles.points_to_barycentric(mesh.template[faces[face]], place).clip(0)
    return faces[face], weight / weight.sum(axis=1, keepdims=True)


def _settle(
    mesh: Surface, mean: np.ndarray, spread: np.ndarray, count: np.ndarray, heads: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Which points are kept, and where on the mesh: symmetric where the points, and the mesh, are."""
    twin = mirrored_points(mean)
    paired = twin >= 0
    mean = mean.copy()
    for own, other in zip(IBUG68_FROM_MEDIAPIPE, np.array(IBUG68_FROM_MEDIAPIPE)[list(IBUG68_MIRRORED)], strict=True):
        if not np.isfinite(mean[own, 0]):  # what one side doesn't show, the other may
            mean[own], spread[own] = mean[other] * [-1.0, 1.0, 1.0], spread[other]
    mean[paired] = ((mean + mean[twin] * [-1.0, 1.0, 1.0]) / 2)[paired]
    by_lip = bool(mesh.upper.any() or mesh.lower.any())
    lips = {**dict.fromkeys(UPPER_INNER, mesh.upper), **dict.fromkeys(LOWER_INNER, mesh.lower)} if by_lip else {}
    enough = np.where(np.isin(np.arange(468), list(lips)), len(OPEN_VIEWS), len(VIEWS))
    kept = np.isfinite(mean[:, 0]) & (spread < LARGEST_SPREAD_M) & (count > LEAST_SHARE * enough * heads)
    needed = list(IBUG68_FROM_MEDIAPIPE)
    kept[paired] &= kept[twin[paired]]
    kept[needed] = np.isfinite(mean[needed, 0])
    if not kept[needed].all():
        raise InputError(
            f"the detector places {int(kept[needed].sum())} of the 68 landmarks; give them as a file "
            "(--landmarks FILE)."
        )
    corners, weights = np.zeros((468, 3), np.int32), np.zeros((468, 3))
    for allowed in (mesh.skin, mesh.upper, mesh.lower):
        index = np.array([i for i in np.flatnonzero(kept).tolist() if lips.get(i, mesh.skin) is allowed], np.int64)
        if len(index):
            corners[index], weights[index] = snap(mesh, mean[index], allowed)
    distance, mirror = cKDTree(mesh.template).query(mesh.template * [-1.0, 1.0, 1.0])
    triangles = set(map(tuple, np.sort(mesh.faces, axis=1).tolist()))
    for left in np.flatnonzero(kept & paired & (mean[:, 0] > 0)):
        twins = mirror[corners[left]]
        # The right side is the left one's mirror image, face by face, where the mesh's diagonals let it.
        if distance[corners[left]].max() < _EXACT_M and tuple(sorted(twins.tolist())) in triangles:
            corners[twin[left]], weights[twin[left]] = twins, weights[left]
    points = np.flatnonzero(kept).astype(np.int32)
    return points, corners[points], weights[points], spread[points]
