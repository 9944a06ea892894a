"""The embedded head's albedo: a model of skin colour made of pigments and of where they lie.

By the Beer–Lambert law the logarithm of reflectance falls in proportion to the amount of each pigment. Tsumura et al.
(JOSA A 16, 1999; ACM TOG 22, 2003) find that two pigments, melanin and haemoglobin, explain most of a face's colours
in that space, so a component here is one pigment's absorbance (red, green, blue) times a field over the surface.

Absorbances, relative to green. Melanin: Jacques's power law for skin, λ^-3.48 (Oregon Medical Laser Center, 1998), at
the middles of sRGB's bands, 610, 545 and 465 nm, gives 0.68, 1, 1.74; haemoglobin: Prahl's table for oxygenated blood
there (same place, 1999) gives some 0.03, 1, 0.7. A camera's bands are broad, and light that a pigment absorbs strongly
comes mostly from above it: what is strongly absorbed counts less, what hardly is counts more. So melanin's blue is
taken smaller, such that one line leads from the palest skin to the darkest, as on Fitzpatrick's scale from I to VI, and
haemoglobin's red larger. The amounts (standard deviations) and the fields are our own estimates; no scans of people
went into them, and the palette is that of the head's own vertex colours.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...files import write_safetensors
from ...surface import linear_from_srgb
from .. import _palette as palette
from .._file import _read, head_from_arrays
from .._model import HeadModel
from ._colours import brow, cheek

MELANIN = (0.69, 1.0, 1.12)
BLOOD = (0.25, 1.0, 0.75)
PALE_MELANIN = (-0.5, 0.0, 1.0)  # the yellow to red kind, against as much of the black kind
HAIR = (0.92, 1.0, 1.04)
STUBBLE = (1.0, 1.0, 0.9)  # hair seen through skin is bluish
VEINS = (0.8, 1.0, 0.85)

# sRGB of what is not as in the palette, whose skin is pale: means are between what people have.
_SKIN, _BROW, _IRIS = (154, 109, 89), (54, 40, 33), (98, 76, 56)


class Areas(NamedTuple):
    """How much each vertex belongs to what, float64 [V] from 0 to 1; all are mirror-symmetric."""

    skin: np.ndarray  # all but eyeballs, mouth and brows; lips in part
    lips: np.ndarray
    mouth: np.ndarray
    brows: np.ndarray
    sclera: np.ndarray
    iris: np.ndarray
    cheeks: np.ndarray
    nose: np.ndarray
    beard: np.ndarray
    sockets: np.ndarray
    scalp: np.ndarray


def build_albedo(head_file: Path, out: Path) -> dict[str, tuple[float, ...]]:
    """Write the albedo file of the embedded head; returns what each component adds where its field is largest.

    Raises `InputError` when the head file is missing or damaged.
    """
    arrays, _, digest = _read(head_file)  # not `load_head`, which wants the very file that is made here
    head = head_from_arrays(arrays, sha256=digest)
    areas = find_areas(head)
    table = _table(np.asarray(head.template_m, np.float64), areas)
    field = np.stack([field for _, field in table.values()])
    peak = np.abs(field).max(axis=1)
    tensors = {
        "mean": _mean(head, areas).astype(np.float16),
        # Fields have peaks of one; whatever is in the fourth digit of a colour is none of a model's.
        "field": (field / peak[:, None]).astype(np.float16),
        "pigment": (np.array([pigment for pigment, _ in table.values()]) * peak[:, None]).astype(np.float32),
    }
    metadata = {
        "name": "diverse3d albedo of the embedded head",
        "licence": "CC0-1.0",
        "source": "absorption of melanin and haemoglobin (Jacques 1998; Prahl 1999), the head's template and colours",
        "provenance": "tools/build_albedo.py",
        "head_sha256": head.sha256,
        "components": json.dumps(list(table)),
    }
    write_safetensors(out, tensors, metadata)
    return {name: tuple(row.tolist()) for name, row in zip(table, tensors["pigment"], strict=True)}


def find_areas(head: HeadModel) -> Areas:
    """Where lips, brows and the rest are, from the template, its landmarks, regions and vertex colours."""
    assert head.landmarks68 is not None and head.colours is not None
    template, colours = np.asarray(head.template_m, np.float64), np.asarray(head.colours, np.float64)
    corners, weights = np.asarray(head.landmarks68.corners), np.asarray(head.landmarks68.barycentric, np.float64)
    marks = (template[corners] * weights[:, :, None]).sum(axis=1)
    side, y, z = np.abs(template[:, 0]), template[:, 1], template[:, 2]

    left = np.asarray(head.regions["left_eyeball"])
    eyes = np.concatenate([left, np.asarray(head.regions["right_eyeball"])])
    skin, sclera, iris = np.ones(len(template)), np.zeros(len(template)), np.zeros(len(template))
    skin[eyes] = 0.0
    iris[eyes] = _near(colours[eyes], palette.IRIS) + _near(colours[eyes], palette.LIMBUS)
    sclera[eyes] = _near(colours[eyes], palette.SCLERA)

    around_mouth = (side < 0.034) & (y > marks[57, 1] - 0.016) & (y < marks[33, 1] - 0.004) & (skin > 0)
    centre = template[left].mean(axis=0)
    cheeks = cheek(template, centre)[:, None]
    base = np.array(palette.SKIN) + cheeks * (np.array(palette.CHEEK) - np.array(palette.SKIN, np.float64))
    lips, mouth = _shares(colours, base, (palette.LIPS, palette.MOUTH))
    brows = brow(template, centre)
    brow_y, eye_y, nose_y, mouth_y, chin_y = (
        marks[rows, 1].mean() for rows in ([19, 24], [36, 39, 42, 45], [33], [48, 54], [8])
    )
    front = _step(z, 0.0, 0.02) * skin
    eye_x = np.abs(marks[[36, 39, 42, 45], 0]).mean()
    lips, mouth, brows = lips * around_mouth, mouth * (skin > 0), brows * (skin > 0)
    outside = skin * (1 - mouth) * (1 - brows)
    hairline = brow_y + 0.042
    return Areas(
        skin=outside * (1 - 0.40 * lips),
        lips=lips,
        mouth=mouth,
        brows=brows,
        sclera=sclera,
        iris=iris,
        cheeks=_bump(side - 0.040, 0.017) * _bump(y - (nose_y + 0.004), 0.018) * front * outside,
        nose=_bump(side, 0.013) * _bump(y - (nose_y + 0.010), 0.013) * _step(z, 0.045, 0.058) * outside,
        # The upper lip, the chin and the jaw down to the throat, thinner under the lower lip's corners.
        beard=_step(nose_y - 0.001 - y - 0.75 * np.clip(0.055 - z, 0, 0.04) * (side > 0.01), 0.0, 0.008)
        * _step(y, chin_y - 0.035, chin_y - 0.005)
        * _step(z, -0.035, -0.010)
        * (1 - lips)
        * outside,
        sockets=_bump(side - eye_x, 0.018) * _bump(y - (eye_y - 0.008), 0.013) * front * outside,
        scalp=np.maximum(
            _step(y - hairline + 0.9 * np.clip(0.02 - z, 0, 0.09), 0.0, 0.022) * _step(y, mouth_y, eye_y),
            _step(-z, 0.07, 0.09) * _step(y, mouth_y - 0.01, mouth_y + 0.02),
        )
        * _not_ears(head)
        * outside,
    )


def _table(template: np.ndarray, areas: Areas) -> Mapping[str, tuple[tuple[float, ...], np.ndarray]]:
    """Every component's absorbance and field: one standard deviation of ln reflectance is minus their product."""
    melanin = areas.skin + 0.6 * areas.brows + 0.25 * areas.iris + 0.15 * areas.mouth
    blood = areas.skin + 0.6 * areas.lips + 0.3 * areas.mouth
    x, y, z = template.T
    # Waves over the surface (metres); in x they are even, so that faces stay symmetric but for the two named so.
    waves = [
        np.sin(2 * np.pi * (y - 0.01) / 0.24),
        np.cos(2 * np.pi * x / 0.20) * np.cos(2 * np.pi * (y - 0.01) / 0.26),
        np.sin(2 * np.pi * (z - 0.02) / 0.22),
        np.cos(2 * np.pi * x / 0.11) * np.sin(2 * np.pi * (y - 0.03) / 0.15),
    ]
    side = np.tanh(x / 0.03)
    parts = {
        "melanin": (MELANIN, 0.64 * melanin),
        "blood": (BLOOD, 0.07 * blood),
        "undertone": (PALE_MELANIN, 0.05 * (areas.skin + 0.5 * areas.brows)),
        "cheeks": (BLOOD, 0.16 * areas.cheeks),
        "nose": (BLOOD, 0.14 * areas.nose),
        "lips, blood": (BLOOD, 0.20 * areas.lips),
        "lips, melanin": (MELANIN, 0.16 * areas.lips),
        "brows": (HAIR, 0.50 * areas.brows),
        "brows, red": (PALE_MELANIN, 0.16 * areas.brows),
        "beard": (STUBBLE, 0.13 * areas.beard),
        "sockets": (VEINS, 0.11 * areas.sockets),
        "scalp": (HAIR, 0.14 * areas.scalp),
        "iris": ((0.15, 0.45, 0.75), areas.iris),
        "iris, blue": ((0.10, -0.12, -0.45), areas.iris),
        "sclera": ((0.01, 0.025, 0.07), areas.sclera),
        "asymmetry, melanin": (MELANIN, 0.03 * areas.skin * side),
        "asymmetry, blood": (BLOOD, 0.04 * areas.skin * side),
    }
    for number, (wave, amount) in enumerate(zip(waves, (0.06, 0.05, 0.06, 0.04), strict=True), start=1):
        parts[f"melanin, wave {number}"] = (MELANIN, amount * _varying(wave, areas.skin))
    for number, (wave, amount) in enumerate(zip(waves[:3], (0.05, 0.05, 0.04), strict=True), start=1):
        parts[f"blood, wave {number}"] = (BLOOD, amount * _varying(wave, areas.skin))
    return {name: (tuple(-a for a in pigment), field) for name, (pigment, field) in parts.items()}


