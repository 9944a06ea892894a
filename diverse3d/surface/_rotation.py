"""Rotations: by axis and angle, differentiable at zero; and the one that lays points on others."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float


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


def kabsch(
    source: Float[np.ndarray, "n 3"], target: Float[np.ndarray, "n 3"], chosen: Bool[np.ndarray, " n"] | None = None
) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "3"]]:
    """Rotation and translation with target ≈ turn · source + shift over the chosen points, least squares (Kabsch 1976).

    With fewer than three chosen points the rotation is not determined: the identity is returned. All points are chosen
    where it isn't said.
    """
    a, b = (source, target) if chosen is None else (source[chosen], target[chosen])
    if len(a) < 3:
        return np.eye(3), np.zeros(3)
    centre_a, centre_b = a.mean(0), b.mean(0)
    u, _, vt = np.linalg.svd((b - centre_b).T @ (a - centre_a))
    turn = u @ np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))]) @ vt
    return turn, centre_b - turn @ centre_a
