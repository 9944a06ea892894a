"""What is worn before a face: glasses, a surgical mask, a scarf. In the head's own frame, metres."""

import numpy as np
from jaxtyping import Float, Float32
from scipy.spatial import cKDTree

from diverse3d.surface import catmull_rom

from ._envelope import Envelope, place
from ._hair import dye
from ._mesh import Paint, Part, sheet, tube
from ._noise import Noise

Landmarks = Float[np.ndarray, "68 3"]

_RIMS = ((0.01, 0.01, 0.01), (0.02, 0.012, 0.008), (0.1, 0.03, 0.015), (0.35, 0.33, 0.3), (0.4, 0.3, 0.12),
         (0.03, 0.05, 0.12), (0.3, 0.02, 0.03))  # fmt: skip
_MASKS = ((0.32, 0.52, 0.68), (0.75, 0.77, 0.78), (0.012, 0.012, 0.014), (0.2, 0.5, 0.42), (0.55, 0.3, 0.38))


def plain(colour: np.ndarray, noise: Noise, grain_m: float = 0.002, amount: float = 0.05) -> Paint:
    """One colour with a little noise."""

    def paint(at: Float32[np.ndarray, "n 3"]) -> Float32[np.ndarray, "n 3"]:
        return (colour[None] * np.exp(amount * noise(at, grain_m))[:, None]).astype(np.float32)

    return paint


def cloth(rng: np.random.Generator, noise: Noise, colour: np.ndarray | None = None) -> Paint:
    """A printed or woven pattern in two colours; coordinates in metres along the cloth."""
    first, second = dye(rng) if colour is None else colour, dye(rng)
    kind = int(rng.integers(0, 5)) if colour is None else 0
    period, turn = rng.uniform(0.006, 0.03), rng.uniform(0, np.pi)

    def paint(at: Float32[np.ndarray, "n 3"]) -> Float32[np.ndarray, "n 3"]:
        u = (np.cos(turn) * at[:, 0] + np.sin(turn) * at[:, 1]) * (2 * np.pi / period)
        v = (np.cos(turn) * at[:, 1] - np.sin(turn) * at[:, 0]) * (2 * np.pi / period)
        mix = [
            lambda: np.zeros(len(at)),
            lambda: (np.sin(u) > 0.1) * 1.0,
            lambda: 0.5 * (np.sin(u) > 0) + 0.5 * (np.sin(v) > 0),
            lambda: (np.sin(u) * np.sin(v) > 0.35) * 1.0,
            lambda: (noise(at, period / 2) > 0.4) * 1.0,
        ][kind]()
        weave = np.sin(at[:, 0] * 2600) * np.sin(at[:, 1] * 2600)
        colour = first + mix[:, None] * (second - first)
        return (colour * np.exp(0.06 * weave + 0.08 * noise(at, 0.02))[:, None]).astype(np.float32)

    return paint


def _cleared(
    vertices: np.ndarray, eyes: dict[int, np.ndarray], outline: np.ndarray, front: float, wrap: float
) -> float:
    """How much farther forward (metres) glasses must sit so that cheeks and brows stay behind nearly all of them."""
    face = vertices[vertices[:, 2] > front - 0.05]
    tree = cKDTree(face[:, :2])
    depth = []
    for side, eye in eyes.items():
        rings = np.linspace(0.1, 1.0, 6)[:, None, None] * outline + [eye[0] + side * 0.0015, eye[1] - 0.003]
        for x, y in rings.reshape(-1, 2):
            near = tree.query_ball_point((x, y), 0.004)
            if near:
                lens = front - wrap * x**2 - 0.12 * (eyes[1][1] - y)
                depth.append(face[near, 2].max() - lens)
    return float(np.clip(np.quantile(depth, 0.99), 0.0, 0.015)) if depth else 0.0


