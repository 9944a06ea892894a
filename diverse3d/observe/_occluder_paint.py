"""How the occluders look: a surgical mask, sunglasses, a gauze pad, a microphone, cloth.

Shapes are drawn four times finer with Pillow and averaged; light and texture are computed per pixel. Lengths
are in face lengths (root of the nose to chin), so that a picture of twice the size shows the same thing.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float64, UInt8
from PIL import Image, ImageDraw

_FINER = 4
_MASKS = ((150, 190, 214), (226, 231, 232), (128, 178, 168), (52, 55, 62))
_CLOTHS = ((112, 46, 52), (58, 78, 112), (104, 96, 70), (70, 92, 76), (150, 128, 104), (84, 80, 92))

Layer = Float64[np.ndarray, "h w"]
Colours = Float64[np.ndarray, "h w 3"]


class _Patch:
    """The part of the picture that an outline touches, with every pixel's place on the face."""

    def __init__(
        self,
        shape_hw: tuple[int, int],
        outline: tuple[np.ndarray, ...],
        origin: np.ndarray,
        axes: np.ndarray,
        length: float,
        rng: np.random.Generator,
    ) -> None:
        corners = np.concatenate(outline)
        size = np.array([shape_hw[1], shape_hw[0]])
        self.low = np.clip(np.floor(corners.min(axis=0)).astype(int) - 1, 0, size)
        self.high = np.clip(np.ceil(corners.max(axis=0)).astype(int) + 1, self.low, size)
        self.length, self.rng = length, rng
        self.width, self.height = (int(n) for n in self.high - self.low)
        x, y = np.meshgrid(np.arange(self.width) + 0.5, np.arange(self.height) + 0.5)
        from_origin = np.stack([x, y], axis=-1) + self.low - origin
        self.x, self.y = from_origin @ axes[0] / length, from_origin @ axes[1] / length

    def fill(self, *polygons: np.ndarray) -> Layer:
        """How much of each pixel the polygons cover together."""
        return self._draw(lambda draw, points, _: draw.polygon(points, fill=255), polygons, 0.0)

    def stroke(self, width: float, *polygons: np.ndarray) -> Layer:
        """How much of each pixel lies on the polygons' edges."""
        closed = [np.concatenate([polygon, polygon[:2]]) for polygon in polygons]
        return self._draw(lambda draw, points, w: draw.line(points, fill=255, width=w, joint="curve"), closed, width)

    def _draw(
        self, how: Callable[..., None], polygons: tuple[np.ndarray, ...] | list[np.ndarray], width: float
    ) -> Layer:
        fine = Image.new("L", (self.width * _FINER, self.height * _FINER))
        draw = ImageDraw.Draw(fine)
        for polygon in polygons:
            points = (polygon - self.low) * _FINER - 0.5  # Pillow counts from pixel centres
            how(draw, [tuple(point) for point in points], max(round(width * self.length * _FINER), 1))
        return np.asarray(fine.reduce(_FINER)) / 255.0

    def noise(self, grain: float) -> Layer:
        """Smooth noise of about unit size whose lumps are `grain` face lengths wide."""
        step = max(grain * self.length, 1.0)
        coarse = self.rng.standard_normal((int(self.height / step) + 3, int(self.width / step) + 3))
        lumps = Image.fromarray(coarse.astype(np.float32))
        return np.asarray(lumps.resize((self.width, self.height), Image.Resampling.BICUBIC), dtype=np.float64)

    def weave(self, period: float) -> Layer:
        """A plain weave in [-1, 1], fading where the picture is too coarse to show it."""
        shown = float(np.clip(period * self.length / 3.0 - 0.6, 0.0, 1.0))
        k = 2 * np.pi / period
        return shown * np.sin(k * (self.x + 0.01 * self.noise(0.15))) * np.sin(k * self.y)

    def roundness(self, x: Layer, y: Layer, side: float) -> Layer:
        """Light on a unit ball seen from the front, from above and from `side` (-1 to 1), at most 1."""
        z = np.sqrt(np.clip(1.0 - x**2 - y**2, 0.04, 1.0))
        light = np.array([0.45 * side, -0.4, 0.8])
        return np.clip((x * light[0] + y * light[1] + z * light[2]) / np.linalg.norm(light), 0.0, 1.0)


