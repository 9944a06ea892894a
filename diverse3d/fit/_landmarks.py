"""How wrong detected landmarks are: together, not each for itself.

In inter-ocular distances, in the frame of the levelled face, the errors of a photo's points are Gaussian with
covariance C = S (diag(σ²) + U Uᵀ) S: σ each point's own, U patterns that many points share (a person's own face, the
view, the network's habits), S more for points that are turned away from the camera or lie beside something that hides.
Errors that are shared don't average away over points. Learnt on rendered photos by `tools/learn_landmarks.py`.
"""

import functools
from pathlib import Path
from typing import Literal, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .._arrays import on_device
from ..files import read_safetensors

LEARNT_LANDMARKS = Path(__file__).parents[1] / "assets" / "landmark-noise.safetensors"

_COUNT = 468
"""Mediapipe's points of a face."""

LandmarkNoiseName = Literal["learnt", "independent"]

_FACING = (0.8, 0.2)
"""Cosines between a point's normal and the view: from the first on it counts as seen straight, under the second as not
seen at all."""
_BESIDE, _RINGS, _DIRECTIONS = 0.25, 5, 12
"""Inter-ocular distances from hidden pixels within which a point is doubted too; on how many rings, in how many
directions these are looked for."""


class LandmarkNoise(NamedTuple):
    """The learnt numbers."""

    sigma: Float[np.ndarray, "468"]
    """Each point's own error, a coordinate; infinite where none was learnt."""
    patterns: Float[np.ndarray, "r 468 2"]
    """What points share, a standard deviation each."""
    turned: float
    """Factor on the errors of points that can't be seen; between it and 1 by how a point faces the camera."""
    beside: float
    """Factor on the errors of points right beside hidden ones, growing from 1 at `_BESIDE`."""


class Whitening(eqx.Module):
    """A linear map of landmark errors under which they are independent of unit variance: rows root · e, then along each
    axis so much less."""

    turn: Float[Array, "2 2"]
    """From the picture to the levelled face."""
    root: Float[Array, " L"]
    """One over each point's own error; zero where hidden."""
    axes: Float[Array, "r L 2"]
    """Orthonormal patterns, in units of each point's own error."""
    less: Float[Array, " r"]
    """Factor less one along each."""

    def __call__(self, errors: Float[Array, "L 2"]) -> Float[Array, "L 2"]:
        """Errors in inter-ocular distances → independent ones."""
        own = self.root[:, None] * (errors @ self.turn.T)
        along = jnp.einsum("rlx,lx->r", self.axes, own)
        return own + jnp.einsum("r,rlx->lx", self.less * along, self.axes)


@functools.cache
def load_landmark_noise() -> LandmarkNoise:
    """The learnt noise; raises `InputError` where its file is damaged."""
    stored = {name: np.asarray(array) for name, array in read_safetensors(LEARNT_LANDMARKS).arrays.items()}
    points, scale, factors = stored["points"], stored["scale"].astype(np.float64), stored["factors"]
    sigma, patterns = np.full(_COUNT, np.inf), np.zeros((len(scale), _COUNT, 2))
    sigma[points] = stored["sigma"]
    patterns[:, points] = stored["patterns"] * scale[:, None, None]
    return LandmarkNoise(sigma, patterns, turned=float(factors[0]), beside=float(factors[1]))


def landmark_noise_arrays(noise: LandmarkNoise) -> dict[str, np.ndarray]:
    """The arrays of the file."""
    points = np.flatnonzero(np.isfinite(noise.sigma))
    scale = np.abs(noise.patterns).max(axis=(1, 2))
    return {
        "points": points.astype(np.int32),
        "sigma": noise.sigma[points].astype(np.float32),
        "patterns": (noise.patterns[:, points] / scale[:, None, None]).astype(np.float16),
        "scale": scale.astype(np.float32),
        "factors": np.array([noise.turned, noise.beside], np.float32),
    }


def doubts(
    noise: LandmarkNoise,
    points_px: Float[np.ndarray, "L 2"],
    hidden: Bool[np.ndarray, "H W"],
    facing: Float[np.ndarray, " L"],
    interocular_px: float,
) -> Float[np.ndarray, " L"]:
    """S: how many times as wrong as usual each point is, by how it faces the camera and how near hidden pixels are."""
    near = nearness(points_px, hidden, interocular_px)
    return turned_away(noise.turned, facing) * (1.0 + (noise.beside - 1.0) * near)


def turned_away(turned: float, facing: Float[np.ndarray, " L"]) -> Float[np.ndarray, " L"]:
    """From 1 where a point faces the camera to `turned` where it can't be seen."""
    straight, gone = _FACING
    return 1.0 + (turned - 1.0) * np.clip((straight - facing) / (straight - gone), 0.0, 1.0)


def nearness(
    points_px: Float[np.ndarray, "L 2"], hidden: Bool[np.ndarray, "H W"], interocular_px: float
) -> Float[np.ndarray, " L"]:
    """1 where hidden pixels are right beside a point, falling to 0 at `_BESIDE` inter-ocular distances; looked up on
    rings about it. The picture ends where it is hidden."""
    height, width = hidden.shape
    angle = np.linspace(0.0, 2.0 * np.pi, _DIRECTIONS, endpoint=False)
    rim = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    near = np.zeros(len(points_px))
    for ring in range(_RINGS, 0, -1):
        radius = ring / _RINGS * _BESIDE * interocular_px
        x, y = np.floor(points_px[:, None] + radius * rim).astype(int).transpose(2, 0, 1)
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        met = (~inside | hidden[y.clip(0, height - 1), x.clip(0, width - 1)]).any(axis=1)
        near[met] = 1.0 - (ring - 1) / _RINGS
    return near


def whitening(
    noise: LandmarkNoise,
    index: Int[np.ndarray, " L"],
    doubt: Float[np.ndarray, " L"],
    visible: Bool[np.ndarray, " L"],
    roll: float,
    dtype: jnp.dtype,
) -> Whitening:
    """The map for some of mediapipe's points, of which `visible` count; `roll` (radians) turns the picture level.

    With A = Σ^-1 U the covariance in units of each point's own error is I + A Aᵀ, whose inverse root is I plus a factor
    along the left singular vectors of A.
    """
    root = np.where(visible, 1.0 / (noise.sigma[index] * doubt), 0.0)
    # The doubts are on both: a pattern's share of a point grows with its own.
    scaled = noise.patterns[:, index] * (doubt * root)[None, :, None]
    axes, size, _ = np.linalg.svd(scaled.reshape(len(scaled), -1).T, full_matrices=False)
    cos, sin = np.cos(roll), np.sin(roll)
    return Whitening(
        turn=on_device(np.array([[cos, -sin], [sin, cos]]), dtype),
        root=on_device(root, dtype),
        axes=on_device(axes.T.reshape(-1, len(index), 2), dtype),
        less=on_device(1.0 / np.sqrt(1.0 + size**2) - 1.0, dtype),
    )


def equal_trust(weight: Float[np.ndarray, " L"], total: float, dtype: jnp.dtype) -> Whitening:
    """The published way: every point counts alike and for itself, all together as `total` in units of the prior."""
    count = len(weight)
    return Whitening(
        turn=on_device(np.eye(2), dtype),
        root=on_device(np.sqrt(total / count * weight), dtype),
        axes=on_device(np.zeros((0, count, 2)), dtype),
        less=on_device(np.zeros(0), dtype),
    )
