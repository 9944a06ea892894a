"""FLAME's regions on any head by its 68 landmarks, as the embedded head's are made; and a plausible colour a vertex.

All lengths are those of the embedded head, scaled by the distance between the eyes. Positive x is the person's left.
"""

from collections.abc import Mapping

import numpy as np
from scipy.spatial import cKDTree

from ..surface import boundary, grown, pieces
from ._palette import BROW, CHEEK, IRIS, LIMBUS, LIPS, MOUTH, PUPIL, SCLERA, SKIN

_EYES_APART_M = 0.060
"""Between the middles of the embedded head's lids, by which lengths here are scaled."""

_EYES = (range(36, 42), range(42, 48))  # right, left


def eyeballs(template: np.ndarray, faces: np.ndarray, points: np.ndarray) -> dict[str, np.ndarray]:
    """Vertices of `left_eyeball` and `right_eyeball`: round pieces of the mesh behind the lids; {} without any.

    `points` [68, 3] are the iBUG landmarks on the template [V, 3], metres.
    """
    label, scale = pieces(faces, len(template)), _scale(points)
    found = {}
    for name, corner in zip(("right_eyeball", "left_eyeball"), _EYES, strict=True):
        lids, balls = points[list(corner)].mean(axis=0), []
        for piece in range(1, label.max() + 1):
            part = np.flatnonzero(label == piece)
            size = np.ptp(template[part], axis=0)
            round_ = size.min() > 0.015 * scale and size.max() < 0.045 * scale
            if round_ and np.linalg.norm((template[part].mean(axis=0) - lids) * [1, 1, 0.5]) < 0.015 * scale:
                balls.append(part)
        if balls:
            found[name] = np.sort(np.concatenate(balls)).astype(np.int32)
    return found if len(found) == 2 else {}


def eyeballs_alone(template: np.ndarray, faces: np.ndarray) -> dict[str, np.ndarray]:
    """Vertices of the eyeballs where no landmarks are known: two round pieces of the mesh that mirror each other."""
    label = pieces(faces, len(template))
    parts = [np.flatnonzero(label == piece) for piece in range(1, label.max() + 1)]
    sizes = [np.ptp(template[part], axis=0) for part in parts]
    balls = [part for part, size in zip(parts, sizes, strict=True) if size.min() > 0.018 and size.max() < 0.045]
    middles = [template[ball].mean(axis=0) for ball in balls]
    sides: dict[str, list[np.ndarray]] = {"right_eyeball": [], "left_eyeball": []}
    for ball, middle in zip(balls, middles, strict=True):
        if any(np.linalg.norm(middle * [-1, 1, 1] - other) < 0.005 for other in middles) and abs(middle[0]) > 0.02:
            sides["left_eyeball" if middle[0] > 0 else "right_eyeball"].append(ball)
    if not all(sides.values()):
        return {}
    return {name: np.sort(np.concatenate(balls)).astype(np.int32) for name, balls in sides.items()}


