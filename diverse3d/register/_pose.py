"""Where the face of a scan is: the scan is shown to the face detector from all sides, what it sees is cast back."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy.ndimage import binary_fill_holes, distance_transform_edt, gaussian_filter
from scipy.spatial import cKDTree

from .._errors import InputError
from ..fit import mean_head
from ..head import HeadModel
from ..observe import IBUG68_FROM_MEDIAPIPE, IBUG68_MIRRORED, Detection, detect_landmarks, glance
from ..surface import kabsch, zbuffer
from ._cloud import Cloud, pieces_of, thinned

_GLANCE_PX, _LOOK_PX = 160, 400
_GLANCE_POINTS = 12_000
_SURE, _LIKELY = 0.85, 0.5
_MOST_LOOKS = 12
_BACKGROUND = 237
_GAP_PX = 2.0
_CLAY = np.array([205.0, 165.0, 140.0])
_TURNS_RAD = np.radians([0.0, -25.0, 25.0])
_LOOK_WIDTH_M = 0.32
_ROUGH = 0.10
"""What landmarks of a face leave over, in inter-ocular distances; what is no face leaves more."""
_CLEAR = (0.07, 0.95)
"""What the landmarks of a clear face leave over at most, and the network's certainty, beyond which nobody looks on."""
_INTEROCULAR_M = 0.09


class Pose(NamedTuple):
    """How a scan lies: x_head = scale · turn · x_scan + shift, and what says so."""

    turn: Float[np.ndarray, "3 3"]
    shift_m: Float[np.ndarray, "3"]
    scale_m: float
    """Metres a unit of the scan, by the face's size alone."""
    landmarks: Float[np.ndarray, "68 3"]
    """iBUG's 68 points on the scan, in its own frame; NaN where the scan doesn't show one."""
    rms_m: float
    """What the landmarks leave over."""
    certainty: float
    """The detector's, 0 to 1; 1 for landmarks that were given."""
    inside: bool
    """Whether the scan's normals point into the face."""

    @property
    def misfit(self) -> float:
        """What the landmarks leave over, in inter-ocular distances."""
        return self.rms_m / _INTEROCULAR_M

    @property
    def clear(self) -> bool:
        """Whether it is a face beyond doubt."""
        return self.misfit < _CLEAR[0] and self.certainty > _CLEAR[1]


class Look(NamedTuple):
    """A picture of a scan and the point under each pixel."""

    rgb: UInt8[np.ndarray, "s s 3"]
    point: np.ndarray
    """int32 [s, s]: index of the scan's point, -1 for none."""


