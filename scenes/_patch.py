"""Flat things drawn into the picture: blobs and boxes with noise, stripes or a piece of a photo on them."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8
from PIL import Image

from ._hair import dye
from ._noise import blurred_noise


def draw_patch(
    face: Bool[np.ndarray, "h w"], backdrops: Sequence[UInt8[np.ndarray, "a b 3"]], rng: np.random.Generator
) -> tuple[Bool[np.ndarray, "h w"], Float32[np.ndarray, "h w 3"]]:
    """(where, linear colours): one shape that covers some 10–45 % of the face."""
    height, width = face.shape
    rows, columns = np.nonzero(face[::4, ::4])
    pick = int(rng.integers(1 << 30))
    centre = np.array([width / 2, height / 2])
    if len(rows):
        chosen = np.array([columns[pick % len(rows)], rows[pick % len(rows)]]) * 4.0
        centre = 0.6 * chosen + 0.4 * 4.0 * np.array([columns.mean(), rows.mean()])
    wanted, aspect = rng.uniform(0.1, 0.45), np.exp(rng.uniform(-0.6, 0.6))
    turn, power = rng.uniform(0, np.pi), rng.choice([2.0, 4.0, 12.0])
    wobble = rng.uniform(0.0, 0.35) * (rng.uniform() < 0.6)
    y, x = np.mgrid[:height, :width].astype(np.float32) + 0.5
    dx, dy = x - centre[0], y - centre[1]
    u, v = np.cos(turn) * dx + np.sin(turn) * dy, np.cos(turn) * dy - np.sin(turn) * dx
    around = np.arctan2(v, u)
    wave = sum(np.sin(k * around + rng.uniform(0, 6)) / k for k in (2, 3, 5, 7))
    level = ((np.abs(u / aspect) ** power + np.abs(v * aspect) ** power) ** (1 / power)) * (1 + wobble * wave / 1.5)
    on_face = np.sort(level[face])
    size = float(on_face[int(wanted * (len(on_face) - 1))]) if len(on_face) else 0.15 * width
    return level < size, _texture((height, width), u, v, backdrops, rng)


def _texture(
    shape_hw: tuple[int, int], u: np.ndarray, v: np.ndarray, backdrops: Sequence[np.ndarray], rng: np.random.Generator
) -> Float32[np.ndarray, "h w 3"]:
    kind = int(rng.integers(0, 4))
    first, second = rng.uniform(0.01, 0.8, (2, 3)) ** 1.5
    grain, period = rng.uniform(2, 60), rng.uniform(6, 60)
    noise = blurred_noise(rng, shape_hw, grain)
    fine = blurred_noise(rng, shape_hw, 1.5)
    which, corner = int(rng.integers(1 << 30)), rng.uniform(size=2)
    if kind == 0 and len(backdrops):
        return crop(backdrops[which % len(backdrops)], shape_hw, corner, 0.6)
    if kind == 1:
        mix = (np.sin(2 * np.pi * u / period) > 0) * 1.0
    elif kind == 2:
        mix = (0.5 + 0.5 * noise).clip(0, 1)
    else:
        mix = 0.3 * ((u + v) / (2 * shape_hw[0]) + 0.5).clip(0, 1)
    colour = first + mix[..., None] * (second - first)
    return (colour * np.exp(0.1 * noise + 0.06 * fine)[..., None]).astype(np.float32)


def crop(
    picture: UInt8[np.ndarray, "a b 3"], shape_hw: tuple[int, int], corner: Float[np.ndarray, "2"], share: float
) -> Float32[np.ndarray, "h w 3"]:
    """A square piece of a picture as linear light; `corner` in 0…1 says which, `share` how large."""
    height, width = picture.shape[:2]
    side = share * min(height, width)
    left, top = corner[0] * (width - side), corner[1] * (height - side)
    box = (left, top, left + side, top + side)
    piece = Image.fromarray(picture).resize(shape_hw[::-1], Image.Resampling.BILINEAR, box, reducing_gap=2.0)
    return ((np.asarray(piece, np.float32) / 255.0) ** 2.2).astype(np.float32)


def draw_backdrop(
    shape_hw: tuple[int, int], photos: Sequence[UInt8[np.ndarray, "a b 3"]], rng: np.random.Generator
) -> Float32[np.ndarray, "h w 3"]:
    """What is behind the person, linear: a photo out of focus, or gradients, blobs and edges."""
    height, width = shape_hw
    first, second, third = (1.2 * dye(rng) for _ in range(3))
    if rng.uniform() < 0.4:  # a wall
        first, second, third = (c.mean() * rng.uniform(0.9, 1.1, 3) for c in (first, second, third))
    turn, grain, busy = rng.uniform(0, 2 * np.pi), rng.uniform(0.05, 0.5) * width, rng.uniform()
    lumps, fine = blurred_noise(rng, shape_hw, grain), blurred_noise(rng, shape_hw, 2.0)
    which, corner, share = int(rng.integers(1 << 30)), rng.uniform(size=2), rng.uniform(0.35, 0.95)
    edge_turn, edge_at = rng.uniform(0, np.pi, 3), rng.uniform(-0.5, 0.5, 3)
    if len(photos) and rng.uniform() < 0.75:
        return crop(photos[which % len(photos)], shape_hw, corner, share)
    y, x = np.mgrid[:height, :width] / width - 0.5
    ramp = (0.5 + np.cos(turn) * x + np.sin(turn) * y).clip(0, 1)[..., None]
    colour = first + ramp * (second - first)
    if busy > 0.5:
        colour = colour + (0.5 * lumps).clip(0, 1)[..., None] * (third - colour)
        for angle, at in zip(edge_turn, edge_at, strict=True):
            step = (np.cos(angle) * x + np.sin(angle) * y > at)[..., None]
            colour = colour * np.where(step, 1.0, 0.75 + 0.25 * at)
    return (colour * np.exp(0.02 * fine + 0.08 * lumps)[..., None]).clip(0.0, 1.5).astype(np.float32)
