"""What comes between a face and the camera for a moment: a hand, locks of hair, a microphone. Head frame, metres."""

import numpy as np
from jaxtyping import Float, Float32

from diverse3d.surface import catmull_rom

from ._envelope import Envelope
from ._hair import dye, strands
from ._mesh import Part, ball, sheet, tube
from ._noise import Noise
from ._wear import plain

Landmarks = Float[np.ndarray, "68 3"]

# Fingers: where they leave the palm (across, along), length, radius, spread; metres and radians.
_FINGERS = ((-0.031, 0.040, 0.062, 0.0072, -0.16), (-0.011, 0.046, 0.074, 0.0080, -0.04),
            (0.011, 0.045, 0.070, 0.0080, 0.06), (0.030, 0.038, 0.056, 0.0076, 0.18),
            (0.040, -0.008, 0.058, 0.0092, 0.75))  # fmt: skip


def draw_hand(
    marks: Landmarks, envelope: Envelope, skin: Float[np.ndarray, " 3"], rng: np.random.Generator
) -> list[Part]:
    """A palm and fingers that lie on the face, and the forearm below."""
    noise = Noise(rng)
    target = marks[rng.choice([30, 33, 51, 57, 31, 35, 39, 42, 27, 48, 54])]
    turn, size, mirror = rng.uniform(-0.9, 0.9), rng.uniform(0.8, 1.0), rng.choice([-1.0, 1.0])
    angle, height = envelope.chart(target + np.array([rng.normal(0, 0.012), rng.normal(0, 0.012), 0.0]))
    height = height - 0.03 * size
    across = np.array([np.cos(turn), -np.sin(turn)])
    along = np.array([np.sin(turn), np.cos(turn)])
    gap = rng.uniform(0.0, 0.02)

    def on_face(right: np.ndarray, up: np.ndarray, lift: np.ndarray | float) -> np.ndarray:
        """The hand's own plane (metres), laid on the face."""
        flat = size * (np.multiply.outer(mirror * right, across) + np.multiply.outer(up, along))
        # Stiff: a hand follows the face only half-way around.
        bent = angle + 0.85 * flat[..., 0] / 0.1
        surface = envelope.at(bent, height + flat[..., 1], lift + gap)
        centre = envelope.at(np.array(angle), np.array(height), lift + gap)
        out = np.array([np.sin(angle), 0.0, np.cos(angle)])
        side = np.array([np.cos(angle), 0.0, -np.sin(angle)])
        plane = centre + flat[..., :1] * side + flat[..., 1:] * np.array([0.0, 1.0, 0.0])
        mixed = 0.5 * surface + 0.5 * plane
        # Never into the face.
        short = np.maximum(((surface - mixed) @ out), 0.0)
        return mixed + short[..., None] * out

    tone = skin * np.exp(rng.normal(0, 0.08))

    def paint(at: Float32[np.ndarray, "n 3"]) -> Float32[np.ndarray, "n 3"]:
        texture = np.exp(0.08 * noise(at, 0.01) + 0.06 * noise(at, 0.0012) + 0.05 * noise(at, 0.003))
        return (tone[None] * texture[:, None]).astype(np.float32)

    nail = np.minimum(tone * np.array([1.15, 1.1, 1.1]), 0.9)
    parts = []
    for k, (x, y, length, radius, spread) in enumerate(_FINGERS):
        spread = spread + rng.normal(0, 0.06)
        reach = np.linspace(-0.012, length * rng.uniform(0.9, 1.05), 14)
        curl = rng.uniform(-0.1, 0.3) * (reach / length).clip(0) ** 2
        right, up = x + reach * np.sin(spread + curl * (k - 1.5) * 0.2), y + reach * np.cos(spread)
        knuckles = sum(np.exp(-(((reach / length - at) / 0.07) ** 2)) for at in (0.42, 0.75))
        thick = size * radius * (1.06 - 0.22 * (reach / length).clip(0) + 0.05 * knuckles)
        path = on_face(right, up, size * radius)
        points, faces, _ = tube(path, thick, sides=14)
        parts.append(Part(points, faces, points, paint, 0.35, 12.0))
        tip, before = path[-1], path[-4]
        outward = np.array([np.sin(angle), 0.0, np.cos(angle)])
        middle = tip + 0.25 * (before - tip) + outward * thick[-1] * 0.72
        points, faces, _ = ball(np.zeros(3), 1.0, 8, 14)
        along3 = (tip - before) / np.linalg.norm(tip - before)
        side3 = np.cross(along3, outward)
        shape = points @ np.stack([0.62 * thick[-1] * side3, 0.85 * thick[-1] * along3, 0.32 * thick[-1] * outward])
        parts.append(Part(middle + shape, faces, points, plain(nail, noise), 0.9, 40.0))
    # The palm (the back of the hand, seen from outside): a rounded block.
    v, u = np.meshgrid(np.linspace(-1, 1, 22), np.linspace(-1, 1, 18), indexing="ij")
    bulge = (1 - np.abs(u) ** 3).clip(0) ** 0.5 * (1 - np.abs(v) ** 4).clip(0) ** 0.5
    wide = 0.041 + 0.004 * v
    tendons = 0.0015 * np.cos(u * 11) * (v > -0.2) * (v + 0.2)
    points, faces, _ = sheet(on_face(u * wide, 0.052 * v, size * (0.002 + (0.021 + tendons) * bulge)))
    parts.append(Part(points, faces, points, paint, 0.35, 12.0))
    # The forearm leaves downwards, away from the face.
    wrist = on_face(np.zeros(1), np.array([-0.052]), size * 0.012)[0]
    down = -(along[0] * np.array([np.cos(angle), 0.0, -np.sin(angle)]) + along[1] * np.array([0.0, 1.0, 0.0]))
    elbow = wrist + 0.2 * down + np.array([0.0, 0.0, rng.uniform(0.0, 0.06)])
    path = catmull_rom(np.stack([wrist - 0.03 * down, wrist, (wrist + elbow) / 2, elbow]), 16)
    points, faces, _ = tube(path, size * np.linspace(0.024, 0.038, 16), sides=20)
    parts.append(Part(points, faces, points, paint, 0.35, 12.0))
    if rng.uniform() < 0.5:
        sleeve = plain(dye(rng), noise, 0.004, 0.15)
        points, faces, _ = tube(path[6:], size * np.linspace(0.034, 0.05, 10), sides=20)
        parts.append(Part(points, faces, points, sleeve))
    return parts


