"""Heads drawn from a head file's prior."""

import jax
import jax.numpy as jnp
import numpy as np

from diverse3d.head import head_from_arrays, sample_head


def test_moments_are_the_priors(tiny_head, key):
    drawn = jax.vmap(lambda k: (lambda p: (p.coefficients, p.pose))(sample_head(tiny_head, key=k)))(
        jax.random.split(key, 4000)
    )
    coefficients, pose = (np.asarray(part) for part in drawn)
    np.testing.assert_allclose(coefficients.mean(0), tiny_head.prior_mean, atol=0.08)
    np.testing.assert_allclose(np.cov(coefficients.T), np.eye(tiny_head.n_components), atol=0.1)
    np.testing.assert_allclose(np.sqrt((pose**2).mean(0)), tiny_head.joint_std_rad, rtol=0.06, atol=1e-12)
    assert (pose[:, 2, 0] >= 0).all() and (pose[:, 1, 0] < 0).any()


def test_a_head_without_joint_prior_stays_at_rest(key):
    from helpers import tiny_arrays

    head = head_from_arrays({name: tiny_arrays()[name] for name in ("template", "faces", "identity_basis")})
    parameters = sample_head(head, key=key)
    assert not jnp.any(parameters.pose) and parameters.coefficients.shape == (6,)
    again = sample_head(head, key=key)
    np.testing.assert_array_equal(parameters.coefficients, again.coefficients)
