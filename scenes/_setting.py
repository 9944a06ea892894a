"""Where the head is turned to, where the camera stands, and the light."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from diverse3d.surface import Perspective, harmonics

from ._buffers import Light, lamp_harmonics

LIMITS_DEG = (45.0, 20.0, 15.0)
"""Largest yaw, pitch and roll."""
_PIVOT_M = np.array([0.0, -0.02, -0.06])


class Pose(NamedTuple):
    """A turn about a point in the neck."""

    yaw_deg: float
    """To the picture's right."""
    pitch_deg: float
    """Downwards."""
    roll_deg: float
    """The top of the head to the picture's left."""

    def __call__(self, points_m: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
        """Points turned."""
        y, p, r = np.radians([self.yaw_deg, self.pitch_deg, self.roll_deg])
        about_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
        about_x = np.array([[1, 0, 0], [0, np.cos(p), -np.sin(p)], [0, np.sin(p), np.cos(p)]])
        about_z = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
        return (points_m - _PIVOT_M) @ (about_z @ about_x @ about_y).T + _PIVOT_M


def draw_pose(rng: np.random.Generator) -> Pose:
    """Any turn within the limits."""
    yaw, pitch, roll = (float(rng.uniform(-limit, limit)) for limit in LIMITS_DEG)
    return Pose(yaw, pitch, roll)


def draw_camera(landmarks_m: Float[np.ndarray, "L 3"], side: int, rng: np.random.Generator) -> Perspective:
    """A camera 0.5 to 2 m away that has the face about in the middle of a square picture."""
    distance = float(np.exp(rng.uniform(np.log(0.5), np.log(2.0))))
    size = float(np.linalg.norm(landmarks_m - landmarks_m.mean(0), axis=1).max())
    nearer = distance / (distance - float(landmarks_m[:, 2].mean()))
    scale = rng.uniform(0.22, 0.36) * side / (size * nearer)
    middle = landmarks_m.mean(0)
    centre = side * (0.5 + rng.uniform(-0.06, 0.06, 2)) - scale * nearer * np.array([middle[0], -middle[1]])
    return Perspective(
        scale_px_per_m=jnp.asarray(scale, jnp.float32),
        centre_px=jnp.asarray(centre, jnp.float32),
        distance_m=jnp.asarray(distance, jnp.float32),
    )


def draw_light(rng: np.random.Generator) -> Light:
    """Soft light from above, a lamp from the camera's side, both coloured a bit."""
    warm = rng.normal(0, 0.08)
    tint = np.exp(np.array([1.0, 0.0, -1.0]) * warm + rng.normal(0, 0.02, 3))
    strength, share = rng.uniform(0.75, 1.35), rng.uniform(0.15, 0.75)
    around, up = rng.uniform(-1.35, 1.35), rng.uniform(-0.15, 1.1)
    direction = np.array([np.sin(around) * np.cos(up), np.sin(up), np.cos(around) * np.cos(up)])
    soft = np.zeros((9, 3))
    soft[0] = 1.0
    soft[1:4] = rng.normal(0, 0.25, (3, 1)) + np.array([[0.0], [0.5], [0.35]])
    soft[4:] = rng.normal(0, 0.12, (5, 1))
    soft = soft * np.exp(rng.normal(0, 0.04, (9, 3)))
    soft[0] = 1.6
    # Nowhere below a fifth of the mean: real rooms throw light back.
    values = np.asarray(harmonics(jnp.asarray(_SPHERE, jnp.float32)), np.float64) @ soft
    soft[0] += np.maximum(0.2 * values.mean() - values.min(), 0.0) / 0.282095
    values = np.asarray(harmonics(jnp.asarray(_SPHERE, jnp.float32)), np.float64) @ soft
    soft *= (1 - share) * strength / values.mean()
    lamp = 1.4 * share * strength
    return Light(
        soft=soft * tint[::-1],
        direct=lamp * lamp_harmonics(direction)[:, None] * tint,
        direction=direction,
        colour=lamp * tint,
        spread_m=float(rng.uniform(0.001, 0.009)),
    )


def _directions(count: int) -> Float[np.ndarray, "n 3"]:
    height = 1 - 2 * (np.arange(count) + 0.5) / count
    around = np.pi * (1 + 5**0.5) * np.arange(count)
    ring = np.sqrt(1 - height**2)
    return np.stack([ring * np.cos(around), height, ring * np.sin(around)], 1)


_SPHERE = _directions(256)
