"""Algorithm 2's loss and optimiser, whatever the N samples are parametrised by (papers/004 §1.1, §2.1)."""

import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from ._config import DiversifyConfig
from .dpp import dpp_loss, kernel, pairwise_distance, quality


def algorithm2_loss(
    points_m: Float[Array, "N C"],
    z: Float[Array, "N L"],
    *,
    held_m: Float[Array, "V 3"],
    visible: Bool[Array, " V"],
    threshold: float,
    config: DiversifyConfig,
) -> Float[Array, ""]:
    """λ1 · visible L1 + λ3 · L_dpp of N heads (flattened vertices) and their latents, held to `held_m` where visible.

    The visible L1 is the mean over samples, visible vertices and coordinates, in metres. Quality falls where ‖z‖²
    passes the threshold.
    """
    seen = jnp.repeat(visible.astype(points_m.dtype), 3)
    off = jnp.sum(jnp.abs(points_m - held_m.reshape(1, -1)) * seen[None, :])
    off = off / (z.shape[0] * jnp.maximum(jnp.sum(seen), 1.0))
    distance = pairwise_distance(points_m, 1.0 - seen)
    qualities = quality(jnp.sum(z**2, axis=1), jnp.asarray(threshold, points_m.dtype))
    spread = dpp_loss(kernel(distance, qualities, k=config.k))
    return config.visible_weight * off + config.dpp_weight * spread


def optimiser(config: DiversifyConfig) -> optax.GradientTransformation:
    """Adam, or the paper's SGD."""
    return (optax.sgd if config.sgd else optax.adam)(config.learning_rate)
