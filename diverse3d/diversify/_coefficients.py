"""Algorithm 2's loss over the coefficients of a linear head: global-dpp and global-local-dpp (papers/004 §1.1)."""

import equinox as eqx
import jax
from jaxtyping import Array, Float, PRNGKeyArray

from .._optimise import descend
from ..fit import canonical
from ._algorithm2 import algorithm2_loss, optimiser
from ._config import DiversifyConfig
from ._task import Samples, Task
from .dpp import quality_threshold


@eqx.filter_jit
def run_coefficient_dpp(task: Task, n: int, config: DiversifyConfig, *, key: PRNGKeyArray) -> Samples:
    """N coefficient vectors optimised together by `algorithm2_loss`, from around the fit."""
    head, fit = task.head, task.fit
    threshold = quality_threshold(head.n_components, config.n_sigma, literal=config.literal_quality)

    def vertices(z: Float[Array, "N K"]) -> Float[Array, "N C"]:
        at = jax.vmap(lambda row: canonical(head, eqx.tree_at(lambda u: u.z, fit.unknowns, row)))(z)
        return at.reshape(n, -1)

    def loss(z: Float[Array, "N K"]) -> Float[Array, ""]:
        return algorithm2_loss(
            vertices(z),
            z,
            held_m=fit.held_m,
            visible=fit.visible,
            threshold=threshold,
            config=config,
            pixels=task.pixels,
        )

    noise_z = jax.random.normal(key, (n, head.n_components), head.dtype)
    begin = fit.unknowns.z[None, :] + config.start_spread * noise_z
    solution = descend(loss, begin, optimiser(config), steps=config.steps, tolerance=config.tolerance)
    return Samples(vertices(solution.value).reshape(n, -1, 3), solution.value)
