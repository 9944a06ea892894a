"""Faces, their 468 points, expressions and people in a photo: mediapipe's official models, run by LiteRT.

Only the networks are mediapipe's. Anchors, box decoding, suppression and crops are written here from their
public definition (a 128 px single-shot detector with strides 8, 16, 16, 16; a 256 px landmark network on an
eye-aligned crop; a network from points to 52 expressions; a 256 px network that tells a person from the background),
so that neither mediapipe nor OpenCV is needed at run time.

Images are uint8 [H,W,3] sRGB. Pixel positions run from 0 to W and 0 to H, with pixel centres at +0.5.
"""

import functools
from typing import NamedTuple

import equinox as eqx
import numpy as np
from jaxtyping import Float64, UInt8
from PIL import Image

from .._errors import InputError
from ._blendshapes import BLENDSHAPE_POINTS
from ._networks import logit, model, sigmoid

SMALLEST_FACE_PX = 40.0
_DETECTOR_SIDE = 128
_LANDMARKER_SIDE = 256
PERSON_SIDE = 256
"""Side of the square on which people are told from the background."""
_DETECTION_SCORE = 0.5
_SURE_SCORE = 0.75
# Log odds. Bare faces reach 25, the worst covered of 45 rendered ones 1.6; coins, cells and cloth reach that too,
# but on them the points jump about where the crop is laid a little otherwise.
_ENOUGH_EVIDENCE = 1.0
_DETECTOR_WEIGHT = 5.0
_LANDMARKER_WEIGHT = 0.5  # it doubts many a covered face
_PLAIN_EVIDENCE = 15.0  # from which on nothing but faces was seen, and the points' steadiness isn't asked for
_OTHER_LOOKS = ((12.0, 1.0), (-12.0, 1.0), (0.0, 1.2), (0.0, 0.85))  # the crop turned (degrees) and scaled
_UNSTEADY = 0.048  # of the face's length; covered faces move by 0.044, what is no face by 0.05 and more
_UNSTEADY_PX = 2.5  # which small faces may move by
_SAME_FACE = 0.1  # overlap that a face keeps with itself from the first look to the second
_OVERLAP = 0.3  # two boxes that overlap more than this (intersection over union) are one face
_CROP_SCALE = 1.5
_OUTER_EYE_CORNERS = (33, 263)
_SMALLEST_TILE_PX = 160
_CLOSE_VIEWS = (4, 2)  # sides of the views of the second look, in box sides

Rgb = UInt8[np.ndarray, "height width 3"]


class Detection(eqx.Module):
    """Where a face is."""

    box_px: Float64[np.ndarray, "4"]
    """Left, top, right, bottom, in pixels; it may reach beyond the picture."""
    keypoints_px: Float64[np.ndarray, "6 2"]
    """The person's right eye, left eye, nose tip, mouth centre, right ear and left ear."""
    score: float = eqx.field(static=True)
    """The detector's certainty, 0 to 1."""


class Landmarks(eqx.Module):
    """Mediapipe's 468 face points."""

    points_px: Float64[np.ndarray, "468 2"]
    """Positions in the picture, in pixels."""
    depth: Float64[np.ndarray, "468"]
    """Relative depth, in the same pixels: smaller is nearer to the camera; only differences mean anything."""
    irises_px: Float64[np.ndarray, "10 2"]
    """Centre, then four points of the border, of the person's right iris and of the left one, likewise."""
    score: float = eqx.field(static=True)
    """Certainty that the crop shows a face at all, 0 to 1; it says nothing about single points."""

    @property
    def blendshapes(self) -> Float64[np.ndarray, "52"]:
        """How much of each of `BLENDSHAPES` the face shows, 0 to 1; a network tells, when it is asked for."""
        points_px = np.concatenate([self.points_px, self.irises_px])[list(BLENDSHAPE_POINTS)]
        (shown,) = model("face_blendshapes").run(points_px.astype(np.float32))
        return shown


