"""Algorithm 2's loss over the coefficients of a linear head: global-dpp and global-local-dpp (papers/004 §1.1)."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from .._optimise import descend
from ..fit import canonical
from ._config import DiversifyConfig
from ._task import Samples, Task
from ._vae import optimiser
from .dpp import dpp_loss, kernel, pairwise_distance, quality, quality_threshold


@eqx.filter_jit
def run_coefficient_dpp(task: Task, n: int, config: DiversifyConfig, *, key: PRNGKeyArray) -> Samples:
    """N coefficient vectors optimised together: λ1 · visible L1 + λ3 · L_dpp, from around the fit.

    The visible L1 is the mean over samples, visible vertices and coordinates, in metres.
    """
    head, fit = task.head, task.fit
    visible = jnp.repeat(fit.visible.astype(head.dtype), 3)
    hidden = 1.0 - visible
    threshold = jnp.asarray(
        quality_threshold(head.n_components, config.n_sigma, literal=config.literal_quality), head.dtype
    )
    target = fit.held_m.reshape(-1)

    def vertices(z: Float[Array, "N K"]) -> Float[Array, "N C"]:
        at = jax.vmap(lambda row: canonical(head, eqx.tree_at(lambda u: u.z, fit.unknowns, row)))(z)
        return at.reshape(n, -1)

    def loss(z: Float[Array, "N K"]) -> Float[Array, ""]:
        points = vertices(z)
        off = jnp.sum(jnp.abs(points - target[None, :]) * visible[None, :])
        off = off / (n * jnp.maximum(jnp.sum(visible), 1.0))
        distance = pairwise_distance(points, hidden)
        spread = dpp_loss(kernel(distance, quality(jnp.sum(z**2, axis=1), threshold), k=config.k))
        return config.visible_weight * off + config.dpp_weight * spread

    noise_z = jax.random.normal(key, (n, head.n_components), head.dtype)
    begin = fit.unknowns.z[None, :] + config.start_spread * noise_z
    solution = descend(loss, begin, optimiser(config), steps=config.steps, tolerance=config.tolerance)
    return Samples(vertices(solution.value).reshape(n, -1, 3), solution.value)
