"""Axis-angle rotations that stay differentiable at zero."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def rotation_matrix(axis_angle: Float[Array, "3"]) -> Float[Array, "3 3"]:
    """Rodrigues' formula: rotation by ``|axis_angle|`` radians about its direction.

    sin(t)/t and (1 - cos t)/t² are replaced by their Taylor series near zero. Both branches are evaluated on safe
    operands (the "double where"), so first and second derivatives are right at exactly zero.
    """
    dtype = axis_angle.dtype
    squared = jnp.sum(axis_angle**2)
    # Below this the first dropped series term (t^6 / 5040) is under one rounding error.
    small = squared < jnp.asarray(1e-2 if dtype == jnp.float32 else 1e-5, dtype)
    safe = jnp.where(small, jnp.ones_like(squared), squared)
    angle = jnp.sqrt(safe)
    near_a = 1.0 - squared / 6.0 + squared**2 / 120.0
    near_b = 0.5 - squared / 24.0 + squared**2 / 720.0
    a = jnp.where(small, near_a, jnp.sin(angle) / angle)
    b = jnp.where(small, near_b, (1.0 - jnp.cos(angle)) / safe)
    x, y, z = axis_angle[0], axis_angle[1], axis_angle[2]
    zero = jnp.zeros_like(x)
    cross = jnp.stack([jnp.stack([zero, -z, y]), jnp.stack([z, zero, -x]), jnp.stack([-y, x, zero])])
    return jnp.eye(3, dtype=dtype) + a * cross + b * (cross @ cross)