Which = int | tuple[float, float]
"""Which face of several: its number from left to right, from 1, or the one nearest to a point (x, y) in pixels."""


class FaceFound(eqx.Module):
    """The face that is worked on, and those that there were to choose from."""

    detection: Detection
    """The chosen face."""
    landmarks: Landmarks
    """Its points."""
    boxes_px: Float64[np.ndarray, "n 4"]
    """Left, top, right, bottom of every face in the picture, from left to right, in pixels."""
    number: int = eqx.field(static=True)
    """Which of them it is, from 1."""

    @property
    def faces_found(self) -> int:
        """Number of faces in the picture."""
        return len(self.boxes_px)


def observe_face(rgb: Rgb, which: Which | None = None) -> FaceFound:
    """Finds a face, the largest where nothing is said, and its landmarks.

    Raises `InputError` when there is no face, none of that number, or when it is under 40 pixels long.
    """
    found = _find(rgb)
    if not found:
        raise InputError(
            "No face was found in the picture: give a photo in which a face is upright, lit and at least "
            f"{SMALLEST_FACE_PX:.0f} pixels long."
        )
    detections = tuple(face for face, _ in found)
    ordered = sorted(detections, key=lambda face: float(face.box_px[0] + face.box_px[2]))
    chosen = _choose(detections, ordered, which)
    landmarks = next(points for face, points in found if face is chosen)
    length_px = float(np.ptp(landmarks.points_px, axis=0).max())
    if length_px < SMALLEST_FACE_PX:
        raise InputError(
            f"Face too small: the {'largest' if which is None else 'chosen'} one is {length_px:.0f} pixels long and at "
            f"least {SMALLEST_FACE_PX:.0f} are needed; give a larger picture of it."
        )
    number = 1 + next(index for index, face in enumerate(ordered) if face is chosen)
    return FaceFound(chosen, landmarks, np.stack([face.box_px for face in ordered]), number)


def _choose(detections: tuple[Detection, ...], ordered: list[Detection], which: Which | None) -> Detection:
    """The face that is meant: the largest is the first of `detections`, and numbers count `ordered`."""
    if which is None:
        return detections[0]
    if isinstance(which, int):
        if not 1 <= which <= len(ordered):
            has = "shows one face" if len(ordered) == 1 else f"shows {len(ordered)} faces, numbered from left to right"
            raise InputError(f"There is no face {which}: the picture {has}; give one of them, or leave it out.")
        return ordered[which - 1]
    return min(ordered, key=lambda face: float(np.linalg.norm(face.box_px.reshape(2, 2).mean(0) - which)))


def detect_faces(rgb: Rgb) -> tuple[Detection, ...]:
    """All faces, largest first.

    The network knows faces that take up a good part of an upright view, so sets of views are tried in turn
    until one of them shows a face: the whole picture, the picture with a wide margin, ever smaller tiles, the
    picture turned sideways and upside down. Whatever looks like a face is looked at again in a view of its
    own, which makes the box independent of where the face lay in the first view; it counts if both networks
    together are certain enough. A face that is hard to see (much of it hidden; or upside down, which passes
    for a poor upright one) stays in question until all views were tried; then the clearest wins.
    """
    return tuple(face for face, _ in _find(rgb))


def _find(rgb: Rgb) -> list[tuple[Detection, Landmarks]]:
    """All faces, largest first, with their points."""
    image = Image.fromarray(np.ascontiguousarray(rgb))
    best: list[tuple[Detection, Landmarks]] = []
    for views in _view_ladder(rgb.shape[0], rgb.shape[1]):
        candidates = _suppress([found for view in views for found in _detect_in_view(image, view)])
        closer = [_look_closer(image, candidate, views[0].turns) for candidate in candidates]
        looked = [
            (face, detect_landmarks(rgb, face)) for face in _suppress([face for face in closer if face is not None])
        ]
        faces = [(face, points) for face, points in looked if _is_face(rgb, face, points)]
        if _clearest(faces) > _clearest(best):
            best = faces
        if _clearest(best) >= _SURE_SCORE:
            break
    return sorted(best, key=lambda one: (-_area(one[0].box_px), *one[0].box_px))


