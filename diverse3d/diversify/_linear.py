"""The closed-form methods: map, posterior, posterior-dpp."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ..fit import Fit
from ..head import HeadModel
from ._config import DiversifyConfig
from ._gaussian import Posterior, head_vertices
from .dpp import greedy_selection, kernel, pairwise_distance, quality, quality_threshold


class Samples(eqx.Module):
    """What a method makes: heads in the fit's head frame, with their latents."""

    vertices_m: Float[Array, "N V 3"]
    """Vertices in metres, head frame."""
    latents: Float[Array, "N K"]
    """Coefficients less their population mean."""


@eqx.filter_jit
def run_map(
    head: HeadModel, fit: Fit, belief: Posterior, n: int, config: DiversifyConfig, *, key: PRNGKeyArray
) -> Samples:
    """The single most likely head, whatever `n` is."""
    del fit, n, config, key
    mean = belief.mean
    return Samples(head_vertices(head, mean)[None], mean[None, : head.n_components])


@eqx.filter_jit
def run_posterior(
    head: HeadModel, fit: Fit, belief: Posterior, n: int, config: DiversifyConfig, *, key: PRNGKeyArray
) -> Samples:
    """Independent samples of the closed-form posterior."""
    del fit, config
    points = belief.samples(n, key=key)
    return Samples(_all_vertices(head, points), points[:, : head.n_components])


@eqx.filter_jit
def run_posterior_dpp(
    head: HeadModel, fit: Fit, belief: Posterior, n: int, config: DiversifyConfig, *, key: PRNGKeyArray
) -> Samples:
    """The most diverse `n` of a pool of posterior samples, by greedy determinantal selection.

    Distances are RMS over hidden vertices. Selection picks extremes, so the pool is first drawn together around the
    mean by `config.contraction`.
    """
    drawn = belief.samples(max(config.pool, 2 * n), key=key)
    points = belief.mean[None, :] + config.contraction * (drawn - belief.mean[None, :])
    vertices = _all_vertices(head, points)
    hidden = jnp.repeat((~fit.visible).astype(head.dtype), 3)
    distance = pairwise_distance(vertices.reshape(points.shape[0], -1), hidden)
    threshold = quality_threshold(head.n_components, config.n_sigma, literal=config.literal_quality)
    qualities = quality(jnp.sum(points[:, : head.n_components] ** 2, axis=1), jnp.asarray(threshold, head.dtype))
    chosen = greedy_selection(kernel(distance, qualities, k=config.k), n)
    return Samples(vertices[chosen], points[chosen, : head.n_components])


def _all_vertices(head: HeadModel, points: Float[Array, "N D"]) -> Float[Array, "N V 3"]:
    """Vertices of many points, a bounded number at a time so that skinning's intermediates stay small."""
    return jax.lax.map(lambda point: head_vertices(head, point), points, batch_size=64)
