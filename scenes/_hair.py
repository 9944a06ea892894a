"""What frames a face: hair on the scalp, long hair behind the ears, and clothes."""

import numpy as np
from jaxtyping import Float, Float32

from diverse3d.head import HeadModel
from diverse3d.surface import catmull_rom, host_normals

from ._mesh import Paint, Part, Sheet, sheet
from ._noise import Noise

_LINE_ANGLE = (0.0, 0.5, 0.85, 1.1, 1.3, 1.55, 1.9, 2.4, 3.15)
_LINE_HEIGHT_M = (0.094, 0.094, 0.078, 0.05, 0.015, 0.022, 0.0, -0.045, -0.06)
HAIRLINE_SPREAD_M = (-0.008, 0.012)
"""How far the hairline lies below or above the usual."""
_STYLES = ("short", "full", "long")


def draw_hair(
    head: HeadModel, vertices: Float[np.ndarray, "V 3"], colour: np.ndarray, line: float, rng: np.random.Generator
) -> list[Part]:
    """A cap of hair on the head's scalp, with strands at its edge; on some, long hair behind the ears.

    `line` is how far (metres) the hairline lies above the usual; nothing grows where that is infinite.
    """
    style = str(rng.choice(_STYLES, p=[0.5, 0.28, 0.22]))
    noise = Noise(rng)
    depth = {"short": rng.uniform(0.003, 0.012), "full": rng.uniform(0.012, 0.026)}.get(style, 0.014)
    crown, curly = rng.uniform(0.0, 0.012), rng.uniform() < 0.3
    if not np.isfinite(line):
        return []
    template = np.asarray(head.template_m, np.float64)
    above = above_hairline(template, line)
    ears = [np.asarray(head.regions[name]) for name in ("left_ear", "right_ear") if name in head.regions]
    grown = np.clip(above / 0.025, 0.0, 1.0)
    grown = grown * grown * (3 - 2 * grown)
    out = host_normals(vertices, np.asarray(head.faces)).astype(np.float32)
    rough = noise(template.astype(np.float32), 0.03)
    lift = 0.0012 + grown * (depth * (1 + 0.2 * rough) + crown * np.clip(template[:, 1] / 0.1, 0, 1))
    lift = np.where(above > -0.015, lift, 0.0)
    if ears:
        lift[np.concatenate(ears)] = -0.004
    shell = vertices + lift[:, None] * out
    faces = np.asarray(head.faces)
    kept = faces[(above[faces] > -0.012).all(1) & (lift[faces] > 0).all(1)]
    paint = strands(colour, noise, curly=curly)

    def keep(place: Float32[np.ndarray, "n 3"]) -> np.ndarray:
        edge = 0.0025 * noise(place * np.array([1, 0.15, 1], np.float32), 0.0012) + 0.003 * noise(place, 0.015)
        return above_hairline(place, line) + edge > 0.0

    parts = [Part(shell, kept, template, paint, 0.35, 14.0, keep)]
    if style == "long":
        parts.append(_curtain(vertices, paint, rng))
    return parts


def above_hairline(place: np.ndarray, line: float) -> np.ndarray:
    """Metres above the hairline at places on the template."""
    angle = np.abs(np.arctan2(place[:, 0], place[:, 2] + 0.03))
    return place[:, 1] - np.interp(angle, _LINE_ANGLE, _LINE_HEIGHT_M) - line * (angle < 1.2)


def dye(rng: np.random.Generator) -> Float[np.ndarray, " 3"]:
    """A linear colour of cloth: mostly muted, sometimes bright."""
    grey, hue = rng.uniform(0.015, 0.75) ** 1.4, rng.uniform(0.01, 0.75, 3) ** 1.6
    vivid = rng.uniform(0.1, 1.0) ** 1.7
    return grey * (1 - vivid) + vivid * hue


def strands(colour: np.ndarray, noise: Noise, *, curly: bool = False) -> Paint:
    """Hair that runs along the second coordinate (metres)."""
    stretch = np.array([1.0, 0.5 if curly else 0.07, 1.0], np.float32)

    def paint(place: Float32[np.ndarray, "n 3"]) -> Float32[np.ndarray, "n 3"]:
        bend = place.copy()
        bend[:, 0] += 0.003 * noise(place, 0.02)
        fine, lock = noise(bend * stretch, 0.0009), noise(bend * stretch, 0.006)
        shade = np.exp(0.35 * fine + 0.4 * lock)
        return (colour[None] * shade[:, None]).astype(np.float32).clip(0.002, 0.9)

    return paint