def show(cloud: Cloud, turn: np.ndarray, centre: np.ndarray, width: float, size_px: int, disc: float) -> Look:
    """The cloud from +z after `turn` about `centre`, `width` across: discs of radius `disc`, lit from both sides."""
    points = (cloud.points - centre) @ turn.T
    normals = cloud.normals @ turn.T
    near = (np.abs(points[:, :2]) < width * 0.75).all(axis=1)
    index = np.flatnonzero(near)
    points, normals = points[near], normals[near]
    if not len(points):
        return Look(np.full((size_px, size_px, 3), _BACKGROUND, np.uint8), np.full((size_px, size_px), -1, np.int32))
    help_axis = np.where(np.abs(normals[:, :1]) < 0.7, [[1.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]])
    first = np.cross(normals, help_axis)
    first *= disc / np.linalg.norm(first, axis=1, keepdims=True).clip(1e-12)
    second = np.cross(normals, first)
    corner = np.stack([points + first, points + second, points - first, points - second], axis=1).reshape(-1, 3)
    quad = 4 * np.arange(len(points))[:, None]
    faces = np.concatenate([quad + np.array(corners) for corners in ((0, 1, 2), (0, 2, 3))])
    scale = size_px / width
    pixel = np.stack([size_px / 2 + scale * corner[:, 0], size_px / 2 - scale * corner[:, 1]], axis=1)
    hits = zbuffer(pixel, corner[:, 2], faces, height=size_px, width=size_px)
    seen = hits.face >= 0
    which = np.where(seen, hits.face % len(points), 0)
    facing = normals * np.where(normals[:, 2:] < 0, -1.0, 1.0)
    light = 0.25 + 0.75 * np.clip(facing @ (np.array([-0.3, 0.45, 0.85]) / 1.008), 0, 1)
    albedo = np.broadcast_to(_CLAY, points.shape) if cloud.colours is None else cloud.colours[index]
    shade = albedo * (light[:, None] if cloud.colours is None else 0.35 + 0.65 * light[:, None])
    point = np.where(seen, index[which], -1)
    # Gaps between discs take what is beside them; holes within the surface a blurred colour, but no point.
    away, (row, column) = distance_transform_edt(~seen, return_indices=True)
    filled = binary_fill_holes(away <= _GAP_PX)
    picture = np.where(filled[:, :, None], shade[which[row, column]], _BACKGROUND)
    blurred = gaussian_filter(picture, (4.0, 4.0, 0.0))
    picture = np.where((filled & (away > _GAP_PX))[:, :, None], blurred, picture)
    smooth = gaussian_filter(picture, (*2 * (0.3 * disc * scale,), 0.0))
    picture = np.where(filled[:, :, None], smooth, picture)
    point = np.where(away <= _GAP_PX, point[row, column], -1)
    return Look(np.clip(picture, 0, 255).astype(np.uint8), point.astype(np.int32))


def find_pose(cloud: Cloud, head: HeadModel, source: str) -> Pose:
    """The pose of the clearest face in a scan; raises `InputError` where there is none."""
    if head.landmarks68 is None:
        raise InputError(f"The head '{head.name}' has no landmarks, so no pose can be found; give --landmarks.")
    best = _clearest(cloud, head, enough=True)
    if best is None:
        raise InputError(
            f"No face was found in {source} from any side: it may show the back of a head, too little of a face, "
            "several things at once, or no head; cut out the face, or mark it with --landmarks FILE."
        )
    return best


def _clearest(cloud: Cloud, head: HeadModel, *, enough: bool) -> Pose | None:
    """The face whose landmarks fit a face best; with `enough`, the first that fits well."""
    best: Pose | None = None
    unsure: list[_Glance] = []

    def better(seen: _Glance) -> Pose | None:
        pose = _closer(cloud, head, *seen)
        return best if pose is None or (best is not None and best.misfit <= pose.misfit) else pose

    for seen in _glances(_coarse(cloud)):
        if seen.detection.score < _SURE:
            unsure.append(seen)
            continue
        best = better(seen)
        if enough and best is not None and best.clear:
            return best
    for seen in sorted(unsure, key=lambda one: -one.detection.score)[:_MOST_LOOKS]:
        if best is not None and best.clear:
            break
        best = better(seen)
    return best if best is not None and best.misfit < _ROUGH and best.certainty > 0.5 else None


def given_pose(landmarks: Float[np.ndarray, "68 3"], cloud: Cloud, head: HeadModel, source: str) -> Pose:
    """The pose that given landmarks say; raises `InputError` where they are mirrored or no face's."""
    if head.landmarks68 is None:
        raise InputError(f"The head '{head.name}' has no landmarks that given ones could be compared with.")
    places = _head_places(head)
    known = np.isfinite(landmarks).all(axis=1)
    turn, shift, scale, rms = robust_similarity(landmarks[known], places[known])
    flipped = robust_similarity(landmarks[known] * [-1.0, 1.0, 1.0], places[known])[3]
    if rms > 0.01 and flipped < 0.6 * rms:
        raise InputError(
            f"The landmarks of {source} fit a mirrored face: left and right may be exchanged in them (they are the "
            "person's), or the scan may be mirrored."
        )
    if rms > 0.025:
        raise InputError(
            f"The landmarks of {source} are no face's: they lie {1e3 * rms:.0f} mm off the best similarity."
        )
    pose = Pose(turn, shift, scale, landmarks, rms, 1.0, False)
    at = _near_nose(cloud, pose)
    return pose._replace(inside=bool(at.any() and np.median((cloud.normals @ turn[2])[at]) < 0))