def draw_strands(marks: Landmarks, envelope: Envelope, colour: np.ndarray, rng: np.random.Generator) -> list[Part]:
    """Locks of hair that fall from the hairline over forehead, eyes or a cheek."""
    noise, locks, steps = Noise(rng), int(rng.integers(18, 46)), 20
    side = rng.choice([-1.0, 1.0])
    middle, width = side * rng.uniform(0.0, 0.75), rng.uniform(0.3, 0.75)
    end = float(rng.choice([marks[38, 1], marks[30, 1], marks[48, 1], marks[8, 1]])) + rng.normal(0, 0.01)
    sweep, bow = rng.normal(0, 0.35), rng.uniform(-0.25, 0.25)
    ribbons, coordinates = [], []
    for k in range(locks):
        root = middle + width * rng.uniform(-1, 1)
        share = np.linspace(0, 1, steps)
        stop = end + rng.normal(0, 0.018)
        height = 0.108 + share * (stop - 0.108)
        way = root + (sweep + rng.normal(0, 0.08)) * share + bow * np.sin(np.pi * share)
        way = way + 0.03 * np.sin(share * rng.uniform(4, 11) + rng.uniform(0, 6))
        half = rng.uniform(0.04, 0.11) * (1 - 0.8 * share**2)
        lift = rng.uniform(0.003, 0.009) + 0.005 * np.sin(np.pi * share)
        across = np.linspace(-1, 1, 5)
        round_lift = lift[:, None] + 0.0015 * (1 - across**2)
        points = envelope.at(way[:, None] + half[:, None] * across, height[:, None] + 0 * across, round_lift)
        ribbons.append(sheet(points))
        coordinates.append(np.stack([
            (0.05 * k + 0.085 * (way[:, None] * 0 + half[:, None] * across)).ravel(),
            np.repeat(height, 5),
            np.tile(across * 0.001, steps) + 0.01 * np.repeat(share, 5),
        ], 1))  # fmt: skip
    start = np.cumsum([0, *(len(points) for points, _, _ in ribbons)])
    points = np.concatenate([points for points, _, _ in ribbons])
    faces = np.concatenate([faces + first for (_, faces, _), first in zip(ribbons, start, strict=False)])
    at = np.concatenate(coordinates)

    def keep(place: Float32[np.ndarray, "n 3"]) -> np.ndarray:
        edge = np.abs(place[:, 2] % 0.01)
        edge = np.minimum(edge, 0.01 - edge) / 0.001
        stretch = np.array([1.0, 0.06, 0.0], np.float32)
        return noise(place * stretch, 0.0011) > -1.6 + 1.9 * np.clip(edge - 0.4, 0, 1)

    return [Part(points, faces, at, strands(colour, noise), 0.4, 14.0, keep)]


def draw_microphone(marks: Landmarks, envelope: Envelope, rng: np.random.Generator) -> list[Part]:
    """A ball of wire mesh before the mouth, and its handle."""
    noise, radius = Noise(rng), rng.uniform(0.02, 0.034)
    mouth = marks[48:60].mean(0) + np.array([rng.normal(0, 0.01), rng.normal(-0.004, 0.008), 0.0])
    angle, height = envelope.chart(mouth)
    out = np.array([np.sin(angle), 0.0, np.cos(angle)])
    centre = envelope.at(np.array(angle), np.array(height), radius + rng.uniform(0.001, 0.015))
    down = np.array([rng.uniform(-0.8, 0.8), -1.0, 0.0]) + rng.uniform(0.2, 0.9) * out
    down /= np.linalg.norm(down)
    metal = rng.uniform(0.01, 0.4) * rng.uniform(0.9, 1.1, 3)
    foam = rng.uniform() < 0.35

    def grille(at: Float32[np.ndarray, "n 3"]) -> Float32[np.ndarray, "n 3"]:
        if foam:
            return (0.05 * metal * np.exp(0.5 * noise(at, 0.05))[:, None]).astype(np.float32)
        around, polar = np.arctan2(at[:, 0], at[:, 2]), np.arccos(at[:, 1].clip(-1, 1))
        wires = np.maximum(np.cos(42 * polar + 18 * around), np.cos(42 * polar - 18 * around)).clip(0)
        ring = np.abs(at @ down.astype(np.float32)) < 0.12
        colour = metal * (0.15 + 0.85 * wires[:, None])
        return np.where(ring[:, None], metal, colour).astype(np.float32)

    points, faces, direction = ball(centre, radius, 24, 36)
    path = centre + np.linspace(0.8 * radius, 0.24, 12)[:, None] * down
    body = plain(rng.uniform(0.005, 0.06) * np.ones(3), noise)
    width = np.linspace(0.78 * radius, 0.5 * radius, 12)
    return [
        Part(points, faces, direction, grille, 0.05 if foam else 0.8, 25.0),
        Part(*tube(path, width, sides=20), body, 0.6, 30.0),
    ]