def regions_by_landmarks(
    template: np.ndarray,
    faces: np.ndarray,
    points: np.ndarray,
    known: Mapping[str, np.ndarray],
    inside: np.ndarray,
) -> dict[str, np.ndarray]:
    """FLAME's fourteen regions, int32 vertex indices each: those that are `known`, and the others by geometry.

    `inside` bool [V] marks what is no skin (teeth, tongue, the mouth's lining …) and belongs to no region. A region
    that would be empty is left out.
    """
    x, y, z = template.T
    scale, count = _scale(points), len(template)
    flags = {name: _flags(count, index) for name, index in known.items()}
    eyes = np.zeros(count, bool)
    for name in ("left_eyeball", "right_eyeball"):
        eyes |= flags.get(name, False)
    skin = ~inside & ~eyes & (pieces(faces, count) == 0)
    lids = np.mean([points[list(eye)].mean(axis=0) * [(-1, 1)[i], 1, 1] for i, eye in enumerate(_EYES)], axis=0)
    aside, above, ahead = np.abs(x) - lids[0], y - lids[1], z - lids[2]
    jaw = np.abs(points[:9] - [[points[8, 0], 0, 0]] * 9) * [1, 1, 0] + points[:9] * [0, 0, 1]
    jaw[:, 1] = (points[:9, 1] + points[16:7:-1, 1][:9]) / 2
    # The outline at each height: how far out, and how far back, the jaw line runs there.
    order = np.argsort(jaw[:, 1])
    outline = np.interp(y, jaw[order, 1], jaw[order, 0])
    depth = np.interp(y, jaw[order, 1], jaw[order, 2])
    under = jaw[8, 1]
    ears = _ears(template, skin, jaw, scale)
    for side in ("left", "right"):
        if f"{side}_ear" in flags:
            ears = (ears & ((x > 0) != (side == "left"))) | flags[f"{side}_ear"]
    front = skin & ~ears & (z > depth - 0.004 * scale) & (y > under - 0.004 * scale)
    front &= (above < 0.082 * scale) & ((aside + lids[0] < outline + 0.004 * scale) | (above > 0.0))
    front &= (above < 0) | ((aside / (0.045 * scale)) ** 2 + (above / (0.082 * scale)) ** 2 < 1) | (aside < 0)
    face = flags.get("face", front)
    neck = ~face & ~ears & skin & (y < under + 0.55 * np.clip(lids[2] + 0.013 * scale - z, 0.0, 0.12 * scale))
    socket = front & (ahead > -0.024 * scale) & ((aside / 0.0235) ** 2 + (above / 0.0185) ** 2 < scale**2)
    brow = front & (np.abs(aside) < 0.027 * scale) & (above > 0) & (above < 0.032 * scale)
    bridge = front & (np.abs(x) < 0.02 * scale) & (above > -0.008 * scale) & (above < 0.028 * scale)
    geometric = {
        "face": front,
        "neck": neck,
        "scalp": skin & ~face & ~ears & ~neck,
        "boundary": grown(_flags(count, boundary(faces).ravel()) & skin & neck, faces, 1),
        "right_ear": ears & (x < 0),
        "left_ear": ears & (x > 0),
        "forehead": front & (above > 0.022 * scale),
        "eye_region": socket | brow | bridge,
        "nose": front & _nose(template, points, scale),
        "lips": front & _lips(template, points, scale),
        "right_eye_region": socket & (x < 0),
        "left_eye_region": socket & (x > 0),
    }
    chosen = {**geometric, **flags}
    return {name: np.flatnonzero(flag).astype(np.int32) for name, flag in chosen.items() if flag.any()}


def colours_by_landmarks(
    template: np.ndarray,
    points: np.ndarray,
    eyes: Mapping[str, np.ndarray],
    inside: np.ndarray,
    *,
    brows_m: float = 0.0,
) -> np.ndarray:
    """sRGB colours, uint8 [V, 3]: skin, lips, brows and painted eyes, so that a face detector believes them.

    The middles of the brows are painted `brows_m` above their landmarks.
    """
    scale, z = _scale(points), template[:, 2]
    colours = np.tile(np.array(SKIN, np.float64), (len(template), 1))
    flat, ahead = template[:, :2], z > points[36:48, 2].min() - 0.015 * scale
    for side in (-1, 1):
        cheek = points[[2, 14][side > 0], :2] * [0.55, 1.0]
        spot = np.exp(-np.square((flat - cheek) / (0.018 * scale)).sum(axis=1))
        _paint(colours, 0.6 * spot * ahead, CHEEK)
    for first in (17, 22):
        line = _dense_line(points[first : first + 5, :2])
        near = cKDTree(line + np.array([0.0, brows_m * scale])).query(flat)[0]
        _paint(colours, np.clip(1.6 - near / (0.004 * scale), 0, 1) * ahead, BROW)
    upper = _dense_line(points[[48, 49, 50, 51, 52, 53, 54], :2])
    lower = _dense_line(points[[48, 59, 58, 57, 56, 55, 54], :2])
    x, y = flat.T
    # The lips' outline as heights over x; a soft edge of a millimetre and a half.
    top = np.interp(x, upper[:, 0], upper[:, 1], left=-np.inf, right=-np.inf)
    base = np.interp(x, lower[:, 0], lower[:, 1], left=np.inf, right=np.inf)
    depth = np.minimum(top - y, y - base) / (0.0015 * scale)
    near_lips = z > points[[48, 54], 2].min() - 0.008 * scale
    _paint(colours, np.clip(np.nan_to_num(depth, neginf=-9) + 0.5, 0, 1) * near_lips, LIPS)
    colours[inside] = MOUTH
    _paint_eyes(colours, template, eyes)
    return np.clip(colours + 0.5, 0, 255).astype(np.uint8)