def draw_glasses(
    vertices: Float[np.ndarray, "V 3"], marks: Landmarks, rng: np.random.Generator, *, dark: bool
) -> tuple[list[Part], list[Part]]:
    """(what hides, clear lenses): rims around both eyes, a bridge and temples; dark lenses hide too."""
    noise = Noise(rng)
    eyes = {-1: marks[36:42].mean(0), 1: marks[42:48].mean(0)}
    half = 0.42 * float(np.linalg.norm(eyes[1] - eyes[-1])) * rng.uniform(0.9, 1.03)
    tall = half * (rng.uniform(0.78, 1.0) if dark else rng.uniform(0.62, 0.95))
    power = rng.choice([2.0, 2.6, 4.0])
    thick = rng.uniform(0.0009, 0.0026)
    front = max(float(vertices[np.hypot(*(vertices[:, :2] - eyes[s][:2]).T) < tall, 2].max()) for s in (-1, 1))
    front = min(front, float(marks[27, 2]) + 0.006) + rng.uniform(0.001, 0.005)
    rim = plain(np.array(_RIMS[rng.integers(len(_RIMS))]), noise)
    angle = 2 * np.pi * np.arange(56) / 56
    x, y = (np.sign(f(angle)) * np.abs(f(angle)) ** (2 / power) for f in (np.cos, np.sin))
    wrap = rng.uniform(1.0, 3.5)
    grey = rng.uniform() < 0.75
    tint = 0.013 * rng.uniform(0.5, 1.6, 3) if grey else rng.uniform(0.01, 0.09, 3)
    paint_lens = _lens(tint, rng)
    hiding: list[Part] = []
    clear: list[Part] = []
    hinges: dict[int, np.ndarray] = {}
    front += _cleared(vertices, eyes, half * np.stack([x, y * tall / half], 1), front, wrap)
    for s, eye in eyes.items():
        outline = np.stack([eye[0] + s * 0.0015 + half * x, eye[1] - 0.003 + tall * (y - 0.06), np.zeros_like(x)], 1)

        def bent(points: np.ndarray) -> np.ndarray:
            out = points.copy()
            out[..., 2] = front - wrap * points[..., 0] ** 2 - 0.12 * (eyes[1][1] - points[..., 1])
            return out

        hiding.append(Part(*tube(bent(outline), thick, sides=8, closed=True), rim, 0.9, 40.0))
        centre = outline.mean(0)
        rings = centre + np.linspace(0.02, 1.0, 7)[:, None, None] * (outline - centre)
        points, faces, uv = sheet(bent(rings), closed=True)
        uv = np.concatenate([(points[:, :2] - centre[:2]) / half, np.zeros((len(points), 1))], 1)
        (hiding if dark else clear).append(Part(points, faces[:, ::-1], uv, paint_lens, 2.0, 90.0))
        hinges[s] = bent(centre + np.array([s * half * 0.99, 0.45 * tall, 0.0]))
        inner = bent(centre + np.array([-s * half * 0.97, 0.25 * tall, 0.0]))
        hinges[s * 2] = inner
    middle = (hinges[-2] + hinges[2]) / 2 + [0, 0.002, 0.003]
    hiding.append(Part(*tube(catmull_rom(np.stack([hinges[-2], middle, hinges[2]]), 12), 1.2 * thick), rim, 0.9, 40.0))
    for s in (-1, 1):
        sides = vertices[(s * vertices[:, 0] > 0.04) & (np.abs(vertices[:, 2] + 0.04) < 0.02)]
        beside = float(np.abs(sides[np.abs(sides[:, 1] - hinges[s][1]) < 0.02, 0]).max(initial=0.07))
        ear = np.array([s * (beside + 0.002), marks[16 if s > 0 else 0, 1] + 0.012, -0.045])
        corner = hinges[s] + [s * 0.003, 0, -0.004]
        path = catmull_rom(np.stack([hinges[s], corner, ear, ear + np.array([0.0, -0.025, -0.03])]), 22)
        hiding.append(Part(*tube(path, 1.3 * thick, sides=8), rim, 0.9, 40.0))
    return hiding, clear


def _lens(tint: np.ndarray, rng: np.random.Generator) -> Paint:
    """Tinted glass that mirrors a bright band and a dim room; coordinates run from -1 to 1."""
    tilt, where, bright = rng.uniform(-0.8, 0.8), rng.uniform(-0.6, 0.6), rng.uniform(0.02, 0.25)
    noise, graded = Noise(rng), rng.uniform(0, 3)

    def paint(at: Float32[np.ndarray, "n 3"]) -> Float32[np.ndarray, "n 3"]:
        band = np.exp(-(((at[:, 0] + tilt * at[:, 1] - where) / 0.2) ** 2))
        room = 0.012 * np.exp(0.8 * noise(at, 0.45))
        return (tint * (1 + graded * (0.5 - 0.5 * at[:, 1:2])) + (bright * band + room)[:, None]).astype(np.float32)

    return paint


