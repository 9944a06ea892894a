"""Heads drawn from what a head file calls likely: the population of a head that comes without one."""

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from ._model import HeadModel, HeadParameters

_JAW, _FLAMES_TREE = 2, (-1, 0, 1, 1, 1)


def sample_head(head: HeadModel, *, key: PRNGKeyArray) -> HeadParameters:
    """Parameters of one head drawn from its prior; `vmap` it over keys for more.

    Coefficients are independent with unit variance about `prior_mean`. Joints turn by `joint_std_rad` about each axis
    (not at all where the head has none), the root doesn't turn, and the pitch of the jaw, in FLAME's tree, is taken as
    opening: the size of a normal draw, whose mean square is that of the prior of fits.
    """
    coefficient_key, joint_key = jax.random.split(key)
    coefficients = head.prior_mean + jax.random.normal(coefficient_key, head.prior_mean.shape, head.dtype)
    pose = jnp.zeros((head.n_joints, 3), head.dtype)
    if head.joint_std_rad is not None:
        pose = (head.joint_std_rad * jax.random.normal(joint_key, pose.shape, head.dtype)).at[0].set(0.0)
        if head.joint_parents == _FLAMES_TREE:
            pose = pose.at[_JAW, 0].set(jnp.abs(pose[_JAW, 0]))
    return HeadParameters(coefficients=coefficients, pose=pose, translation_m=jnp.zeros(3, head.dtype))
