"""What hides a face: eight named regions, their outlines, and realistic opaque things painted there.

One outline serves both uses: painting a photo, and hiding the vertices of a projected head in the benchmarks.
Outlines are polygons in the frame of the landmarks given (image coordinates, y down). Left and right are the
person's.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float, Float64, Key

from .._errors import InputError
from .._names import REGIONS
from .._suggest import nearest
from ..surface import catmull_rom
from ._landmarks68 import LANDMARK_GROUPS
from ._occluder_paint import paint

Polygon = Float64[np.ndarray, "_ 2"]
Outline = tuple[Polygon, ...]

_RANDOM_SHARE = (0.2, 0.4)


class _Face(NamedTuple):
    """The landmarks with the face's own directions: `right` is the picture's right for an upright face."""

    points: Float64[np.ndarray, "68 2"]
    right: Float64[np.ndarray, "2"]
    down: Float64[np.ndarray, "2"]
    length: float
    """From the root of the nose to the chin: some 11 cm, and hardly changed when the head turns."""

    def at(self, point: int | Float64[np.ndarray, "2"], right: float = 0.0, down: float = 0.0) -> np.ndarray:
        """A landmark or position, shifted by parts of the face's length."""
        base = self.points[point] if isinstance(point, int) else point
        return base + self.length * (right * self.right + down * self.down)

    def between(self, i: int, j: int, share: float) -> np.ndarray:
        return (1.0 - share) * self.points[i] + share * self.points[j]

    def mean(self, group: str) -> np.ndarray:
        return self.points[list(LANDMARK_GROUPS[group])].mean(axis=0)

    def outwards(self, i: int, by: float) -> np.ndarray:
        """A landmark moved away from the base of the nose."""
        away = self.points[i] - self.points[33]
        return self.points[i] + by * self.length * away / max(float(np.hypot(*away)), 1e-9)


def occluder_outline(region: str, landmarks68: Float[np.ndarray, "68 2"], *, key: Key[jax.Array, ""]) -> Outline:
    """Polygons that the occluder of a region covers, in the landmarks' own frame (y down).

    Only `random` depends on the key: a rounded rectangle over 20–40 % of the face. Raises `InputError` for an
    unknown region.
    """
    if region not in _OUTLINES:
        raise InputError(f"There is no region '{region}' to occlude{nearest(region, REGIONS)}.")
    return _OUTLINES[region](_face(np.asarray(landmarks68, dtype=np.float64)), _generator(key, 0))


def inside_outline(outline: Outline, points_xy: Float[np.ndarray, "n 2"]) -> Bool[np.ndarray, " n"]:
    """Which points lie in at least one of the polygons (even–odd rule)."""
    inside = np.zeros(len(points_xy), dtype=bool)
    x, y = np.asarray(points_xy, dtype=np.float64)[:, None, :].transpose(2, 0, 1)
    for polygon in outline:
        (x0, y0), (x1, y1) = polygon.T[:, None, :], np.roll(polygon, -1, axis=0).T[:, None, :]
        crosses = (y0 > y) != (y1 > y)
        rise = np.where(y1 == y0, 1.0, y1 - y0)
        inside |= (np.sum(crosses & (x < x0 + (y - y0) * (x1 - x0) / rise), axis=1) % 2).astype(bool)
    return inside


def paint_occluder(
    rgb: np.ndarray, landmarks68_px: Float[np.ndarray, "68 2"], region: str, *, key: Key[jax.Array, ""]
) -> tuple[np.ndarray, np.ndarray]:
    """Paints something opaque over a region of the face: (picture uint8 [H,W,3], mask bool [H,W]).

    The mask holds every pixel that the occluder touches; edge pixels are blended, all others are wholly
    covered. The same key gives the same pixels. Raises `InputError` for an unknown region.
    """
    outline = occluder_outline(region, landmarks68_px, key=key)
    face = _face(np.asarray(landmarks68_px, dtype=np.float64))
    return paint(rgb, region, outline, face.points, np.stack([face.right, face.down]), face.length, _generator(key, 1))


def _generator(key: Key[jax.Array, ""], stream: int) -> np.random.Generator:
    data = np.asarray(jax.random.key_data(key)).ravel()
    return np.random.default_rng([stream, *(int(word) for word in data)])


