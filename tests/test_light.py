"""Spherical harmonics: orthonormal, and really what a matt surface receives."""

import jax.numpy as jnp
import numpy as np
import pytest
from helpers import check_derivatives, rotation_about

from diverse3d.surface import STUDIO_LIGHT, WeakPerspective, harmonics, shade

LAMBERT = np.array([1, *[2 / 3] * 3, *[1 / 4] * 5])


def sphere_quadrature(count=40):
    """Directions and weights that integrate polynomials over the unit sphere exactly."""
    z, weight = np.polynomial.legendre.leggauss(count)
    around = 2 * np.pi * (np.arange(2 * count) + 0.5) / (2 * count)
    radius = np.sqrt(1 - z**2)[:, None]
    points = np.stack([radius * np.cos(around), radius * np.sin(around), np.repeat(z[:, None], 2 * count, 1)], -1)
    return points.reshape(-1, 3), np.repeat(weight * np.pi / count, 2 * count)


def test_basis_is_orthonormal_but_for_the_matt_factor():
    points, weight = sphere_quadrature()
    basis = np.asarray(harmonics(jnp.asarray(points))) / LAMBERT
    np.testing.assert_allclose(np.einsum("n,ni,nj->ij", weight, basis, basis), np.eye(9), atol=1e-5)


def test_equals_the_light_that_a_matt_surface_receives(rng):
    points, weight = sphere_quadrature(120)
    coefficients = rng.normal(size=9)
    radiance = np.asarray(harmonics(jnp.asarray(points))) / LAMBERT @ coefficients
    for normal in np.linalg.qr(rng.normal(size=(3, 3)))[0]:
        received = (weight * radiance * np.clip(points @ normal, 0, None)).sum() / np.pi
        np.testing.assert_allclose(harmonics(jnp.asarray(normal)) @ jnp.asarray(coefficients), received, atol=2e-3)


def test_turning_light_and_surface_together_changes_nothing(rng):
    turn = rotation_about([1, 2, 3], 0.8)
    normals = rng.normal(size=(50, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    here, there = (np.asarray(harmonics(jnp.asarray(n))) for n in (normals, normals @ turn.T))
    mix, residual, rank, _ = np.linalg.lstsq(here, there, rcond=None)
    assert rank == 9
    np.testing.assert_allclose(here @ mix, there, atol=1e-5)


def test_shade_is_linear_by_channel_and_bright_from_above(rng):
    albedo, normals = rng.uniform(size=(6, 3)), np.concatenate([np.eye(3), -np.eye(3)])
    light = rng.normal(size=(9, 3))
    light[:, 2] = 0
    got = shade(jnp.asarray(albedo), jnp.asarray(normals), jnp.asarray(light))
    np.testing.assert_array_equal(got[:, 2], 0)
    np.testing.assert_allclose(shade(2 * jnp.asarray(albedo), jnp.asarray(normals), jnp.asarray(light)), 2 * got)
    studio = jnp.asarray(np.stack([STUDIO_LIGHT] * 3, 1))
    lit = np.asarray(shade(jnp.ones((6, 3)), jnp.asarray(normals), studio))[:, 0]
    assert lit[1] > lit[4] and lit[2] > lit[5] and (lit > 0).all()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_keeps_its_type_and_is_differentiable(dtype, rng):
    normals, light = jnp.asarray(rng.normal(size=(4, 3)), dtype), jnp.asarray(rng.normal(size=(9, 3)), dtype)
    assert shade(jnp.ones((4, 3), dtype), normals, light).dtype == dtype
    if dtype == jnp.float64:
        check_derivatives(lambda n, c: shade(jnp.ones((4, 3)), n, c), normals, light)


def test_weak_perspective_flips_y_and_ignores_depth():
    camera = WeakPerspective(jnp.asarray(1000.0), jnp.asarray([50.0, 60.0]))
    points = jnp.asarray([[0.0, 0.0, 0.0], [0.01, 0.02, -3.0], [0.01, 0.02, 5.0]])
    np.testing.assert_allclose(camera.project(points), [[50, 60], [60, 40], [60, 40]])