def plain_colours(template: np.ndarray, eyes: Mapping[str, np.ndarray]) -> np.ndarray:
    """sRGB colours, uint8 [V, 3], where no landmarks are known: skin, painted eyes, and brows above them."""
    colours = np.tile(np.array(SKIN, np.float64), (len(template), 1))
    if eyes:
        # By the eyeballs of the embedded head, which lie 28.9 mm from the middle.
        sides = {name: np.array([1.0 if "left" in name else -1.0, 1.0, 1.0]) for name in eyes}
        middle = np.mean([template[eye].mean(axis=0) * sides[name] for name, eye in eyes.items()], axis=0)
        aside, above = (np.abs(template[:, 0]) - middle[0]) * 0.0289 / middle[0], template[:, 1] - middle[1]
        across = np.abs(above * 0.0289 / middle[0] - 0.0195 + 6.0 * (aside - 0.004) ** 2) / 0.004
        along = np.abs(aside - 0.001) / 0.0215
        ahead = template[:, 2] > middle[2] - 0.01
        _paint(colours, np.clip(1.6 - across, 0, 1) * np.clip((1.0 - along) * 8, 0, 1) * ahead, BROW)
    _paint_eyes(colours, template, eyes)
    return np.clip(colours + 0.5, 0, 255).astype(np.uint8)


def _paint_eyes(colours: np.ndarray, template: np.ndarray, eyes: Mapping[str, np.ndarray]) -> None:
    """Sclera, iris and pupil by the angle from straight ahead."""
    for eye in eyes.values():
        ball = template[eye]
        away = ball - (ball.max(axis=0) + ball.min(axis=0)) / 2
        angle = np.degrees(np.arccos(away[:, 2] / np.linalg.norm(away, axis=1).clip(1e-9)))
        for limit, colour in ((181, SCLERA), (27, LIMBUS), (22, IRIS), (12, PUPIL)):
            colours[eye[angle < limit]] = colour


def view_centre(points: np.ndarray) -> np.ndarray:
    """What a portrait looks at, [3]: a little below the eyes and behind the lids."""
    lids = points[36:48].mean(axis=0)
    return np.array([0.0, lids[1], lids[2]]) + np.array([0.0, -0.026, -0.057]) * _scale(points)


def _scale(points: np.ndarray) -> float:
    right, left = (points[list(eye)].mean(axis=0) for eye in _EYES)
    return float(np.linalg.norm(left - right) / _EYES_APART_M)


def _flags(count: int, index: np.ndarray) -> np.ndarray:
    flags = np.zeros(count, bool)
    flags[index] = True
    return flags


def _paint(colours: np.ndarray, amount: np.ndarray, colour: tuple[int, int, int]) -> None:
    colours += np.clip(amount, 0, 1)[:, None] * (np.array(colour) - colours)


def _dense_line(points: np.ndarray) -> np.ndarray:
    at = np.linspace(0, len(points) - 1, 20 * (len(points) - 1) + 1)
    return np.stack([np.interp(at, np.arange(len(points)), points[:, axis]) for axis in (0, 1)], axis=1)


def _ears(template: np.ndarray, skin: np.ndarray, jaw: np.ndarray, scale: float) -> np.ndarray:
    """What stands off at the sides, behind the ends of the jaw line."""
    x, y, z = template.T
    top, tragus = jaw[0], jaw[1]
    back, ahead = top[2] - 0.048 * scale, top[2] - 0.003 * scale
    height = (y > tragus[1] - 0.030 * scale) & (y < top[1] + 0.022 * scale)
    out = top[0] + 0.004 * scale * (top[2] - z) / (0.048 * scale)
    return skin & height & (z > back) & (z < ahead) & (np.abs(x) > out)


def _nose(template: np.ndarray, points: np.ndarray, scale: float) -> np.ndarray:
    x, y, z = template.T
    base, root = points[31:36, 1].min(), points[27, 1]
    down = np.clip((root - y) / (root - base), 0, 1)
    wing = np.abs(points[[31, 35], 0]).mean()
    half = 0.010 * scale + (wing - 0.004 * scale) * down**0.8
    behind = points[31:36, 2].min() - 0.012 * scale
    return (np.abs(x) < half) & (y > base - 0.005 * scale) & (y < root) & (z > behind)


def _lips(template: np.ndarray, points: np.ndarray, scale: float) -> np.ndarray:
    x, y, z = template.T
    half = np.abs(points[[48, 54], 0]).mean() + 0.005 * scale
    top, base = points[49:54, 1].max() + 0.005 * scale, points[55:60, 1].min() - 0.006 * scale
    middle, tall = (top + base) / 2, (top - base) / 2
    inside = (np.abs(x) / half) ** 3 + (np.abs(y - middle) / tall) ** 3 < 1
    return inside & (z > points[[48, 54], 2].min() - 0.010 * scale)
