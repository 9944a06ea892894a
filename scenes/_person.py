"""A person's skin: what a fitted head model doesn't know of (texture, brows, beard, make-up, marks, eyes)."""

import functools
import itertools
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Float32
from scipy.ndimage import distance_transform_edt, gaussian_filter

from diverse3d.head import HeadModel
from diverse3d.observe import inside_outline
from diverse3d.surface import linear_from_srgb

from ._hair import HAIRLINE_SPREAD_M, above_hairline
from ._noise import Noise

_IRISES = ((0.050, 0.024, 0.010), (0.032, 0.016, 0.008), (0.085, 0.047, 0.018), (0.075, 0.105, 0.135),
           (0.095, 0.115, 0.060), (0.025, 0.013, 0.008))  # fmt: skip
_HAIRS = ((0.006, 0.005, 0.005), (0.014, 0.008, 0.005), (0.035, 0.018, 0.009), (0.075, 0.04, 0.018),
          (0.2, 0.125, 0.055), (0.3, 0.22, 0.12), (0.09, 0.026, 0.009), (0.25, 0.25, 0.25))  # fmt: skip
_MELANIN_SLOPE = np.array([-0.36, -0.52, -0.68])  # log reflectance a unit of melanin, red to blue


class Person(NamedTuple):
    """How one person looks; lengths are metres on the template."""

    melanin: float
    reflectance: Float32[np.ndarray, "V 3"]
    """Linear, a vertex."""
    skin: Float32[np.ndarray, " 3"]
    """Mean of the face's."""
    oily: float
    iris: np.ndarray
    hair: np.ndarray
    hairline: float
    """Metres above the usual; infinite on the bald."""
    beard: float
    """0 none, 0.5 stubble, 1 full."""
    brow: float
    lipstick: float
    shadow: float
    blush: float
    make_up: Float[np.ndarray, "3 3"]
    """Multiplied colours of lips, lids, cheeks."""
    freckles: float
    moles: Float[np.ndarray, "k 3"]
    texture: float


def draw_person(head: HeadModel, rng: np.random.Generator) -> Person:
    """A person of any skin tone, evenly."""
    melanin = float(rng.uniform(-2.0, 2.3))
    reflectance = _reflectance(head, melanin, rng)
    face = np.asarray(head.regions["face"]) if "face" in head.regions else np.arange(head.n_vertices)
    made_up, bearded = rng.uniform() < 0.3, rng.uniform()
    strength = np.where(rng.uniform(size=3) < 0.75, rng.uniform(0.2, 0.9, 3), 0.0) * made_up
    dark = 1 / (1 + np.exp(-2.0 * (melanin - 0.2)))  # dark skin goes with dark hair and eyes, mostly
    likely = np.array([2, 2, 1.5, 1, 1, 0.7, 0.5, 0.7]) * np.where(np.arange(8) < 2, 1.0, 1 - 0.9 * dark)
    hair = np.array(_HAIRS[rng.choice(8, p=likely / likely.sum())]) * np.exp(rng.normal(0, 0.2))
    iris = np.array([1, 1, 1, 1, 1, 1]) * np.where([1, 1, 0, 0, 0, 1], 1.0, 1 - 0.95 * dark)
    moles = np.asarray(head.template_m)[rng.choice(face, rng.integers(0, 7))]
    return Person(
        melanin=melanin,
        reflectance=reflectance,
        skin=reflectance[face].mean(0),
        oily=float(rng.uniform(0.2, 1.0)),
        iris=np.array(_IRISES[rng.choice(6, p=iris / iris.sum())]),
        hair=hair,
        hairline=float(rng.uniform(*HAIRLINE_SPREAD_M)) if rng.uniform() < 0.88 else float("inf"),
        beard=0.0 if made_up or bearded < 0.55 else float(rng.uniform(0.15, 0.6) if bearded < 0.85 else 1.0),
        brow=float(rng.uniform(0.35, 0.9)),
        lipstick=float(strength[0]),
        shadow=float(strength[1]) * 0.7,
        blush=float(strength[2]) * 0.6,
        make_up=np.stack([
            np.array([0.75, 0.25, 0.3]) * rng.uniform(0.6, 1.2, 3),
            rng.uniform(0.3, 0.9, 3),
            np.array([1.0, 0.6, 0.6]),
        ]),
        freckles=float(max(rng.uniform(-1.5, 1.0), 0.0) * (melanin < 0.5)),
        moles=moles,
        texture=float(rng.uniform(0.5, 1.5)),
    )  # fmt: skip