def paint(
    rgb: UInt8[np.ndarray, "height width 3"],
    region: str,
    outline: tuple[np.ndarray, ...],
    points: Float64[np.ndarray, "68 2"],
    axes: Float64[np.ndarray, "2 2"],
    length: float,
    rng: np.random.Generator,
) -> tuple[UInt8[np.ndarray, "height width 3"], Bool[np.ndarray, "height width"]]:
    """The picture with the region's occluder over the outline, and the mask of all pixels it touches."""
    painted, mask = rgb.copy(), np.zeros(rgb.shape[:2], dtype=bool)
    patch = _Patch(rgb.shape[:2], outline, points[30], axes, length, rng)
    if patch.width == 0 or patch.height == 0:
        return painted, mask
    exposure, side = _light_of(rgb, points)
    colours = exposure * _PAINTERS.get(region, _cloth)(patch, outline, side)
    cover = patch.fill(*outline)
    window = (slice(patch.low[1], patch.high[1]), slice(patch.low[0], patch.high[0]))
    blended = rgb[window] * (1.0 - cover[..., None]) + np.clip(colours, 0.0, 255.0) * cover[..., None]
    painted[window] = np.where(cover[..., None] > 0.0, np.rint(blended), rgb[window]).astype(np.uint8)
    mask[window] = cover > 0.0
    return painted, mask


def _light_of(rgb: np.ndarray, points: np.ndarray) -> tuple[float, float]:
    """The face's exposure (1 is usual) and from which side it is lit (-1 picture's left, 1 right)."""

    def brightness(indices: list[int]) -> float:
        centre, reach = points[indices].mean(axis=0), 0.08 * float(np.hypot(*(points[8] - points[27]))) + 1.0
        low = np.clip((centre - reach).astype(int), 0, np.array([rgb.shape[1], rgb.shape[0]]) - 1)
        high = np.maximum((centre + reach).astype(int), low + 1)
        return float(rgb[low[1] : high[1], low[0] : high[0]].mean())

    left, right = brightness([2, 31, 48]), brightness([14, 35, 54])
    mean = (left + right) / 2
    return float(np.clip(mean / 165.0, 0.3, 1.1)), float(np.clip(3.0 * (right - left) / max(mean, 1.0), -1.0, 1.0))


def _pick(patch: _Patch, colours: tuple[tuple[int, int, int], ...]) -> Float64[np.ndarray, "3"]:
    return np.array(colours[patch.rng.integers(len(colours))], dtype=np.float64) * patch.rng.uniform(0.92, 1.06)


def _surgical_mask(patch: _Patch, outline: tuple[np.ndarray, ...], side: float) -> Colours:
    colour = _pick(patch, _MASKS)
    light = 0.45 + 0.6 * patch.roundness(patch.x / 0.85, (patch.y - 0.1) / 0.95, side)
    height = patch.y + 0.35 * patch.x**2 + 0.006 * patch.noise(0.25)  # pleats hang from ear to ear
    for fold in (0.03, 0.18, 0.33):
        below = height - fold
        light = light - 0.2 * np.exp(-((below / 0.012) ** 2)) + 0.07 * np.exp(-(((below - 0.035) / 0.03) ** 2))
        light = light - 0.1 * np.where(below < 0.0, np.exp(below / 0.05), 0.0)
    light = light + 0.018 * patch.weave(0.02) + 0.015 * patch.noise(0.012) + 0.03 * patch.noise(0.3)
    light = light - 0.14 * patch.stroke(0.015, outline[0]) + 0.06 * patch.stroke(0.075, outline[0])
    cloth = colour * light[..., None]
    loops = np.array([214.0, 216.0, 214.0]) * (0.85 + 0.05 * patch.noise(0.02))[..., None]
    over = patch.fill(outline[0])[..., None]
    return cloth * over + loops * (1.0 - over)


def _sunglasses(patch: _Patch, outline: tuple[np.ndarray, ...], side: float) -> Colours:
    lenses = outline[:2]
    frame = _pick(patch, ((34, 32, 33), (58, 40, 30), (40, 44, 52)))
    colours = frame * (0.85 + 0.1 * patch.noise(0.03) - 0.5 * np.clip(patch.y + 0.3, -0.3, 0.3))[..., None]
    for lens in lenses:
        centre = lens.mean(axis=0) - patch.low
        inner = patch.fill(centre + 0.87 * (lens - patch.low - centre) + patch.low)[..., None]
        low, high = lens.min(axis=0) - patch.low, lens.max(axis=0) - patch.low
        rows, columns = np.mgrid[: patch.height, : patch.width] + 0.5
        down, across = (rows - low[1]) / (high[1] - low[1]), (columns - low[0]) / (high[0] - low[0])
        tint = 14.0 + 34.0 * np.clip(down, 0.0, 1.0) ** 1.5  # graded: darker at the top
        streak = np.exp(-(((across + 0.55 * down - 0.55 - 0.15 * side) / 0.11) ** 2)) * np.clip(1.0 - down, 0.0, 1.0)
        glass = tint[..., None] * np.array([0.92, 0.98, 1.08]) + 46.0 * streak[..., None]
        colours = colours * (1.0 - inner) + glass * inner
        colours = colours + 26.0 * (patch.stroke(0.008, lens) * np.clip(-(patch.y + 0.25) * 6.0, 0.0, 1.0))[..., None]
    return colours


