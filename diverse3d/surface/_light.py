"""Lambertian light as nine spherical harmonics (papers/004 §2.1; papers/001 eq. 11)."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# Real spherical harmonics up to degree two, times the Lambertian kernel's factor a degree (π, 2π/3, π/4), over π.
_FACTORS = (0.282095, *[0.488603 * 2 / 3] * 3, *[1.092548 / 4] * 3, 0.315392 / 4, 0.546274 / 4)

STUDIO_LIGHT = np.array([2.35, 0.28, 0.95, 0.75, 0.1, 0.25, 0.1, -0.1, 0.1])
"""A soft light from above and in front, for pictures: one coefficient a harmonic."""


def harmonics(normals: Float[Array, "*n 3"]) -> Float[Array, "*n 9"]:
    """The nine irradiance harmonics at unit normals, in the order 1, x, y, z, xy, yz, xz, 3z²-1, x²-y²."""
    x, y, z = normals[..., 0], normals[..., 1], normals[..., 2]
    terms = [jnp.ones_like(x), x, y, z, x * y, y * z, x * z, 3 * z**2 - 1, x**2 - y**2]
    return jnp.stack([factor * term for factor, term in zip(_FACTORS, terms, strict=True)], axis=-1)


def shade(
    albedo: Float[Array, "*n 3"], normals: Float[Array, "*n 3"], coefficients: Float[Array, "9 3"]
) -> Float[Array, "*n 3"]:
    """Linear colour of a matt surface: albedo × (harmonics · coefficients), one set of coefficients a channel."""
    return albedo * (harmonics(normals) @ coefficients)