def other_faces(cloud: Cloud, pose: Pose, unit_m: float, head: HeadModel) -> int:
    """How many faces the rest of a scan shows: 1 for one or more, 0 for none or where hardly anything is left."""
    place = unit_m * cloud.points @ pose.turn.T + pose.shift_m
    middle = np.asarray(head.template_m, np.float64).mean(axis=0)
    rest = np.linalg.norm(place - middle, axis=1) > 0.20
    if rest.mean() < 0.25 or rest.sum() < 500:
        return 0
    other = _clearest(cloud.chosen(rest), head, enough=True)
    return int(other is not None and other.certainty > _SURE and 0.6 < other.scale_m / pose.scale_m < 1.6)


def _coarse(cloud: Cloud) -> Cloud:
    """Few enough points for many pictures."""
    extent = float(np.ptp(np.quantile(cloud.points, [0.01, 0.99], axis=0), axis=0).max())
    for share in (0.006, 0.008, 0.011, 0.015, 0.02):
        fewer = thinned(cloud, share * extent)
        if len(fewer.points) <= _GLANCE_POINTS:
            break
    return fewer


def _directions(cloud: Cloud) -> Iterator[np.ndarray]:
    """Whence to look: where most of the surface faces, the axes, then evenly all around (Fibonacci's lattice)."""
    mean = cloud.normals.mean(axis=0)
    if np.linalg.norm(mean) > 0.2:
        yield mean / np.linalg.norm(mean)
        yield -mean / np.linalg.norm(mean)
    for sign in (1.0, -1.0):
        for axis in (2, 1, 0):
            yield sign * np.eye(3)[axis]
    place = np.arange(40) + 0.5
    height, angle = 1.0 - 2.0 * place / 40, np.pi * (1.0 + 5.0**0.5) * place
    ring = np.sqrt(1.0 - height**2)
    yield from np.stack([ring * np.cos(angle), height, ring * np.sin(angle)], axis=1)


class _Glance(NamedTuple):
    """A face in a small picture."""

    detection: Detection
    turn: np.ndarray
    centre: np.ndarray
    width: float


def _glances(cloud: Cloud) -> Iterator[_Glance]:
    """What may be faces in small pictures from all sides, each also turned by eighths: of all that the scan shows, then
    of each large piece of it."""
    for part in _parts(cloud):
        low, high = np.quantile(part.points, [0.01, 0.99], axis=0)
        centre, width = (low + high) / 2, float(np.linalg.norm(high - low))
        disc = 0.9 * float(np.median(cKDTree(part.points).query(part.points, 5)[0][:, -1]))
        for direction in _directions(part):
            for roll in (0.0, np.pi / 4):
                turn = _facing(direction, roll)
                look = show(part, turn, centre, width, _GLANCE_PX, disc)
                for quarter in range(4):
                    for detection in glance(look.rgb, quarter):
                        if detection.score >= _LIKELY and _in_relief(detection, look, part.points @ turn[2], width):
                            yield _Glance(detection, turn, centre, width)


def _parts(cloud: Cloud) -> Iterator[Cloud]:
    """The cloud, and its large pieces where it has several."""
    yield cloud
    count = min(9, len(cloud.points))
    distance, index = cKDTree(cloud.points).query(cloud.points, count)
    label = pieces_of(distance, index, 3.0 * float(np.median(distance[:, -1])))
    size = np.bincount(label)
    large = np.argsort(-size)[: int((size > 0.04 * len(label)).sum())][:4]
    if len(large) > 1:
        for one in large:
            yield cloud.chosen(label == one)


