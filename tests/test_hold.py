"""Samples held together where visible."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from helpers import as_float32

from diverse3d.diversify import N_RIGID
from diverse3d.diversify._hold import hold_together
from diverse3d.diversify._posterior import expand
from diverse3d.fit import fit, isotropic_noise
from diverse3d.observe import observe_mesh


@pytest.fixture(scope="module")
def task(tiny_head):
    """The fit of a head of which one half is seen, and its noise."""
    rng = np.random.default_rng(3)
    truth = np.asarray(tiny_head.shaped(tiny_head.prior_mean + jnp.asarray(rng.normal(size=tiny_head.n_components))))
    seen = observe_mesh(truth, head=tiny_head, hidden=~(truth[:, 1] > 0.0))
    return fit(seen, tiny_head), isotropic_noise(tiny_head, 1e-3, "exact")


def test_what_the_data_determine_is_held(tiny_head, task, rng):
    """Against eigenvectors of the precisions, the rigid motion eliminated."""
    at, noise = task
    expansion = expand(tiny_head, at, noise)
    size = tiny_head.n_components + 3 * tiny_head.n_joints
    jacobian = np.asarray(expansion.weight(expansion.jacobian_m))
    root = np.asarray(expansion.root)
    shape, rigid = jacobian[:, :size], jacobian[:, size : size + N_RIGID]
    follow = np.linalg.solve(rigid.T @ rigid + np.diag(root[size : size + N_RIGID] ** 2), -rigid.T @ shape)
    told = shape.T @ (shape + rigid @ follow) / np.outer(root[:size], root[:size])
    values, vectors = np.linalg.eigh((told + told.T) / 2)
    off = rng.normal(size=root.size)
    free = vectors @ ((vectors.T @ (root[:size] * off[:size])) / (1.0 + np.maximum(0.8**2 * values, 0.0) ** 2))
    got = hold_together(tiny_head, at, noise, 0.8)(jnp.asarray(off))
    np.testing.assert_allclose(got[:size], free / root[:size], rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(got[size : size + N_RIGID], follow @ (free / root[:size]), rtol=1e-4, atol=1e-8)
    assert not np.asarray(got[size + N_RIGID :]).any()


def test_nothing_visible_holds_nothing(tiny_head, task, rng):
    at, noise = task
    blind = dataclasses.replace(at, visible=jnp.zeros_like(at.visible))
    off = jnp.asarray(rng.normal(size=expand(tiny_head, at, noise).root.size))
    size = tiny_head.n_components + 3 * tiny_head.n_joints
    got = hold_together(tiny_head, blind, noise, 1.0)(off)
    np.testing.assert_allclose(got[:size], off[:size], atol=1e-9)
    assert not np.asarray(got[size:]).any()


def test_single_precision_holds_as_double_does(tiny_head, task, rng):
    """Rigid columns weigh thousands of times more than others: what is nearly free must survive that."""
    at, noise = task
    off = jnp.asarray(rng.normal(size=expand(tiny_head, at, noise).root.size))
    double = np.asarray(hold_together(tiny_head, at, noise, 1.0)(off))
    single = np.asarray(
        hold_together(*(as_float32(one) for one in (tiny_head, at, noise)), 1.0)(off.astype(jnp.float32))
    )
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, double, rtol=0, atol=2e-3 * np.abs(double).max())