def _gauze(patch: _Patch, outline: tuple[np.ndarray, ...], side: float) -> Colours:
    centre = outline[0].mean(axis=0)
    inner = centre + 0.72 * (outline[0] - centre)
    light = 0.5 + 0.55 * patch.roundness(patch.x / 0.9, patch.y / 1.1, side) + 0.02 * patch.noise(0.01)
    tape = (
        np.array([214.0, 190.0, 166.0])
        * (light + 0.03 * patch.noise(0.08) - 0.12 * patch.stroke(0.012, *outline))[..., None]
    )
    pad = light + 0.05 * patch.weave(0.03) + 0.04 * patch.noise(0.1) - 0.25 * patch.stroke(0.02, inner)
    over = patch.fill(inner)[..., None]
    return tape * (1.0 - over) + np.array([232.0, 230.0, 222.0]) * pad[..., None] * over


def _microphone(patch: _Patch, outline: tuple[np.ndarray, ...], side: float) -> Colours:
    ball, handle = outline
    centre = ball.mean(axis=0) - patch.low
    radius = float(np.linalg.norm(ball[0] - patch.low - centre))
    rows, columns = np.mgrid[: patch.height, : patch.width] + 0.5
    x, y = (columns - centre[0]) / radius, (rows - centre[1]) / radius
    bend = np.arcsin(np.clip(np.hypot(x, y), 0.0, 1.0)) / np.maximum(np.hypot(x, y), 1e-6)  # wires close up at the rim
    fine = float(np.clip(radius * 0.18 / 3.0 - 0.6, 0.0, 1.0))
    wires = fine * (np.cos(35.0 * (x + y) * bend) * np.cos(35.0 * (x - y) * bend))
    light = patch.roundness(x, y, side)
    grille = np.array([118.0, 120.0, 124.0]) * (0.25 + 0.75 * light**1.5 + 0.22 * wires * light)[..., None]
    grille = grille + 70.0 * (light**24)[..., None]
    ring = np.exp(-(((y + 0.25 * x - 0.25) / 0.1) ** 2))[..., None]
    grille = grille * (1.0 - 0.75 * ring) + np.array([58.0, 58.0, 60.0]) * ring * (0.4 + 0.8 * light)[..., None]
    start, end = (handle[0] + handle[3]) / 2 - patch.low, (handle[1] + handle[2]) / 2 - patch.low
    along = (end - start) / np.linalg.norm(end - start)
    reach = (columns - start[0]) * along[0] + (rows - start[1]) * along[1]
    share = np.clip(reach / np.linalg.norm(end - start), 0.0, 1.0)
    half = ((1.0 - share) * np.linalg.norm(handle[0] - handle[3]) + share * np.linalg.norm(handle[1] - handle[2])) / 2
    across = ((columns - start[0]) * -along[1] + (rows - start[1]) * along[0]) / half
    gleam = np.exp(-(((across - 0.35) / 0.22) ** 2)) + 0.5 * np.clip(1.0 - across**2, 0.0, 1.0)
    body = np.array([44.0, 44.0, 47.0]) * (0.5 + 0.9 * gleam + 0.03 * patch.noise(0.01))[..., None]
    over = patch.fill(ball)[..., None]
    return grille * over + body * (1.0 - over)


def _cloth(patch: _Patch, outline: tuple[np.ndarray, ...], side: float) -> Colours:
    colour = _pick(patch, _CLOTHS)
    tilt = patch.rng.uniform(-0.5, 0.5)
    phase = 16.0 * (patch.y + tilt * patch.x) + 1.3 * patch.noise(0.35)
    folds = 0.5 * np.sin(phase) + 0.25 * np.sin(2.3 * phase + 1.0)
    light = 0.5 + 0.55 * patch.roundness(patch.x / 0.95, patch.y / 1.1, side) + 0.16 * folds + 0.05 * patch.noise(0.12)
    light = light + 0.05 * patch.weave(0.026) + 0.02 * patch.noise(0.01) - 0.18 * patch.stroke(0.02, *outline)
    light = light + 0.06 * patch.stroke(0.08, *outline)
    return colour * np.clip(light, 0.08, 1.3)[..., None]


_PAINTERS: dict[str, Callable[[_Patch, tuple[np.ndarray, ...], float], Colours]] = {
    "glasses": _sunglasses,
    "face-mask": _surgical_mask,
    "left-cheek": _gauze,
    "right-cheek": _gauze,
    "mouth": _microphone,
}