def _in_relief(detection: Detection, look: Look, depth: np.ndarray, width: float) -> bool:
    """Whether the surface lies as a face's does: eyes side by side, a nose tip before them (or behind, for a face seen
    from within), all of it there."""
    column, row = np.clip(np.floor(detection.keypoints_px[:3]).astype(int), 0, _GLANCE_PX - 1).T
    which = look.point[row, column]
    if (which < 0).any():
        return False
    apart = float(np.linalg.norm(detection.keypoints_px[1] - detection.keypoints_px[0])) * width / _GLANCE_PX
    right, left, nose = depth[which].tolist()
    return abs(right - left) < apart and 0.05 * apart < abs(nose - (right + left) / 2) < 1.5 * apart


def _facing(direction: np.ndarray, roll: float) -> np.ndarray:
    """A rotation that brings a direction to +z, then rolls about it."""
    up = np.array([0.0, 1.0, 0.0]) if abs(direction[1]) < 0.9 else np.array([0.0, 0.0, -np.sign(direction[1])])
    x = np.cross(up, direction)
    x /= np.linalg.norm(x)
    turn = np.stack([x, np.cross(direction, x), direction])
    c, s = np.cos(roll), np.sin(roll)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]]) @ turn


def _closer(
    cloud: Cloud, head: HeadModel, detection: Detection, turn: np.ndarray, centre: np.ndarray, width: float
) -> Pose | None:
    """The pose by landmarks on larger pictures: one as the detector saw the face, then three from before it."""
    scale = width / _GLANCE_PX
    eyes = detection.keypoints_px[1] - detection.keypoints_px[0]
    roll = np.arctan2(-eyes[1], eyes[0])
    middle = detection.keypoints_px[:4].mean(axis=0) - _GLANCE_PX / 2
    c, s = np.cos(-roll), np.sin(-roll)
    upright = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]]) @ turn
    side = float(np.ptp(detection.box_px.reshape(2, 2), axis=0).max()) * scale
    centre = centre + turn.T @ np.array([middle[0] * scale, -middle[1] * scale, 0.0])
    fine = cloud.chosen(np.linalg.norm((cloud.points - centre) @ turn[:2].T, axis=1) < 2.2 * side)
    if len(fine.points) < 200:
        return None
    if len(fine.points) > 60_000:
        fine = thinned(fine, side / 140)
    disc = 1.1 * float(np.sqrt(side**2 * 3 / len(fine.points)))
    marks, score = _marks(fine, upright, centre, 2.2 * side, disc)
    pose = _similarity(head, marks, score)
    if pose is None:
        return None
    for _ in range(2):
        seen, scores = [], []
        for yaw in _TURNS_RAD:
            c, s = np.cos(yaw), np.sin(yaw)
            turned = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]) @ pose.turn
            middle_m = np.array([0.0, -0.01, 0.03])
            place = pose.turn.T @ ((middle_m - pose.shift_m) / pose.scale_m)
            found, score = _marks(fine, turned, place, _LOOK_WIDTH_M / pose.scale_m, disc)
            if score > 0.3:
                seen.append(found)
                scores.append(score)
        if not seen:
            return None
        marks = _medians(np.stack(seen))
        nearer = _similarity(head, marks, max(scores))
        if nearer is None:
            return None
        pose = nearer
    facing = fine.normals @ pose.turn[2]
    at = _near_nose(fine, pose)
    inside = bool(np.median(facing[at]) < 0) if at.any() else False
    return pose._replace(inside=inside)


def _medians(marks: np.ndarray) -> np.ndarray:
    """Middle of each landmark's places in several pictures [n, 68, 3], NaN where no picture shows it."""
    known = np.isfinite(marks).all(axis=2).any(axis=0)
    middle = np.full(marks.shape[1:], np.nan)
    middle[known] = np.nanmedian(marks[:, known], axis=0)
    return middle


