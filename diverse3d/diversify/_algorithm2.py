"""Algorithm 2's loss and optimiser, whatever the N samples are parametrised by (papers/004 §1.1, §2.1)."""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from ..fit import SeenPixels
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
    pixels: SeenPixels | None = None,
) -> Float[Array, ""]:
    """λ1 · visible L1 + λ2 · photometric + λ3 · L_dpp of N heads (flattened vertices, metres) and their latents.

    The visible L1, against `held_m`, is the mean over samples, visible vertices and coordinates, in metres. The
    photometric term, for a photo alone, is the mean of `SeenPixels` over samples. Quality falls where ‖z‖² passes the
    threshold.

    The paper gives no units. We read both data terms as means, so that neither grows with mesh or picture: under
    λ1 = 1000 a millimetre everywhere is worth 1; under λ2 = 500 a change by 0.05 of every colour, on a face that fills
    a quarter of the crop, is worth 0.3. As a mean over the face's pixels alone λ2 would outweigh L_dpp, whose range is
    λ3 · N / 2: the samples would chase what skin and light leave unexplained, and draw together where hidden.
    """
    seen = jnp.repeat(visible.astype(points_m.dtype), 3)
    off = jnp.sum(jnp.abs(points_m - held_m.reshape(1, -1)) * seen[None, :])
    off = off / (z.shape[0] * jnp.maximum(jnp.sum(seen), 1.0))
    distance = pairwise_distance(points_m, 1.0 - seen)
    qualities = quality(jnp.sum(z**2, axis=1), jnp.asarray(threshold, points_m.dtype))
    spread = dpp_loss(kernel(distance, qualities, k=config.k))
    loss = config.visible_weight * off + config.dpp_weight * spread
    if pixels is None:
        return loss
    heads = points_m.reshape(z.shape[0], -1, 3)
    return loss + config.photometric_weight * jnp.mean(jax.vmap(pixels)(heads))


def optimiser(config: DiversifyConfig) -> optax.GradientTransformation:
    """Adam, or the paper's SGD."""
    return (optax.sgd if config.sgd else optax.adam)(config.learning_rate)