def _mean(head: HeadModel, areas: Areas) -> np.ndarray:
    """ln reflectance of the mean, [V, 3]: the palette, its pale skin, brows and irises moved to the middle."""
    mean = np.log(linear_from_srgb(np.asarray(head.colours)))
    for share, old, new in (
        (areas.skin, palette.SKIN, _SKIN),
        (areas.brows, palette.BROW, _BROW),
        (areas.iris, palette.IRIS, _IRIS),
    ):
        to, was = (np.log(linear_from_srgb(np.array(colour, np.float64))) for colour in (new, old))
        mean += share[:, None] * (to - was)
    return mean


def _varying(wave: np.ndarray, skin: np.ndarray) -> np.ndarray:
    """The wave without its mean over the skin, which is another component, at unit mean square."""
    wave = wave - (wave * skin).sum() / skin.sum()
    return skin * wave / np.sqrt((skin * wave**2).sum() / skin.sum())


def _near(colours: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return (np.abs(colours - np.array(colour)).max(axis=1) < 2).astype(np.float64)


def _shares(colours: np.ndarray, base: np.ndarray, of: tuple[tuple[int, int, int], ...]) -> list[np.ndarray]:
    """Shares [V] of some colours where they are painted over `base` [V, 3]."""
    towards = np.moveaxis(np.array(of)[:, None, :] - base, 0, 2)
    mixture = np.einsum("vkc,vc->kv", np.linalg.pinv(towards), colours - base)
    return list(np.clip(np.where(mixture < 0.02, 0.0, mixture), 0.0, 1.0))


def _not_ears(head: HeadModel) -> np.ndarray:
    flags = np.ones(head.n_vertices)
    for name in ("left_ear", "right_ear"):
        flags[np.asarray(head.regions[name])] = 0.0
    return flags


def _bump(distance: np.ndarray, width: float) -> np.ndarray:
    return np.exp(-((distance / width) ** 2))


def _step(value: np.ndarray, low: float, high: float) -> np.ndarray:
    """From 0 at `low` to 1 at `high`, smoothly."""
    share = np.clip((value - low) / (high - low), 0, 1)
    return share * share * (3 - 2 * share)
