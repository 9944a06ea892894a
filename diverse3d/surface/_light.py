"""Lambertian light as nine spherical harmonics (Ramamoorthi and Hanrahan 2001; Zhao and Qi 2021, equation 11)."""

from typing import TypeVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

_A = TypeVar("_A", Array, np.ndarray)
"""Arrays of the device, or of the host."""

HARMONIC_FACTORS = (0.282095, *[0.488603 * 2 / 3] * 3, *[1.092548 / 4] * 3, 0.315392 / 4, 0.546274 / 4)
"""Real spherical harmonics up to degree two, times the Lambertian kernel's factor a degree (π, 2π/3, π/4), over π."""

STUDIO_LIGHT = np.array([2.35, 0.28, 0.95, 0.75, 0.1, 0.25, 0.1, -0.1, 0.1])
"""A soft light from above and in front, for pictures: one coefficient a harmonic."""


def harmonics(normals: Float[_A, "*n 3"]) -> Float[_A, "*n 9"]:
    """The nine irradiance harmonics at unit normals, in the order 1, x, y, z, xy, yz, xz, 3z²-1, x²-y²."""
    xp = np if isinstance(normals, np.ndarray) else jnp
    x, y, z = normals[..., 0], normals[..., 1], normals[..., 2]
    terms = [xp.ones_like(x), x, y, z, x * y, y * z, x * z, 3 * z**2 - 1, x**2 - y**2]
    return xp.stack([factor * term for factor, term in zip(HARMONIC_FACTORS, terms, strict=True)], axis=-1)


def shade(albedo: Float[_A, "*n 3"], normals: Float[_A, "*n 3"], coefficients: Float[_A, "9 3"]) -> Float[_A, "*n 3"]:
    """Linear colour of a matt surface: albedo × (harmonics · coefficients), one set of coefficients a channel."""
    return albedo * (harmonics(normals) @ coefficients)
