"""Statistics of scan models on the embedded head's vertices, and the closed form that they are compared by.

Lengths are millimetres here. The folder of statistics (FLAME 2023 Open, CC-BY-4.0; ICT-FaceKit Light, MIT) is the
user's; nothing of it is written anywhere but the few numbers that `calibrate_head.py` prints and stores.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from diverse3d.head.makehuman import HeadMesh
from diverse3d.surface import host_normals, kabsch

NORMAL_MM, TANGENT_MM = 0.3, 2.5
"""Error of a registered face along its normal, and along the surface, where correspondence slides."""
HEAD_NORMAL_MM, HEAD_TANGENT_MM = 2.5, 5.0
"""The same beside the face: hair, caps and posture."""
RIGID_MM = 100.0


class Scans(NamedTuple):
    """One scan model."""

    name: str
    mean: np.ndarray  # [V, 3]
    modes: np.ndarray  # [K, V, 3], one standard deviation each


class Places(NamedTuple):
    """A head with what tells where on it one is."""

    mesh: HeadMesh
    mean: np.ndarray  # [V, 3], the morphs' mean
    covered: np.ndarray  # bool [V], reached by all registrations
    front: np.ndarray  # bool [V], the face among them
    landmarks: np.ndarray  # [68, 3] on the mean
    nose: np.ndarray  # bool [V]


def load_scans(folder: Path, name: str, places: Places) -> Scans:
    """A scan model, aligned rigidly on the face."""
    with np.load(folder / f"{name}_on_head.npz") as file:
        mean, modes = file["mean_mm"].astype(np.float64), file["modes_mm"].astype(np.float64)
    turn, shift = kabsch(mean, places.mean, places.front)
    return Scans(name, mean @ turn.T + shift, modes @ turn.T)


def mirrored(values: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    """Shapes [..., V, 3] or fields of them, mirrored in x = 0."""
    return values[..., mirror, :] * [-1.0, 1.0, 1.0]


def observation_noise(normal: np.ndarray, face: np.ndarray) -> np.ndarray:
    """Covariance [3n, 3n] of a registered scan's error at vertices with these normals."""
    count = len(normal)
    along = np.where(face, NORMAL_MM, HEAD_NORMAL_MM) ** 2
    across = np.where(face, TANGENT_MM, HEAD_TANGENT_MM) ** 2
    blocks = np.zeros((count, 3, count, 3))
    outer = normal[:, :, None] * normal[:, None, :]
    blocks[np.arange(count), :, np.arange(count)] = along[:, None, None] * outer + across[:, None, None] * (
        np.eye(3) - outer
    )
    return blocks.reshape(3 * count, 3 * count)


def rigid_covariance(vertices: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Covariance [3n, 3n] of a pose that nothing is known of."""
    x, y, z = ((vertices[index] - vertices[index].mean(axis=0)) / 60.0).T
    one, zero = np.ones_like(x), np.zeros_like(x)
    rows = [[one, zero, zero], [zero, one, zero], [zero, zero, one], [zero, -z, y], [z, zero, -x], [-y, x, zero]]
    motion = np.stack([np.stack(row, axis=1) for row in rows]).reshape(6, -1)
    return RIGID_MM**2 * motion.T @ motion


class Figures(NamedTuple):
    """How well what is hidden was predicted, along the normal."""

    rms_mm: float
    energy_mm: float
    coverage: float  # per cent in the 90 % interval


def hidden_parts(places: Places, index: np.ndarray) -> dict[str, np.ndarray]:
    """The four occluders on the face vertices `index`."""
    at = places.mean[index]
    below, eyes = places.landmarks[33, 1] - 3.0, places.landmarks[36:48, 1].mean()
    return {
        "below the nose": at[:, 1] < below,
        "glasses": (np.abs(at[:, 1] - eyes) < 20.0) & (np.abs(at[:, 0]) < 65.0),
        "left half": at[:, 0] > 3.0,
        "nose": places.nose[index],
    }


def predict(
    places: Places,
    index: np.ndarray,
    mean: np.ndarray,
    covariance: np.ndarray,
    truth: Scans,
    *,
    heads: int = 200,
    draws: int = 48,
    seed: int = 0,
) -> dict[str, Figures]:
    """Samples of a scan model behind the occluders, completed in closed form by a mean [V, 3] and a covariance [3n, 3n]
    of the face vertices `index`."""
    rng = np.random.default_rng(seed)
    normal = host_normals(mean, places.mesh.faces)[index]
    prior = covariance + rigid_covariance(mean, index)
    noisy = prior + observation_noise(normal, np.ones(len(index), bool))
    weights = rng.standard_normal((heads, len(truth.modes)))
    turn, shift = kabsch(truth.mean, mean, places.front)
    centred = (truth.mean[index] @ turn.T + shift - mean[index]).reshape(-1)
    shapes = centred + weights @ (truth.modes[:, index] @ turn.T).reshape(len(weights.T), -1)
    result = {}
    for name, hidden in hidden_parts(places, index).items():
        seen, gone = (np.flatnonzero(np.repeat(part, 3)) for part in (~hidden, hidden))
        gain = np.linalg.solve(noisy[np.ix_(seen, seen)], prior[np.ix_(seen, gone)]).T
        left = prior[np.ix_(gone, gone)] - gain @ prior[np.ix_(seen, gone)]
        across = np.zeros((hidden.sum(), 3 * hidden.sum()))
        for row, direction in enumerate(normal[hidden]):
            across[row, 3 * row : 3 * row + 3] = direction
        error = (shapes[:, gone] - shapes[:, seen] @ gain.T) @ across.T
        spread = across @ left @ across.T
        factor = np.linalg.cholesky(spread + 1e-6 * np.trace(spread) / len(spread) * np.eye(len(spread)))
        first, second = rng.standard_normal((2, heads, draws, len(spread))) @ factor.T
        distance = np.sqrt(((first - error[:, None]) ** 2).mean(axis=2)).mean(axis=1)
        apart = np.sqrt(((first - second) ** 2).mean(axis=2)).mean(axis=1)
        within = np.abs(error) < 1.645 * np.sqrt(np.diag(spread).clip(1e-12))
        result[name] = Figures(
            float(np.sqrt((error**2).mean())), float((distance - apart / 2).mean()), 100.0 * float(within.mean())
        )
    return result
