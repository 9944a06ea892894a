"""Other photos out of one compared with its fit: other light, colours and sensors, other things before the face."""

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import gaussian_filter

from diverse3d.segment import Comparison, grey


def varied(
    pair: Comparison, hidden: Bool[np.ndarray, "H W"], other: Float[np.ndarray, "H W 3"], rng: np.random.Generator
) -> tuple[Comparison, Bool[np.ndarray, "H W"]]:
    """A comparison changed at random, and what is hidden in it; `other` is a picture to take pieces from."""
    seen, expected, hidden = pair.seen.copy(), pair.expected.copy(), hidden.copy()
    # What stays skin: shade, shine, make-up.
    for _ in range(rng.integers(3)):
        seen *= _shade(hidden.shape, rng)[..., None]
    if rng.uniform() < 0.35:  # a hard light, up to where the sensor ends
        seen *= (1.0 + rng.uniform(0.2, 1.5) * (1.0 - _shade(hidden.shape, rng)))[..., None]
        seen = np.minimum(seen, rng.uniform(0.85, 1.1))
    if rng.uniform() < 0.25:
        shine = _blob(hidden.shape, rng, 0.02, 0.08) * (~hidden) * pair.head
        seen += (1.0 - seen) * (rng.uniform(0.3, 0.9) * shine)[..., None]
    for _ in range(rng.integers(3)):
        paint = _around_mouth_or_eyes(pair, rng) * (~hidden)
        colour = rng.uniform(0.0, 1.0, 3) if rng.uniform() < 0.6 else np.full(3, rng.choice([0.05, 0.9]))
        seen += (colour - seen) * (rng.uniform(0.2, 0.8) * paint)[..., None]
    if rng.uniform() < 0.4:
        seen *= _coloured_light(hidden.shape, rng)
    # What does not: anything of any colour, before any part of the head.
    if rng.uniform() < 0.3:
        shape = _thing(pair, rng)
        surface = _surface(seen, expected, pair, other, rng)
        soft = gaussian_filter(shape.astype(np.float64), rng.uniform(0.3, 0.9))[..., None]
        seen = soft * surface + (1.0 - soft) * seen
        hidden |= shape
    # The camera, and a fit whose colours are as wrong as real photos make them.
    seen = _graded(seen, rng, 1.0)
    expected = _graded(expected, rng, 0.7)
    if rng.uniform() < 0.5:
        blur = abs(rng.normal(0.0, 0.8))
        seen = gaussian_filter(seen, (blur, blur, 0))
    seen += rng.normal(0.0, abs(rng.normal(0.0, 0.015)), seen.shape)
    if rng.uniform() < 0.15:
        seen, expected = grey(seen), grey(expected)
    planes = [np.clip(seen, 0.0, 1.0), expected, pair.head, pair.face, pair.place, pair.facing, pair.person]
    if rng.uniform() < 0.5:
        planes, hidden = [plane[:, ::-1] for plane in planes], hidden[:, ::-1]
        planes[4] = planes[4] * np.array([-1.0, 1.0, 1.0])
    return Comparison(*planes), hidden