def _near_nose(cloud: Cloud, pose: Pose) -> Bool[np.ndarray, " P"]:
    """Points about the nose."""
    place = pose.scale_m * cloud.points @ pose.turn.T + pose.shift_m
    marks = pose.scale_m * pose.landmarks @ pose.turn.T + pose.shift_m
    nose = marks[27:36] if np.isfinite(marks[27:36]).any() else marks
    return np.linalg.norm(place - np.nanmean(nose, axis=0), axis=1) < 0.04


def _marks(cloud: Cloud, turn: np.ndarray, centre: np.ndarray, width: float, disc: float) -> tuple[np.ndarray, float]:
    """iBUG's points [68, 3] on the scan as one picture shows them, NaN off it; and the network's certainty."""
    look = show(cloud, turn, centre, width, _LOOK_PX, disc)
    box = np.array([0.25, 0.22, 0.75, 0.78]) * _LOOK_PX
    eyes = np.array([[0.40, 0.42], [0.60, 0.42], [0.5, 0.53], [0.5, 0.65], [0.28, 0.46], [0.72, 0.46]]) * _LOOK_PX
    landmarks = detect_landmarks(look.rgb, Detection(box, eyes, 1.0))
    pixel = landmarks.points_px[list(IBUG68_FROM_MEDIAPIPE)]
    column, row = np.clip(np.floor(pixel).astype(int), 0, _LOOK_PX - 1).T
    which = look.point[row, column]
    # In the picture's plane as the network says, in depth as the scan.
    places = np.full((68, 3), np.nan)
    on = which >= 0
    scale = width / _LOOK_PX
    flat = np.stack([(pixel[:, 0] - _LOOK_PX / 2) * scale, (_LOOK_PX / 2 - pixel[:, 1]) * scale], axis=1)
    depth = (cloud.points[which] - centre) @ turn[2]
    places[on] = (np.concatenate([flat, depth[:, None]], axis=1) @ turn + centre)[on]
    return places, landmarks.score


def _similarity(head: HeadModel, marks: np.ndarray, certainty: float) -> Pose | None:
    """The pose that landmarks say; mirrored ones (a face seen from within) are put right."""
    places = _head_places(head)
    best: Pose | None = None
    for mirrored in (False, True):
        own = marks[list(IBUG68_MIRRORED)] if mirrored else marks
        known = np.isfinite(own).all(axis=1)
        # The outline depends on the view; it counts for the pose only where nothing else is there.
        known[:17] &= known[17:].sum() < 12
        if known.sum() < 10:
            continue
        turn, shift, scale, rms = robust_similarity(own[known], places[known])
        if best is None or rms < best.rms_m:
            best = Pose(turn, shift, scale, own, rms, certainty, False)
    return best


def _head_places(head: HeadModel) -> np.ndarray:
    """iBUG's points on the mean head, metres."""
    return places68(head, np.asarray(mean_head(head), np.float64))


def places68(head: HeadModel, vertices_m: Float[np.ndarray, "V 3"]) -> Float[np.ndarray, "68 3"]:
    """iBUG's points on a head's vertices; NaN for a head without landmarks."""
    points = head.landmarks68
    if points is None:
        return np.full((68, 3), np.nan)
    return (vertices_m[np.asarray(points.corners)] * np.asarray(points.barycentric)[:, :, None]).sum(axis=1)


def robust_similarity(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray, float, float]:
    """turn, shift, scale with target ≈ scale · turn · source + shift, and the RMS over what agrees; by least squares
    that leaves the worst out."""
    chosen = np.ones(len(source), bool)
    for _ in range(6):
        a, b = source[chosen], target[chosen]
        scale = float(np.sqrt(((b - b.mean(0)) ** 2).sum() / max(((a - a.mean(0)) ** 2).sum(), 1e-30)))
        turn, shift = kabsch(scale * a, b)
        away = np.linalg.norm(scale * source @ turn.T + shift - target, axis=1)
        limit = max(2.5 * np.median(away), 1e-3)
        chosen = away <= limit
    return turn, shift, scale, float(np.sqrt((away[chosen] ** 2).mean()))