def _face(points: Float64[np.ndarray, "68 2"]) -> _Face:
    right_eye, left_eye = (points[list(LANDMARK_GROUPS[g])].mean(axis=0) for g in ("right_eye", "left_eye"))
    chinwards = points[8] - points[27]
    # The eye line fades as the head turns to the side; the line from nose to chin stays.
    rightwards = left_eye - right_eye + np.array([chinwards[1], -chinwards[0]])
    right = rightwards / max(float(np.hypot(*rightwards)), 1e-9)
    return _Face(points, right, np.array([-right[1], right[0]]), max(float(np.hypot(*chinwards)), 1e-9))


# Outlines


def _smooth(corners: list[np.ndarray]) -> Polygon:
    """A closed curve through the corners."""
    return catmull_rom(np.stack(corners), 6 * len(corners), closed=True)


def _band(start: np.ndarray, end: np.ndarray, width_start: float, width_end: float) -> Polygon:
    along = end - start
    across = np.array([-along[1], along[0]]) / max(float(np.hypot(*along)), 1e-9) / 2
    return np.stack(
        [
            start + width_start * across,
            end + width_end * across,
            end - width_end * across,
            start - width_start * across,
        ]
    )


def _rounded(face: _Face, centre: np.ndarray, half_width: float, half_height: float, power: float) -> Polygon:
    """Superellipse; power 2 is an ellipse, more is squarer. Sizes in face lengths."""
    angle = np.linspace(0.0, 2 * np.pi, 48, endpoint=False)
    x, y = (np.sign(f(angle)) * np.abs(f(angle)) ** (2.0 / power) for f in (np.cos, np.sin))
    return centre + face.length * (half_width * x[:, None] * face.right + half_height * y[:, None] * face.down)


def _visible_sides(face: _Face) -> list[tuple[int, int]]:
    """(sign, index of the jaw's end) for each side of the head that shows an ear or could."""
    reach = {-1: 0, 1: 16}
    nose = face.points[27]
    return [(s, i) for s, i in reach.items() if s * float((face.points[i] - nose) @ face.right) > 0.25 * face.length]


def _face_mask(face: _Face, _: np.random.Generator) -> Outline:
    jaw = [face.outwards(i, 0.05) for i in range(2, 15)]
    top = [
        face.between(46, 54, 0.38),
        face.between(42, 35, 0.52),
        face.between(28, 29, 0.2),
        face.between(39, 31, 0.52),
        face.between(41, 48, 0.38),
    ]
    cloth = _smooth([*jaw, *top])
    loops = []
    for side, end in _visible_sides(face):
        ear = face.at(end, right=0.13 * side, down=0.02)
        for jaw_point in (end + 2 * -side, end + 4 * -side):
            loops.append(_band(face.outwards(jaw_point, 0.01), ear, 0.025 * face.length, 0.025 * face.length))
    return (cloth, *loops)


def _glasses(face: _Face, _: np.random.Generator) -> Outline:
    eyes = {-1: face.mean("right_eye"), 1: face.mean("left_eye")}
    apart = float((eyes[1] - eyes[-1]) @ face.right) / face.length
    half_width = 0.4 * float(np.clip(apart, 0.2, 0.62)) + 0.025
    lenses = {
        s: _rounded(face, face.at(eye, right=0.015 * s, down=0.035), half_width, 0.215, 3.2) for s, eye in eyes.items()
    }
    inner = {s: face.at(eyes[s], right=-0.85 * s * half_width, down=-0.05) for s in (-1, 1)}
    bridge = _band(inner[-1], inner[1], 0.07 * face.length, 0.07 * face.length)
    arms = []
    for s, end in _visible_sides(face):
        hinge = face.at(eyes[s], right=0.9 * s * half_width, down=-0.08)
        arms.append(_band(hinge, face.at(end, right=0.1 * s), 0.08 * face.length, 0.06 * face.length))
    return (lenses[-1], lenses[1], bridge, *arms)