def draw_surgical_mask(
    vertices: Float[np.ndarray, "V 3"], marks: Landmarks, envelope: Envelope, rng: np.random.Generator
) -> list[Part]:
    """A pleated cloth from the bridge of the nose to below the chin, with loops to the ears."""
    noise, rows, columns = Noise(rng), 40, 64
    reach = rng.uniform(0.98, 1.2)
    angle = np.linspace(-reach, reach, columns)[None, :]
    side = np.abs(angle) / reach
    lids = min(float(marks[[40, 41, 46, 47], 1].min()), float(marks[[36, 45], 1].min()))
    top = min(float(marks[28, 1]), lids - 0.004) + rng.uniform(-0.008, 0.001)
    drop = rng.uniform(0.008, 0.016)
    bottom, lift_bottom = float(marks[8, 1]) - rng.uniform(0.006, 0.014), rng.uniform(0.02, 0.032)
    upper = top - drop * side**1.3
    lower = bottom + lift_bottom * side**2.2
    share = np.linspace(0, 1, rows)[:, None]
    height = upper + share * (lower - upper)
    pleated = rng.uniform() < 0.7
    folds = sum(np.exp(-(((share - at) / 0.03) ** 2)) for at in (0.35, 0.52, 0.69)) * pleated
    lift = 0.0035 + 0.004 * np.sin(np.pi * share) * (1 - side**2) - 0.0018 * folds
    lift = lift + 0.0012 * np.sin(13 * angle + 9 * share + rng.uniform(0, 6)) * side
    points, faces, uv = sheet(envelope.at(np.broadcast_to(angle, height.shape), height, lift))
    at = np.stack([(uv[:, 0] - 0.5) * 0.18, uv[:, 1] * 0.11, np.zeros(len(uv))], 1)
    printed = rng.uniform() < 0.25
    base = cloth(rng, noise, None if printed else np.array(_MASKS[rng.integers(len(_MASKS))]) * rng.uniform(0.8, 1.15))

    def paint(place_m: Float32[np.ndarray, "n 3"]) -> Float32[np.ndarray, "n 3"]:
        v = place_m[:, 1] / 0.11
        dark = sum(np.exp(-(((v - a) / 0.012) ** 2)) for a in (0.35, 0.52, 0.69)) * pleated
        edge = np.exp(-((np.minimum(v, 1 - v) / 0.02) ** 2))
        return base(place_m) * (1 - 0.3 * dark - 0.15 * edge)[:, None].astype(np.float32)

    parts = [Part(points, faces, at, paint)]
    loop = plain(np.array([0.7, 0.7, 0.7]) if rng.uniform() < 0.7 else np.array([0.02, 0.02, 0.02]), noise)
    for s, last in ((-1, 0), (1, columns - 1)):
        ear = marks[16 if s > 0 else 0] + np.array([s * 0.006, 0.0, -0.022])
        for row, towards in ((0, [0, 0.012, 0]), (rows - 1, [0, -0.022, 0])):
            start = points.reshape(rows, columns, 3)[row, last]
            middle = (start + ear + towards) / 2 + [s * 0.006, 0, 0.002]
            parts.append(Part(*tube(catmull_rom(np.stack([start, middle, ear + towards]), 12), 0.0013, sides=6), loop))
    return parts


def draw_scarf(marks: Landmarks, envelope: Envelope, rng: np.random.Generator) -> list[Part]:
    """A thick cloth wound around neck and lower face, with its own folds."""
    noise, rows, columns = Noise(rng), 48, 112
    angle = -np.pi + 2 * np.pi * np.arange(columns)[None, :] / columns
    front = np.cos(angle / 2) ** 2
    top = float(marks[33, 1]) + rng.uniform(-0.012, 0.018)
    upper = top * front + (-0.07) * (1 - front) + 0.004 * np.sin(3 * angle + rng.uniform(0, 6))
    share = np.linspace(0, 1, rows)[:, None]
    height = upper + share * (-0.21 - upper)
    turns, tilt = rng.uniform(2.0, 4.0), rng.uniform(-0.6, 0.6)
    phase = 2 * np.pi * (turns * share + 0.12 * np.sin(angle + tilt) + 0.05 * np.sin(4 * angle + rng.uniform(0, 6)))
    roll = 0.006 * np.sin(phase) + 0.003 * np.sin(2.3 * phase + 2 * angle)
    least = 0.085 + 0.03 * np.clip((float(marks[8, 1]) - height) / 0.08, 0, 1)
    skin = envelope.radius(np.broadcast_to(angle, height.shape), height)
    lift = rng.uniform(0.006, 0.012) + 0.006 * np.minimum(share / 0.1, 1) + roll * np.minimum(share / 0.08, 1)
    radius = np.maximum(skin, np.minimum(least, skin + 0.07 * share)) + np.maximum(lift, 0.003)
    radius = np.concatenate([envelope.radius(angle, upper) + 0.001, radius])  # the edge turns in
    height = np.concatenate([upper - 0.001, height])
    points, faces, uv = sheet(place(angle, height, radius), closed=True)
    at = np.stack([uv[:, 0] * 0.6, uv[:, 1] * 0.25, np.zeros(len(uv))], 1)
    base = cloth(rng, noise)

    def paint(place_m: Float32[np.ndarray, "n 3"]) -> Float32[np.ndarray, "n 3"]:
        fibres = np.exp(0.12 * noise(place_m, 0.0016) + 0.12 * noise(place_m, 0.015))
        return base(place_m) * fibres[:, None].astype(np.float32)

    return [Part(points, faces, at, paint)]