def _grid(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """x and y, -1 to 1."""
    y, x = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    return x, y


def _shade(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Half of the picture darker, with a soft or hard edge."""
    x, y = _grid(shape)
    angle = rng.uniform(0, 2 * np.pi)
    off = x * np.cos(angle) + y * np.sin(angle) + rng.normal(0.0, 0.35)
    return 1.0 - rng.uniform(0.1, 0.55) / (1.0 + np.exp(-off / rng.uniform(0.01, 0.3)))


def _coloured_light(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Lamps of other colours from the sides, and smooth unevenness."""
    light = np.ones((*shape, 3))
    for _ in range(rng.integers(1, 3)):
        light += (1.0 - _shade(shape, rng))[..., None] * rng.normal(0.0, 0.7, 3)
    uneven = gaussian_filter(rng.normal(size=shape), size := rng.uniform(6.0, 25.0)) * size
    return np.clip(light, 0.3, 2.0) * np.exp(rng.uniform(0.0, 0.35) * uneven)[..., None]


def _graded(colours: np.ndarray, rng: np.random.Generator, much: float) -> np.ndarray:
    """Other contrast, exposure, white balance and saturation."""
    gamma, level = np.exp(much * rng.normal(0.0, 0.22)), np.exp(much * rng.normal(0.0, 0.15))
    graded = np.clip(colours, 0.0, None) ** gamma * level * np.exp(much * rng.normal(0.0, 0.07, 3))
    dull = grey(graded)
    return dull + (graded - dull) * np.exp(much * rng.normal(0.0, 0.3))


def _blob(shape: tuple[int, ...], rng: np.random.Generator, low: float, high: float) -> np.ndarray:
    x, y = _grid(shape)
    a, b = rng.uniform(-0.45, 0.45, 2)
    return np.exp(-((x - a) ** 2 + (y - b) ** 2) / (2 * rng.uniform(low, high) ** 2))


def _around_mouth_or_eyes(pair: Comparison, rng: np.random.Generator) -> np.ndarray:
    """Where lipstick, shadow or dark rings lie: an ellipse on the front of the face."""
    x, y, _ = np.moveaxis(pair.place, 2, 0)
    middle = _features(pair)
    centre = [middle, middle + 0.62, middle + 0.62][rng.integers(3)] + rng.normal(0.0, 0.05)
    side = 0.0 if centre < middle + 0.3 else rng.choice([-0.33, 0.33])
    off = ((x - side) / rng.uniform(0.2, 0.33)) ** 2 + ((y - centre) / rng.uniform(0.07, 0.15)) ** 2
    return pair.face * np.exp(-(off**2))


def _features(pair: Comparison) -> float:
    """About the mouth's height, in units of `place`: a third up from the face's lowest point."""
    y = pair.place[..., 1][pair.face]
    return float(y.min() + 0.33 * (y.max() - y.min())) if y.size else 0.0


def _thing(pair: Comparison, rng: np.random.Generator) -> np.ndarray:
    """The outline of something: a mask, a cap, a bar, spots, a polygon, fingers."""
    x, y = _grid(pair.head.shape)
    px, py, _ = np.moveaxis(pair.place, 2, 0)
    low = _features(pair)
    kind = rng.integers(6)
    if kind == 0:  # over mouth and nose, beyond the outline
        top = low + rng.uniform(0.15, 0.5) - rng.uniform(0.0, 0.5) * px**2
        inside = pair.head & (py < top) & (py > low - rng.uniform(0.35, 0.9)) & (np.abs(px) < rng.uniform(0.5, 1.0))
        return _rounded(inside, rng)
    if kind == 1:  # over the forehead
        return _rounded(pair.head & (py > low + rng.uniform(0.8, 1.4) + rng.normal(0.0, 0.1) * px), rng)
    if kind == 2:  # a bar
        angle, at, half = rng.uniform(0, np.pi), rng.normal(0.0, 0.3), rng.uniform(0.02, 0.2)
        return np.abs(x * np.cos(angle) + y * np.sin(angle) - at) < half
    if kind == 3:  # an ellipse
        angle, a, b = rng.uniform(0, np.pi), *rng.normal(0.0, 0.35, 2)
        u, v = (x - a) * np.cos(angle) + (y - b) * np.sin(angle), (y - b) * np.cos(angle) - (x - a) * np.sin(angle)
        return (u / rng.uniform(0.08, 0.5)) ** 2 + (v / rng.uniform(0.08, 0.4)) ** 2 < 1
    if kind == 4:  # anything
        noise = gaussian_filter(rng.normal(size=pair.head.shape), rng.uniform(6.0, 20.0))
        return noise > np.quantile(noise, rng.uniform(0.6, 0.95))
    made = np.zeros(pair.head.shape, bool)  # fingers
    angle, a, b, wide = rng.uniform(0, 2 * np.pi), *rng.normal(0.0, 0.3, 2), rng.uniform(0.035, 0.07)
    for k in range(rng.integers(1, 6)):
        turn = angle + rng.normal(0.0, 0.08)
        u = (x - a) * np.cos(turn) + (y - b) * np.sin(turn)
        v = (y - b) * np.cos(turn) - (x - a) * np.sin(turn) - 2.1 * wide * k
        made |= (np.abs(v) < wide) & (u > rng.uniform(-0.15, 0.05))
    return made


def _rounded(shape: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return gaussian_filter(shape.astype(np.float64), rng.uniform(1.0, 3.0)) > 0.5


def _surface(
    seen: np.ndarray, expected: np.ndarray, pair: Comparison, other: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """What it is made of: one colour, stripes, spots, a piece of a photo, or skin much like the face's."""
    kind, size = rng.choice(6, p=[0.2, 0.2, 0.2, 0.15, 0.2, 0.05]), seen.shape[:2]
    colours = rng.uniform(0.0, 1.0, (3, 3)) if rng.uniform() < 0.7 else rng.uniform(0.0, 1.0, (3, 1)) * np.ones(3)
    x, y = _grid(size)
    fold = 1.0 + 0.15 * gaussian_filter(rng.normal(size=size), rng.uniform(3.0, 12.0)) * 8.0
    if kind <= 1:
        made = np.broadcast_to(colours[0], seen.shape)
    elif kind == 2:
        angle, often = rng.uniform(0, np.pi), rng.uniform(8, 60)
        wave = 0.5 + 0.5 * np.sign(np.sin(often * (x * np.cos(angle) + y * np.sin(angle))))
        made = wave[..., None] * colours[0] + (1 - wave[..., None]) * colours[1]
    elif kind == 3:
        noise = gaussian_filter(rng.normal(size=size), rng.uniform(1.0, 5.0))
        level = np.digitize(noise, np.quantile(noise, [0.4, 0.75]))
        made = colours[level]
    elif kind == 4:
        made = np.roll(other[:: rng.choice([-1, 1])], rng.integers(0, size[0], 2), axis=(0, 1))
    else:
        skin = expected[pair.face].mean(0) if pair.face.any() else colours[0]
        made = np.broadcast_to(skin * np.exp(rng.normal(0.0, 0.15) + rng.normal(0.0, 0.03, 3)), seen.shape)
    return np.clip(made * fold[..., None] * _shade(size, rng)[..., None] ** 0.5, 0.0, 1.0)