def _eyes(face: _Face, _: np.random.Generator) -> Outline:
    top = [face.at(0, right=-0.08, down=-0.2)] + [face.at(i, down=-0.1) for i in (17, 19, 21, 22, 24, 26)]
    bottom = [face.at(46, down=0.13), face.at(28, down=0.03), face.at(41, down=0.13)]
    return (
        _smooth(
            [
                *top,
                face.at(16, right=0.08, down=-0.2),
                face.at(16, 0.08, 0.08),
                *bottom,
                face.at(0, -0.08, 0.08),
            ]
        ),
    )


def _cheek(face: _Face, side: int) -> Outline:
    """`side` is 1 for the person's left."""
    lid_outer, lid_inner, nostril, mouth, jaw = (
        (46, 47, 35, 54, (15, 14, 13, 12, 11, 10)) if side > 0 else (41, 40, 31, 48, (1, 2, 3, 4, 5, 6))
    )
    return (
        _smooth([
            face.at(face.between(lid_inner, nostril, 0.75), right=0.02 * side),
            face.at(lid_inner, down=0.13),
            face.at(lid_outer, right=0.08 * side, down=0.13),
            *(face.outwards(i, 0.03) for i in jaw),
            face.at(face.between(mouth, jaw[-1], 0.5), right=0.02 * side),
            face.at(mouth, right=0.03 * side, down=0.05),
            face.at(face.between(nostril, mouth, 0.4), right=0.03 * side),
        ]),
    )  # fmt: skip


def _left_cheek(face: _Face, _: np.random.Generator) -> Outline:
    return _cheek(face, 1)


def _right_cheek(face: _Face, _: np.random.Generator) -> Outline:
    return _cheek(face, -1)


def _mouth(face: _Face, _: np.random.Generator) -> Outline:
    centre = face.mean("outer_lips")
    lips = face.points[list(LANDMARK_GROUPS["outer_lips"])]
    radius = max(1.15 * float(np.linalg.norm(lips - centre, axis=1).max()) / face.length, 0.22)
    ball = _rounded(face, centre, radius, radius, 2.0)
    handle = _band(
        face.at(centre, 0.03, 0.6 * radius),
        face.at(centre, 0.45, 1.5),
        1.15 * radius * face.length,
        0.2 * face.length,
    )
    return (ball, handle)


def _centre(face: _Face, _: np.random.Generator) -> Outline:
    width = float((face.points[16] - face.points[0]) @ face.right) / face.length
    return (_rounded(face, face.between(28, 51, 0.5), float(np.clip(0.24 * width, 0.15, 0.3)), 0.3, 2.8),)


def _random(face: _Face, rng: np.random.Generator) -> Outline:
    """A rounded rectangle somewhere on the face, sized by bisection to the share that it covers."""
    share, turn, aspect = rng.uniform(*_RANDOM_SHARE), rng.uniform(-0.6, 0.6), np.exp(rng.uniform(-0.5, 0.5))
    cos, sin = np.cos(turn), np.sin(turn)
    turned = face._replace(right=cos * face.right + sin * face.down, down=cos * face.down - sin * face.right)
    hull = (np.concatenate([face.points[:17], face.points[[26, 24, 19, 17]]]),)
    axes = np.stack([face.right, face.down])
    along = face.points @ axes.T
    low, high = along.min(axis=0), along.max(axis=0)
    steps = (np.arange(64) + 0.5) / 64
    grid = (low + (high - low) * np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)) @ axes
    within = inside_outline(hull, grid)
    grid = grid[within] if within.any() else face.points
    # Half-way to the middle of the face, so that the occluder lies on the face rather than beside it.
    centre = (grid[rng.integers(len(grid))] + grid.mean(axis=0)) / 2
    small, large = 0.0, 4.0
    for _ in range(24):
        size = (small + large) / 2
        outline = (_rounded(turned, centre, size * aspect, size / aspect, 5.0),)
        small, large = (size, large) if inside_outline(outline, grid).mean() < share else (small, size)
    return outline


_OUTLINES: dict[str, Callable[[_Face, np.random.Generator], Outline]] = dict(
    zip(REGIONS, (_glasses, _face_mask, _left_cheek, _mouth, _right_cheek, _centre, _eyes, _random), strict=True)
)
"""Every region that an occluder can be put over, by name."""