def _curtain(vertices: np.ndarray, paint: Paint, rng: np.random.Generator) -> Part:
    """Hair that falls from the crown past the ears, behind the face."""
    rows, columns = 26, 64
    opening, bottom = rng.uniform(1.45, 1.75), rng.uniform(-0.28, -0.16)
    side = float(np.abs(vertices[:, 0]).max())
    angle = np.linspace(opening, 2 * np.pi - opening, columns)[None, :]
    share = np.linspace(0, 1, rows)[:, None]
    height = 0.085 + share * (bottom - 0.085)
    wave = 0.004 * np.sin(9 * angle + rng.uniform(0, 6)) + 0.003 * np.sin(23 * angle + 5 * share)
    radius = side + 0.006 + 0.012 * np.sin(np.pi * share) + wave
    radius = radius * np.clip(0.82 + 1.2 * share, 0, 1)
    points = np.stack(
        [radius * np.sin(angle), np.broadcast_to(height, radius.shape), 1.15 * radius * np.cos(angle) - 0.045], -1
    )
    points, faces, uv = sheet(points)
    place = np.stack([uv[:, 0] * 0.4, points[:, 1], np.zeros(len(uv))], 1)
    return Part(points, faces, place, paint, 0.35, 14.0)


def draw_body(ring: Float[np.ndarray, "b 3"], skin: Float[np.ndarray, " 3"], rng: np.random.Generator) -> list[Part]:
    """Lower neck and clothed shoulders, upright below the turned head; `ring` is where the head's own neck ends, in
    order and in the camera's frame."""
    noise = Noise(rng)
    centre = ring.mean(0)
    centre_z, wide = float(centre[2]), 0.056
    collar = float(centre[1]) + rng.uniform(-0.035, 0.005)
    shoulder = rng.uniform(0.17, 0.22)
    dress, second = dye(rng), dye(rng)
    stripes, pattern = rng.uniform(15, 90), int(rng.integers(0, 4))

    def loft(rings: list[tuple[float, float, float, float]]) -> Sheet:
        fine = catmull_rom(np.array(rings), 4 * len(rings))
        around = np.linspace(0, 2 * np.pi, 49)[None, :-1]
        y, x, z, back = (fine[:, i, None] for i in range(4))
        points = np.stack([centre[0] + x * np.sin(around), y + 0 * around, centre_z - back + z * np.cos(around)], -1)
        return sheet(points, closed=True)

    base = centre + np.array([0.0, -0.12, -0.01]) + 1.05 * (ring - centre) * np.array([1.0, 0.2, 1.0])
    share = np.linspace(0, 1, 8)[:, None, None]
    neck = sheet((1 - share) * ring + share * base, closed=True)
    rings = [(collar + 0.002, 1.12 * wide, 0.058, 0.004), (collar - 0.014, 1.35 * wide, 0.075, 0.01),
             (collar - 0.04, 0.62 * shoulder, 0.085, 0.012), (collar - 0.065, 0.92 * shoulder, 0.1, 0.015),
             (collar - 0.1, shoulder, 0.11, 0.015), (collar - 0.15, 1.04 * shoulder, 0.115, 0.015),
             (-0.35, 1.05 * shoulder, 0.12, 0.015), (-0.6, 1.05 * shoulder, 0.13, 0.015)]  # fmt: skip
    cloth = loft(rings)

    def paint_skin(place: Float32[np.ndarray, "n 3"]) -> Float32[np.ndarray, "n 3"]:
        return (skin * np.exp(0.05 * noise(place, 0.013))[:, None]).astype(np.float32)

    def paint_cloth(place: Float32[np.ndarray, "n 3"]) -> Float32[np.ndarray, "n 3"]:
        if pattern == 1:
            mix = np.sin(2 * np.pi * stripes * place[:, 1]) > 0.2
        elif pattern == 2:
            mix = noise(place, 1.2 / stripes) > 0.7
        else:
            mix = np.zeros(len(place), bool)
        colour = np.where(mix[:, None], second, dress)
        folds = np.exp(0.25 * noise(place, 0.05) + 0.06 * noise(place, 0.002))
        return (colour * folds[:, None]).astype(np.float32)

    return [
        Part(neck[0], neck[1], neck[0], paint_skin, 0.1),
        Part(cloth[0], cloth[1], cloth[0], paint_cloth, 0.03),
    ]