def glance(rgb: Rgb, turns: int = 0) -> tuple[Detection, ...]:
    """Faces by one look at the whole of a square picture, turned by so many quarters first: likely ones, unchecked."""
    view = _View(0, 0, rgb.shape[0], turns)
    return tuple(_suppress(_detect_in_view(Image.fromarray(np.ascontiguousarray(rgb)), view)))


def detect_landmarks(rgb: Rgb, detection: Detection) -> Landmarks:
    """The 468 points of one detected face.

    The crop is first laid by the detector's box and eyes, then once more by the points found, as mediapipe's
    tracking does from picture to picture: centred and level is how the network is most exact. (Further rounds
    steady a clean face a little more, but let the points of a half covered one drift.)
    """
    first = _landmarks_in_crop(rgb, _crop_of(detection))
    return _landmarks_in_crop(rgb, _crop_around(first.points_px))


# Detector


class _View(NamedTuple):
    """A square of the picture, given to the detector after some quarter turns (anticlockwise)."""

    left: int
    top: int
    side: int
    turns: int = 0


def _view_ladder(height: int, width: int) -> list[list[_View]]:
    """Sets of views, in the order in which they are tried."""
    side = max(height, width)
    whole = _View((width - side) // 2, (height - side) // 2, side)
    wide = _View((width - 2 * side) // 2, (height - 2 * side) // 2, 2 * side)
    ladder = [[whole], [wide]]
    tile = side // 2
    while tile >= _SMALLEST_TILE_PX:
        lefts, tops = _tile_starts(width, tile), _tile_starts(height, tile)
        ladder.append([_View(left, top, tile) for top in tops for left in lefts])
        tile //= 2
    ladder.append([whole._replace(turns=turns) for turns in (1, 3, 2)])
    return ladder


def _tile_starts(length: int, tile: int) -> list[int]:
    """Starts of tiles that cover a length with half a tile of overlap (one centred tile if it is short)."""
    if length <= tile:
        return [(length - tile) // 2]
    count = 1 + -(-2 * (length - tile) // tile)
    return [round(i * (length - tile) / (count - 1)) for i in range(count)]


@functools.cache
def _anchors() -> Float64[np.ndarray, "896 2"]:
    """Anchor centres as fractions of the view: 2 a cell of 16 × 16, then 6 a cell of 8 × 8."""
    grids = []
    for cells, repeats in ((16, 2), (8, 6)):
        centres = (np.arange(cells) + 0.5) / cells
        x, y = np.meshgrid(centres, centres)
        grids.append(np.repeat(np.stack([x.ravel(), y.ravel()], axis=-1), repeats, axis=0))
    return np.concatenate(grids)


def _detect_in_view(image: Image.Image, view: _View) -> list[Detection]:
    """Decodes the detector's raw output: offsets from the anchors, in units of the view's 128 pixels."""
    square = image.crop((view.left, view.top, view.left + view.side, view.top + view.side))
    small = square.resize((_DETECTOR_SIDE, _DETECTOR_SIDE), Image.Resampling.BILINEAR)
    pixels = np.rot90(np.asarray(small, dtype=np.float32), view.turns) / 127.5 - 1.0
    raw, logits = model("face_detection_short_range").run(pixels)
    scores = sigmoid(logits.reshape(-1))
    keep = np.flatnonzero(scores >= _DETECTION_SCORE)
    raw, anchors = raw.reshape(-1, 8, 2)[keep] / _DETECTOR_SIDE, _anchors()[keep]
    centres, sizes = raw[:, 0] + anchors, raw[:, 1]
    points = np.concatenate([(centres - sizes / 2)[:, None], (centres + sizes / 2)[:, None]], axis=1)
    points = np.concatenate([points, raw[:, 2:] + anchors[:, None]], axis=1)
    for _ in range(view.turns):  # undo one anticlockwise quarter turn: (x, y) was at (1 - y, x)
        points = np.stack([1.0 - points[..., 1], points[..., 0]], axis=-1)
    points = points * view.side + np.array([view.left, view.top], dtype=np.float64)
    corners = np.sort(points[:, :2], axis=1)
    return [
        Detection(corner.reshape(4), keypoints, float(score))
        for corner, keypoints, score in zip(corners, points[:, 2:], scores[keep], strict=True)
    ]


def _look_closer(image: Image.Image, candidate: Detection, turns: int) -> Detection | None:
    """The candidate as seen in a view of its own, or nothing if it is no face there."""
    centre = (candidate.box_px[:2] + candidate.box_px[2:]) / 2
    for scale in _CLOSE_VIEWS:
        side = max(round(scale * float(np.ptp(candidate.box_px.reshape(2, 2), axis=0).max())), 1)
        left, top = (round(float(c) - side / 2) for c in centre)
        found = _suppress(_detect_in_view(image, _View(left, top, side, turns)))
        found = [face for face in found if _iou(face.box_px, candidate.box_px) > _SAME_FACE]
        if found:
            return found[0]
    return None


def _suppress(detections: list[Detection]) -> list[Detection]:
    """Weighted non-maximum suppression: every cluster of overlapping boxes becomes its weighted mean."""
    rest = sorted(detections, key=lambda d: (-d.score, *d.box_px))
    faces = []
    while rest:
        cluster = [d for d in rest if _iou(rest[0].box_px, d.box_px) > _OVERLAP] or rest[:1]
        rest = [d for d in rest[1:] if not any(d is member for member in cluster)]
        weights = np.array([d.score for d in cluster])
        weights = weights / weights.sum()
        box = np.einsum("d,dk->k", weights, np.stack([d.box_px for d in cluster]))
        keypoints = np.einsum("d,dkx->kx", weights, np.stack([d.keypoints_px for d in cluster]))
        faces.append(Detection(box, keypoints, cluster[0].score))
    return faces


def _is_face(rgb: Rgb, face: Detection, landmarks: Landmarks) -> bool:
    """Whether both networks together are certain enough, and the points stay where they are for other crops."""
    # A covered mouth hardly lowers the detector's share of the log odds.
    evidence = _DETECTOR_WEIGHT * logit(face.score) + _LANDMARKER_WEIGHT * logit(landmarks.score)
    if not _ENOUGH_EVIDENCE <= evidence < _PLAIN_EVIDENCE:
        return evidence >= _PLAIN_EVIDENCE
    crop = _crop_around(landmarks.points_px)
    length = float(np.hypot(*crop.axes_px[0])) / _CROP_SCALE
    moved = []
    for degrees, scale in _OTHER_LOOKS:
        cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        axes = scale * np.array([[cos, sin], [-sin, cos]]) @ crop.axes_px
        other = _landmarks_in_crop(rgb, _Crop(crop.centre_px, axes)).points_px
        moved.append(np.linalg.norm(other - landmarks.points_px, axis=1).mean())
    return float(np.mean(moved)) < max(_UNSTEADY * length, _UNSTEADY_PX)


def _clearest(faces: list[tuple[Detection, Landmarks]]) -> float:
    return max((face.score for face, _ in faces), default=0.0)


def _area(box: Float64[np.ndarray, "4"]) -> float:
    return float(max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0))


def _iou(a: Float64[np.ndarray, "4"], b: Float64[np.ndarray, "4"]) -> float:
    shared = _area(np.concatenate([np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])]))
    return shared / max(_area(a) + _area(b) - shared, 1e-12)


# Landmarks


class _Crop(NamedTuple):
    """A square of the picture, level with the eyes."""

    centre_px: Float64[np.ndarray, "2"]
    axes_px: Float64[np.ndarray, "2 2"]
    """Rows: the crop's right edge and its downward edge, as vectors of the crop's side."""


def _crop_of(detection: Detection) -> _Crop:
    left_top, right_bottom = detection.box_px[:2], detection.box_px[2:]
    right_eye, left_eye = detection.keypoints_px[:2]
    side = float((right_bottom - left_top).max())
    return _crop((left_top + right_bottom) / 2, _CROP_SCALE * side, left_eye - right_eye)


def _crop_around(points_px: Float64[np.ndarray, "468 2"]) -> _Crop:
    right_eye, left_eye = points_px[list(_OUTER_EYE_CORNERS)]
    level = _crop(np.zeros(2), 1.0, left_eye - right_eye).axes_px
    # Measured along the face, not along the picture, so that a tilted face gets no wider crop.
    along = np.einsum("px,ax->pa", points_px, level)
    low, high = along.min(axis=0), along.max(axis=0)
    centre = np.einsum("a,ax->x", (low + high) / 2, level)
    return _crop(centre, _CROP_SCALE * float((high - low).max()), left_eye - right_eye)


def _crop(centre: Float64[np.ndarray, "2"], side: float, rightwards: Float64[np.ndarray, "2"]) -> _Crop:
    cos, sin = rightwards / max(float(np.hypot(*rightwards)), 1e-12)
    return _Crop(centre, side * np.array([[cos, sin], [-sin, cos]]))


def _landmarks_in_crop(rgb: Rgb, crop: _Crop) -> Landmarks:
    pixels = _sample(rgb, crop, _LANDMARKER_SIDE)
    raw, presence, _ = model("face_landmarks").run(pixels.astype(np.float32))
    points = raw.reshape(-1, 3) / _LANDMARKER_SIDE
    side = float(np.hypot(*crop.axes_px[0]))
    points_px = crop.centre_px[None, :] + np.einsum("pa,ax->px", points[:, :2] - 0.5, crop.axes_px)
    score = float(sigmoid(presence.reshape(-1))[0])
    return Landmarks(points_px[:468], points[:468, 2] * side, points_px[468:], score)


def _sample(rgb: Rgb, crop: _Crop, size: int) -> Float64[np.ndarray, "size size 3"]:
    """The crop as pixels in [0, 1]: bilinear, averaged first where it shrinks, edges repeated."""
    shrink = max(int(np.hypot(*crop.axes_px[0]) / size), 1)
    source = np.asarray(Image.fromarray(np.ascontiguousarray(rgb)).reduce(shrink)) if shrink > 1 else rgb
    height, width = source.shape[:2]
    steps = (np.arange(size) + 0.5) / size - 0.5
    across, down = steps[None, :, None] * crop.axes_px[0], steps[:, None, None] * crop.axes_px[1]
    at = (crop.centre_px + across + down) / shrink - 0.5
    at = np.clip(at, 0.0, np.array([width - 1.0, height - 1.0]))
    low = np.floor(at).astype(np.int64)
    high = np.minimum(low + 1, np.array([width - 1, height - 1]))
    fx, fy = (at - low)[..., 0, None], (at - low)[..., 1, None]
    top = source[low[..., 1], low[..., 0]] * (1.0 - fx) + source[low[..., 1], high[..., 0]] * fx
    bottom = source[high[..., 1], low[..., 0]] * (1.0 - fx) + source[high[..., 1], high[..., 0]] * fx
    return (top * (1.0 - fy) + bottom * fy) / 255.0


# People


def person_probability(
    rgb: Rgb, centre_px: Float64[np.ndarray, "2"], side_px: float
) -> Float64[np.ndarray, "side side"]:
    """How likely each pixel of an upright square shows a person (with hair, clothes and what is held), 0 to 1.

    The network is made for pictures of head and shoulders; the picture's edges are repeated outside.
    """
    square = _crop(centre_px, side_px, np.array([1.0, 0.0]))
    (probability,) = model("person").run(_sample(rgb, square, PERSON_SIDE))
    return probability.reshape(PERSON_SIDE, PERSON_SIDE)
