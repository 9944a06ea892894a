"""Rodrigues' formula: group laws and derivatives, on purpose near its singular points."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import check_derivatives
from scipy.spatial.transform import Rotation

from diverse3d.surface import rotation_matrix

AXIS = np.array([0.48, -0.6, 0.64])
# Zero; both sides of where the series takes over (t² = 1e-5, or 1e-2 in single precision); π and beyond.
ANGLES = {
    "zero": 0.0,
    "tiny": 1e-160,
    "small": 1e-9,
    "below switch": np.sqrt(1e-5) * (1 - 1e-9),
    "above switch": np.sqrt(1e-5) * (1 + 1e-9),
    "below switch32": 0.0999,
    "above switch32": 0.1001,
    "ordinary": 1.3,
    "below pi": np.pi - 1e-7,
    "pi": np.pi,
    "above pi": np.pi + 1e-7,
    "two turns": 13.0,
}
compiled = jax.jit(rotation_matrix)
at_angles = pytest.mark.parametrize("angle", ANGLES.values(), ids=ANGLES.keys())


@at_angles
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_is_a_rotation_and_agrees_with_scipy(angle, dtype):
    vector = jnp.asarray(angle * AXIS, dtype)
    turn = compiled(vector)
    assert turn.dtype == dtype
    tolerance = 1e-12 if dtype == np.float64 else 3e-6
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=tolerance)
    np.testing.assert_allclose(jnp.linalg.det(turn), 1.0, atol=tolerance)
    np.testing.assert_allclose(compiled(-vector), turn.T, atol=tolerance)
    expected = Rotation.from_rotvec(np.array(vector, np.float64)).as_matrix()
    np.testing.assert_allclose(turn, expected, atol=tolerance)


def test_forward_reverse_and_finite_differences_agree():
    vectors = jnp.asarray(np.array(list(ANGLES.values()))[:, None] * AXIS)
    check_derivatives(jax.vmap(rotation_matrix), vectors)
    check_derivatives(jax.vmap(jax.jacfwd(rotation_matrix)), vectors, tolerance=1e-5)


def test_derivatives_at_exactly_zero():
    first = jax.jit(jax.jacrev(rotation_matrix))(jnp.zeros(3))
    generators = np.array([np.cross(np.eye(3), axis) for axis in np.eye(3)])
    np.testing.assert_array_equal(np.moveaxis(first, 2, 0), -generators.transpose(0, 2, 1))
    second = jax.jit(jax.hessian(rotation_matrix))(jnp.zeros(3))
    products = generators.transpose(0, 2, 1)
    expected = 0.5 * (np.einsum("iab,jbc->acij", products, products) + np.einsum("jab,ibc->acij", products, products))
    np.testing.assert_allclose(second, expected, atol=1e-15)


def test_single_precision_derivatives_are_finite_and_close():
    vectors = np.array(list(ANGLES.values()))[:, None] * AXIS
    derivatives = jax.jit(jax.vmap(jax.jacfwd(rotation_matrix)))
    np.testing.assert_allclose(
        derivatives(jnp.asarray(vectors, jnp.float32)), derivatives(jnp.asarray(vectors)), atol=2e-5
    )