def _reflectance(head: HeadModel, melanin: float, rng: np.random.Generator) -> Float32[np.ndarray, "V 3"]:
    """Linear reflectance a vertex: the head's own model of it where it has one, else its colours darkened."""
    own = rng.standard_normal(64)
    if head.albedo is not None and head.albedo.logarithmic:
        coefficients = own[: head.albedo.n_components].clip(-2.5, 2.5)
        coefficients[0] = melanin
        reflectance = np.array(head.albedo(jnp.asarray(coefficients, head.albedo.mean.dtype)), np.float32)
        return reflectance.clip(0.002, 0.9)
    colours = np.full((head.n_vertices, 3), 190.0) if head.colours is None else np.asarray(head.colours, np.float64)
    factor = np.ones((head.n_vertices, 3)) * np.exp(_MELANIN_SLOPE * (melanin + 0.4) + 0.06 * own[:3])
    for name in ("left_eyeball", "right_eyeball"):
        if name in head.regions:
            factor[np.asarray(head.regions[name])] = 0.85
    return np.minimum(linear_from_srgb(colours) * factor, 0.9).astype(np.float32)


class _Front:
    """Distances from features on the template's front, as pictures that are looked up."""

    _STEP_M = 0.0003
    _HALF_M = (0.078, 0.13)

    def __init__(self, marks: Float[np.ndarray, "68 3"]) -> None:
        self.shape = tuple(round(2 * half / self._STEP_M) for half in self._HALF_M[::-1])
        lines = {
            "nose": [marks[27:31]],
            "forehead": [marks[19:25] + np.array([0.0, 0.018, 0.0])],
            "brow": [marks[17:22], marks[22:27]],
            "lid": [marks[36:40], marks[42:46]],
            "crease": [marks[pair] + np.array([0.0, 0.007, 0.0]) for pair in (slice(37, 39), slice(43, 45))],
        }
        self._gap = {name: self._distance(paths) for name, paths in lines.items()}
        y, x = np.mgrid[: self.shape[0], : self.shape[1]]
        flat = np.stack([x.ravel(), y.ravel()], 1) * self._STEP_M - np.array(self._HALF_M)
        box = (np.abs(flat[:, 1] + 0.045) < 0.016) & (np.abs(flat[:, 0]) < 0.032)
        lips = np.zeros(len(flat), np.float32)
        lips[box] = inside_outline((marks[48:60, :2],), flat[box])
        self._gap["lips"] = gaussian_filter(lips.reshape(self.shape), 1.5)

    def _distance(self, paths: list[np.ndarray]) -> Float32[np.ndarray, "h w"]:
        empty = np.ones(self.shape, bool)
        for path in paths:
            fine = np.concatenate([np.linspace(a, b, 120) for a, b in itertools.pairwise(path)])
            empty[self.cell(fine)] = False
        return (distance_transform_edt(empty) * self._STEP_M).astype(np.float32)

    def cell(self, place: Float[np.ndarray, "p 3"]) -> tuple[np.ndarray, np.ndarray]:
        """Row and column of places on the template."""
        column = ((place[:, 0] + self._HALF_M[0]) / self._STEP_M).astype(np.int32).clip(0, self.shape[1] - 1)
        row = ((place[:, 1] + self._HALF_M[1]) / self._STEP_M).astype(np.int32).clip(0, self.shape[0] - 1)
        return row, column

    def __getitem__(self, name: str) -> Float32[np.ndarray, "h w"]:
        return self._gap[name]


