"""A person's skin: what a fitted head model doesn't know of (texture, brows, beard, make-up, marks, eyes)."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32

from ..head import HeadModel
from ..observe import inside_outline
from ._noise import Noise

_IRISES = ((0.050, 0.024, 0.010), (0.032, 0.016, 0.008), (0.085, 0.047, 0.018), (0.075, 0.105, 0.135),
           (0.095, 0.115, 0.060), (0.025, 0.013, 0.008))  # fmt: skip
_HAIRS = ((0.006, 0.005, 0.005), (0.014, 0.008, 0.005), (0.035, 0.018, 0.009), (0.075, 0.04, 0.018),
          (0.2, 0.125, 0.055), (0.3, 0.22, 0.12), (0.09, 0.026, 0.009), (0.25, 0.25, 0.25))  # fmt: skip
_MELANIN_SLOPE = np.array([-0.36, -0.52, -0.68])  # log reflectance a unit of melanin, red to blue


def linear(srgb: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
    """Linear light of sRGB values from 0 to 255."""
    value = np.asarray(srgb, np.float64) / 255.0
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


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
    colours = np.full((head.n_vertices, 3), 190.0) if head.colours is None else np.asarray(head.colours, np.float64)
    tone = np.exp(_MELANIN_SLOPE * (melanin + 0.4) + rng.normal(0, 0.06) + rng.normal(0, 0.05, 3))
    factor = np.ones((head.n_vertices, 3)) * tone
    for name in ("left_eyeball", "right_eyeball"):
        if name in head.regions:
            factor[np.asarray(head.regions[name])] = 0.85
    return np.minimum(linear(colours) * factor, 0.9).astype(np.float32)


class SkinPaint:
    """Reflectance and gloss as functions of the place on the template, finer than the vertices."""

    def __init__(self, head: HeadModel, person: Person, rng: np.random.Generator) -> None:
        template = np.asarray(head.template_m, np.float64)
        self.person, self.noise = person, Noise(rng)
        marks = template[:0] if head.landmarks68 is None else np.asarray(head.landmarks68(head.template_m), np.float64)
        self.marks = marks
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
        if len(self.marks) == 68:
            front = place[:, 2] > -0.01
            colour[front], gloss[front] = self._features(place[front], colour[front], gloss[front], pores[front])
        eye = eyeball > 0.5
        if eye.any():
            colour[eye], gloss[eye] = self._eye(place[eye]), 3.0
        return colour.clip(0.003, 0.92).astype(np.float32), gloss.astype(np.float32)

    def _features(self, p: np.ndarray, colour: np.ndarray, gloss: np.ndarray, pores: np.ndarray) -> tuple:
        person, marks = self.person, self.marks
        flat = p[:, :2].astype(np.float64)
        colour, gloss = colour.copy(), gloss.copy()

        def near(points: np.ndarray, size: float) -> np.ndarray:
            """Falls off from 1 with the distance from a line through points (in the front's plane)."""
            fine = np.concatenate([np.linspace(a, b, 6) for a, b in zip(points[:-1], points[1:], strict=True)])
            gap = np.full(len(flat), 1e9)
            for q in fine[:, :2]:
                gap = np.minimum(gap, ((flat - q) ** 2).sum(1))
            return np.exp(-gap / (2 * size**2))

        def multiply(weight: np.ndarray, factor: np.ndarray) -> None:
            colour[:] *= 1 + weight[:, None] * (factor[None] - 1)

        def towards(weight: np.ndarray, target: np.ndarray) -> None:
            colour[:] += weight[:, None] * (target[None] - colour)

        # T zone.
        gloss *= 0.6 + 0.9 * near(marks[27:31], 0.012) + 0.7 * near(marks[19:25], 0.02) * (flat[:, 1] > 0.045)
        hairs = 0.5 + 0.5 * np.sin(2200 * flat[:, 0] * np.sign(flat[:, 0]) + 1300 * flat[:, 1] + 2.5 * pores)
        box = (np.abs(flat[:, 1] - 0.043) < 0.02) & (p[:, 2] > 0.005)
        brow = np.zeros(len(flat))
        where = np.flatnonzero(box)
        flat_all, flat = flat, flat[where]
        for brows in (marks[17:22], marks[22:27]):
            brow[where] = np.maximum(brow[where], near(brows - [0, 0.001, 0], 0.0028))
        lash = np.zeros(len(flat_all))
        for lid in (marks[36:40], marks[42:46]):
            lash[where] = np.maximum(lash[where], near(lid, 0.0009))
        flat = flat_all
        towards((person.brow * brow * (0.45 + 0.55 * hairs)).clip(0, 0.95), person.hair * 1.3)
        towards(0.6 * lash, np.array([0.01, 0.008, 0.008]))
        if person.shadow:
            lids = np.maximum(near(marks[37:39] + [0, 0.007, 0], 0.007), near(marks[43:45] + [0, 0.007, 0], 0.007))
            multiply(person.shadow * lids * (flat[:, 1] > 0.022), person.make_up[1])
        if person.blush:
            cheeks = sum(np.exp(-((flat - [s * 0.045, -0.012]) ** 2).sum(1) / 2 / 0.014**2) for s in (-1, 1))
            multiply(person.blush * cheeks, person.make_up[2])
        mouth = (np.abs(flat[:, 1] + 0.045) < 0.016) & (np.abs(flat[:, 0]) < 0.032) & (p[:, 2] > 0.035)
        lips = np.zeros(len(flat))
        lips[mouth] = inside_outline((marks[48:60, :2],), flat[mouth])
        if person.lipstick:
            multiply(person.lipstick * lips, person.make_up[0])
            gloss += 1.2 * person.lipstick * lips
        if person.freckles:
            spots = ((self.noise(p, 0.0028) - 1.0) * 2).clip(0, 1) * (1 - lips)
            band = np.exp(-(((flat[:, 1] - 0.0) / 0.03) ** 2))
            multiply(person.freckles * 0.55 * spots * band, np.array([0.62, 0.45, 0.35]))
        for mole in person.moles:
            size = 0.0008 + 0.0012 * (abs(mole[0] * 1e5) % 1.0)
            multiply(np.exp(-((p - mole) ** 2).sum(1) / 2 / size**2), np.array([0.3, 0.22, 0.2]))
        if person.beard:
            self._beard(p, flat, lips, pores, towards)
        return colour, gloss

    def _beard(self, p: np.ndarray, flat: np.ndarray, lips: np.ndarray, pores: np.ndarray, towards) -> None:
        person = self.person
        x, y = np.abs(flat[:, 0]), flat[:, 1] + 0.004 * self.noise(p, 0.012)
        upper = np.interp(x, [0, 0.012, 0.03, 0.05, 0.062, 0.075], [-0.027, -0.026, -0.036, -0.03, -0.0, 0.02])
        grown = 1 / (1 + np.exp(-(upper - y) / 0.0025)) * (1 - lips) * (p[:, 2] > -0.03)
        bare = np.exp(-((x / 0.008) ** 2) - ((flat[:, 1] + 0.06) / 0.004) ** 2)
        grown = grown * (1 - 0.6 * bare) / (1 + np.exp(-(flat[:, 1] + 0.1) / 0.006))
        strands = 0.5 + 0.5 * np.sin(1900 * flat[:, 0] + 3 * pores + 900 * flat[:, 1])
        amount = person.beard * (0.55 + 0.2 * pores + 0.35 * person.beard * (strands - 0.3))
        towards((grown * amount).clip(0, 0.97), person.hair * 1.2 + 0.05 * (1 - person.beard) * person.skin)

    def _eye(self, place: np.ndarray) -> np.ndarray:
        pupil = min(self.pupils, key=lambda q: abs(q[0] - place[:, 0].mean()))
        gap = np.min([np.hypot(*(place - q)[:, :2].T) for q in self.pupils], axis=0)
        del pupil
        streaks = 1 + 0.25 * self.noise(place, 0.0006)
        white = np.array([0.62, 0.56, 0.52]) * (1 - 0.25 * ((gap - 0.008) / 0.006).clip(0, 1))[:, None]
        iris = self.person.iris * (streaks * (1 - 0.5 * ((gap - 0.004) / 0.0015).clip(0, 1)))[:, None]
        colour = white + (1 / (1 + np.exp((gap - 0.0058) / 0.0002)))[:, None] * (iris - white)
        return colour * (1 - 0.97 / (1 + np.exp((gap - 0.0021) / 0.0002)))[:, None]
