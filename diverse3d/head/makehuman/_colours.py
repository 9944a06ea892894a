"""A plausible colour for each vertex, for pictures, and so that face detectors believe them."""

import numpy as np

from .._palette import BROW, CHEEK, IRIS, LID, LIMBUS, LIPS, MOUTH, PUPIL, SCALP, SCLERA, SKIN
from ._mesh import HeadMesh
from ._source import Source


def build_colours(source: Source, mesh: HeadMesh, template: np.ndarray) -> np.ndarray:
    """sRGB colours, uint8 [V, 3]."""
    colours = np.tile(np.array(SKIN, np.float64), (len(template), 1))
    centre = template[mesh.left_eye].mean(axis=0)
    _paint(colours, cheek(template, centre), CHEEK)
    _paint(colours, 0.8 * np.clip((template[:, 1] - centre[1] - 0.065) / 0.02, 0, 1), SCALP)
    _paint(colours, brow(template, centre), BROW)
    for name, colour in (("eyelids", LID), ("lips", LIPS), ("inside-mouth", MOUTH)):
        painted = mesh.cut(source.mask(name))
        _paint(colours, np.maximum(painted, painted[mesh.mirror]), colour)
    for eye in (mesh.left_eye, mesh.right_eye):
        colours[eye] = _eye_colours(mesh.vertices_dm[eye])
    return np.clip(colours + 0.5, 0, 255).astype(np.uint8)


def _paint(colours: np.ndarray, amount: np.ndarray, colour: tuple[int, int, int]) -> None:
    colours += np.clip(amount, 0, 1)[:, None] * (np.array(colour) - colours)


def cheek(template: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Round, soft spots below the eyes."""
    x, y, z = template.T
    return 0.6 * np.exp(-(((np.abs(x) - 0.038) / 0.018) ** 2 + ((y - centre[1] + 0.045) / 0.018) ** 2)) * (z > 0)


def brow(template: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Soft strips along the ridge of the brows, rising from the inner end, then falling outwards."""
    aside = np.abs(template[:, 0]) - centre[0]
    middle = centre[1] + 0.0195 - 6.0 * (aside - 0.004) ** 2
    across = np.abs(template[:, 1] - middle) / 0.0040
    along = np.abs(aside - 0.001) / 0.0215
    return np.clip(1.6 - across, 0, 1) * np.clip((1.0 - along) * 8, 0, 1) * (template[:, 2] > 0.0)


def _eye_colours(eye: np.ndarray) -> np.ndarray:
    """Sclera, iris and pupil by the angle from the eyeball's axis: z in the base mesh, in even rings."""
    direction = eye - (eye.max(axis=0) + eye.min(axis=0)) / 2
    angle = np.degrees(np.arccos(direction[:, 2] / np.linalg.norm(direction, axis=1)))
    colours = np.tile(np.array(SCLERA, np.float64), (len(eye), 1))
    colours[angle < 25] = LIMBUS
    colours[angle < 20] = IRIS
    colours[angle < 12] = PUPIL
    return colours