@functools.lru_cache(maxsize=2)
def _front(marks: bytes) -> _Front:
    return _Front(np.frombuffer(marks, np.float64).reshape(68, 3))


class SkinPaint:
    """Reflectance and gloss as functions of the place on the template, finer than the vertices."""

    def __init__(self, head: HeadModel, person: Person, rng: np.random.Generator) -> None:
        template = np.asarray(head.template_m, np.float64)
        self.person, self.noise = person, Noise(rng)
        marks = template[:0] if head.landmarks68 is None else np.asarray(head.landmarks68(head.template_m), np.float64)
        self.front = _front(marks.tobytes()) if len(marks) == 68 else None
        self.eye_balls = [np.asarray(head.regions[n]) for n in ("left_eyeball", "right_eyeball") if n in head.regions]
        self.eyeball = np.zeros(len(template), np.float32)
        self.pupils = []
        for index in self.eye_balls:
            self.eyeball[index] = 1.0
            self.pupils.append(template[index][template[index][:, 2].argmax()])

    def __call__(
        self, place: Float32[np.ndarray, "p 3"], base: Float32[np.ndarray, "p 3"], eyeball: Float32[np.ndarray, " p"]
    ) -> tuple[Float32[np.ndarray, "p 3"], Float32[np.ndarray, " p"]]:
        """Linear reflectance and gloss at places on the template (metres)."""
        person, noise = self.person, self.noise
        mottle, pores = noise(place, 0.013), noise(place, 0.0011)
        colour = base * np.exp(
            person.texture * (0.035 * mottle + 0.045 * pores + 0.03 * noise(place, 0.003))
        )[:, None]  # fmt: skip
        colour[:, 1:] *= (1 - 0.05 * person.texture * noise(place, 0.02))[:, None]
        gloss = person.oily * (0.35 + 0.12 * mottle + 0.15 * pores).clip(0)
        if self.front is not None:
            ahead = place[:, 2] > -0.01
            colour[ahead], gloss[ahead] = self._features(
                self.front, place[ahead], colour[ahead], gloss[ahead], pores[ahead]
            )
        if np.isfinite(self.person.hairline):
            high = np.flatnonzero((place[:, 1] > 0.04) | (place[:, 2] < 0.01))
            roots = above_hairline(place[high], person.hairline) + 0.003 * noise(place[high], 0.0025)
            share = (0.75 / (1 + np.exp(-(roots - 0.001) / 0.0022)))[:, None].astype(np.float32)
            colour[high] += share * (person.hair.astype(np.float32) - colour[high])
        eye = eyeball > 0.5
        if eye.any():
            colour[eye], gloss[eye] = self._eye(place[eye]), 3.0
        return colour.clip(0.003, 0.92).astype(np.float32), gloss.astype(np.float32)

    def _features(
        self, front: _Front, p: np.ndarray, colour: np.ndarray, gloss: np.ndarray, pores: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        person = self.person
        cell = front.cell(p)

        def near(name: str, size: float) -> np.ndarray:
            """Falls off from 1 with the distance from a line."""
            return np.exp(-(front[name][cell] ** 2) / np.float32(2 * size**2))

        def multiply(weight: np.ndarray, factor: np.ndarray) -> None:
            some = np.flatnonzero(weight > 0.004)
            colour[some] *= 1 + weight[some, None] * (factor[None].astype(np.float32) - 1)

        def towards(weight: np.ndarray, target: np.ndarray) -> None:
            some = np.flatnonzero(weight > 0.004)
            colour[some] += weight[some, None] * (target[None].astype(np.float32) - colour[some])

        gloss *= 0.6 + 0.9 * near("nose", 0.012) + 0.7 * near("forehead", 0.016)
        hairs = 0.5 + 0.5 * np.sin(2200 * np.abs(p[:, 0]) + 1300 * p[:, 1] + 2.5 * pores)
        brow = near("brow", 0.0028)
        towards((person.brow * brow * (0.45 + 0.55 * hairs)).clip(0, 0.95), person.hair * 1.3)
        towards(0.6 * near("lid", 0.0009), np.array([0.01, 0.008, 0.008]))
        if person.shadow:
            multiply(person.shadow * near("crease", 0.006) * (p[:, 1] > 0.022), person.make_up[1])
        if person.blush:
            cheeks = np.exp(-((np.abs(p[:, 0]) - 0.045) ** 2 + (p[:, 1] + 0.012) ** 2) / 2 / 0.014**2)
            multiply(person.blush * cheeks, person.make_up[2])
        lips = front["lips"][cell] * (p[:, 2] > 0.035)
        if person.lipstick:
            multiply(person.lipstick * lips, person.make_up[0])
            gloss += 1.2 * person.lipstick * lips
        if person.freckles:
            spots = ((self.noise(p, 0.0028) - 1.0) * 2).clip(0, 1) * (1 - lips)
            band = np.exp(-((p[:, 1] / 0.03) ** 2))
            multiply(person.freckles * 0.55 * spots * band, np.array([0.62, 0.45, 0.35]))
        for mole in person.moles.astype(np.float32):
            size = 0.0008 + 0.0012 * (abs(mole[0] * 1e5) % 1.0)
            close = np.flatnonzero(np.abs(p - mole).max(1) < 4 * size)
            if len(close):
                spot = np.zeros(len(p), np.float32)
                spot[close] = np.exp(-((p[close] - mole) ** 2).sum(1) / 2 / size**2)
                multiply(spot, np.array([0.3, 0.22, 0.2]))
        if person.beard:
            self._beard(p, lips, pores, towards)
        return colour, gloss

    def _beard(
        self, p: np.ndarray, lips: np.ndarray, pores: np.ndarray, towards: Callable[[np.ndarray, np.ndarray], None]
    ) -> None:
        person = self.person
        x, y = np.abs(p[:, 0]), p[:, 1] + 0.004 * self.noise(p, 0.012)
        upper = np.interp(x, [0, 0.012, 0.03, 0.05, 0.062, 0.075], [-0.027, -0.026, -0.036, -0.03, -0.0, 0.02])
        grown = 1 / (1 + np.exp(-(upper - y) / 0.0025)) * (1 - lips) * (p[:, 2] > -0.03)
        bare = np.exp(-((x / 0.008) ** 2) - ((p[:, 1] + 0.06) / 0.004) ** 2)
        grown = grown * (1 - 0.6 * bare) / (1 + np.exp(-(p[:, 1] + 0.1) / 0.006))
        strands = 0.5 + 0.5 * np.sin(1900 * p[:, 0] + 3 * pores + 900 * p[:, 1])
        amount = person.beard * (0.55 + 0.2 * pores + 0.35 * person.beard * (strands - 0.3))
        towards((grown * amount).clip(0, 0.97), person.hair * 1.2 + 0.05 * (1 - person.beard) * person.skin)

    def _eye(self, place: np.ndarray) -> np.ndarray:
        gap = np.min([np.hypot(*(place - q)[:, :2].T) for q in self.pupils], axis=0)
        streaks = 1 + 0.25 * self.noise(place, 0.0006)
        white = np.array([0.47, 0.41, 0.38]) * (1 - 0.25 * ((gap - 0.008) / 0.006).clip(0, 1))[:, None]
        iris = self.person.iris * (streaks * (1 - 0.5 * ((gap - 0.004) / 0.0015).clip(0, 1)))[:, None]
        colour = white + (1 / (1 + np.exp((gap - 0.0058) / 0.0002)))[:, None] * (iris - white)
        return colour * (1 - 0.97 / (1 + np.exp((gap - 0.0021) / 0.0002)))[:, None]
