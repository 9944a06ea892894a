"""Choosing N heads out of a pool: the most diverse ones, those that cover it best, or those that stand for it best."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..fit import Fit
from ..head import HeadModel
from ._config import DiversifyConfig
from ._gaussian import head_vertices
from .dpp import greedy_selection, kernel, pairwise_distance, quality, quality_threshold

Choice = Callable[[HeadModel, Fit, Float[Array, "P D"], int], Float[Array, "n D"]]
"""A number of points made of a pool: `best_cover`, `best_support`."""

_LLOYD_STEPS = 50
"""Steps of k-means; pools of a thousand heads or two settle in fewer."""

_SUPPORT_STEPS = 200
"""Steps towards the support points."""

_NEAREST = 1e-2
"""In units of the pool's spread: nearer than this, members pull no more strongly, and points don't push each other,
since neither has a direction where they meet."""


def all_vertices(head: HeadModel, points: Float[Array, "N D"]) -> Float[Array, "N V 3"]:
    """Vertices of many points, a bounded number at a time so that skinning's intermediates stay small."""
    return jax.lax.map(lambda point: head_vertices(head, point), points, batch_size=64)


def hidden_distance(fit: Fit, vertices_m: Float[Array, "P V 3"]) -> Float[Array, "P P"]:
    """RMS distance over hidden vertices between every two heads, metres."""
    hidden = jnp.repeat((~fit.visible).astype(vertices_m.dtype), 3)
    return pairwise_distance(vertices_m.reshape(vertices_m.shape[0], -1), hidden)


def most_diverse(
    head: HeadModel, fit: Fit, points: Float[Array, "P D"], n: int, config: DiversifyConfig
) -> Int[Array, " n"]:
    """Indices of `n` points by greedy determinantal selection (papers/004 §1.3's kernel over hidden vertices)."""
    distance = hidden_distance(fit, all_vertices(head, points))
    threshold = quality_threshold(head.n_components, config.n_sigma, literal=config.literal_quality)
    qualities = quality(jnp.sum(points[:, : head.n_components] ** 2, axis=1), jnp.asarray(threshold, head.dtype))
    return greedy_selection(kernel(distance, qualities, k=config.k), n)


def best_cover(head: HeadModel, fit: Fit, points: Float[Array, "P D"], n: int) -> Float[Array, "n D"]:
    """`n` centres of the pool by k-means on hidden vertices: they make the expected squared closest distance small.

    A centre is the mean of its share of the pool, so it is likelier than its members. Starts from members chosen one
    after the other, each that which makes the sum of squared closest distances least: from the members farthest apart,
    many centres would keep an outlier for themselves. A centre that loses all its members stays where it was.
    """
    square = hidden_distance(fit, all_vertices(head, points)) ** 2
    pool = points.shape[0]
    start = jax.nn.one_hot(_central(square, n), pool, dtype=points.dtype)

    def step(_: Int[Array, ""], share: Float[Array, "n P"]) -> Float[Array, "n P"]:
        cross, within = _terms(square, share)
        away = cross - within[:, None]
        member = jax.nn.one_hot(jnp.argmin(away, axis=0), n, dtype=points.dtype, axis=0)
        count = jnp.sum(member, axis=1, keepdims=True)
        return jnp.where(count > 0, member / jnp.maximum(count, 1.0), share)

    return jax.lax.fori_loop(0, _LLOYD_STEPS, step, start) @ points


def best_support(head: HeadModel, fit: Fit, points: Float[Array, "P D"], n: int) -> Float[Array, "n D"]:
    """`n` points that stand for the pool best: support points (Mak & Joseph 2018, algorithm sp.ccp).

    Of all sets of `n`, the one at the least energy distance from the pool over hidden vertices, up to a local minimum:
    that with the lowest energy score to be expected if the pool is right. A step moves each point towards the pool's
    members, near ones most, while the other points push it away; it never makes the set worse, as far as heads are
    linear in their points and beyond `_NEAREST`. Starts from the members farthest apart.
    """
    square = hidden_distance(fit, all_vertices(head, points)) ** 2
    square = square / jnp.maximum(jnp.mean(square), jnp.finfo(square.dtype).tiny)
    pool = points.shape[0]

    def step(_: Int[Array, ""], share: Float[Array, "n P"]) -> Float[Array, "n P"]:
        cross, within = _terms(square, share)
        to_pool = cross - within[:, None]
        to_others = cross @ share.T - within[:, None] - within[None, :]
        pull = 1.0 / jnp.sqrt(jnp.maximum(to_pool, _NEAREST**2))
        apart = to_others > _NEAREST**2
        push = jnp.where(apart, 1.0 / jnp.sqrt(jnp.where(apart, to_others, 1.0)), 0.0)
        away = jnp.sum(push, axis=1, keepdims=True) * share - push @ share
        return (pull + (pool / n) * away) / jnp.sum(pull, axis=1, keepdims=True)

    start = jax.nn.one_hot(_farthest(square, n), pool, dtype=points.dtype)
    return jax.lax.fori_loop(0, _SUPPORT_STEPS, step, start) @ points


def _terms(square: Float[Array, "P P"], share: Float[Array, "n P"]) -> tuple[Float[Array, "n P"], Float[Array, " n"]]:
    """d²w and ½ wᵀd²w of weighted means of the pool, of which all their squared distances follow: no vertices needed.

    For weights that sum to one, ‖y_p - Σ_q w_q y_q‖² = Σ_q w_q d²_pq - ½ wᵀd²w.
    """
    cross = share @ square
    return cross, 0.5 * jnp.sum(cross * share, axis=1)


def _farthest(square: Float[Array, "P P"], n: int) -> Int[Array, " n"]:
    """Members chosen one after the other, each the farthest from those before it; the first is the most central."""
    first = jnp.argmin(jnp.sum(square, axis=1)).astype(jnp.int32)

    def step(index: Int[Array, ""], state: tuple[Array, Array]) -> tuple[Array, Array]:
        nearest, chosen = state
        best = jnp.argmax(nearest).astype(jnp.int32)
        return jnp.minimum(nearest, square[best]), chosen.at[index].set(best)

    start = (square[first], jnp.full(n, first, jnp.int32))
    return jax.lax.fori_loop(1, n, step, start)[1]


def _central(square: Float[Array, "P P"], n: int) -> Int[Array, " n"]:
    """Members chosen one after the other, each that which leaves the least sum of squared closest distances."""

    def step(index: Int[Array, ""], state: tuple[Array, Array]) -> tuple[Array, Array]:
        nearest, chosen = state
        best = jnp.argmin(jnp.sum(jnp.minimum(nearest[:, None], square), axis=0)).astype(jnp.int32)
        return jnp.minimum(nearest, square[best]), chosen.at[index].set(best)

    start = (jnp.full(square.shape[0], jnp.inf, square.dtype), jnp.zeros(n, jnp.int32))
    return jax.lax.fori_loop(0, n, step, start)[1]
