"""How N heads come of a sampler: independently, or out of a pool as the most diverse, those that cover it best, or
those that stand for it best."""

import abc
from collections.abc import Callable
from typing import Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from .._methods import KernelConfig
from .._optimise import descend
from ..fit import Fit
from ..head import HeadModel
from ._posterior import head_vertices
from ._samplers import HybridSampler, PointSampler, Sampler, Samples, all_vertices
from .dpp import dpp_loss, greedy_selection, kernel, median_distance, pairwise_distance, quality, quality_threshold

S = TypeVar("S", bound=Sampler)

_LLOYD_STEPS = 50
"""Steps of k-means; pools of a thousand heads or two settle in fewer."""

_SUPPORT_STEPS = 200
"""Steps towards the support points."""

_NEAREST = 1e-2
"""In units of the pool's spread: nearer than this, members pull no more strongly, and points don't push each other,
since neither has a direction where they meet."""


class Choice(eqx.Module, Generic[S]):
    """What makes completions of a sampler."""

    @abc.abstractmethod
    def __call__(self, sampler: S, *, key: PRNGKeyArray) -> Samples:
        """The completions."""


class Mode(Choice[PointSampler]):
    """The single most likely head."""

    def __call__(self, sampler: PointSampler, *, key: PRNGKeyArray) -> Samples:
        """One head."""
        mean = sampler.posterior.mean
        return Samples(head_vertices(sampler.head, mean)[None], mean[None, : sampler.head.n_components])


class Independent(Choice[Sampler]):
    """Samples as they are drawn."""

    n: int = eqx.field(static=True)
    """Completions."""

    def __call__(self, sampler: Sampler, *, key: PRNGKeyArray) -> Samples:
        """`n` heads."""
        return sampler.samples(sampler.draw(self.n, key=key))


class Diverse(Choice[PointSampler]):
    """The most diverse of a pool, by greedy determinantal selection.

    Selection picks extremes, so the pool is better drawn together around the mean (`PointSampler.contraction`).
    """

    n: int = eqx.field(static=True)
    """Completions."""
    pool: int = eqx.field(static=True)
    """Samples that they are chosen from."""
    kernel: KernelConfig = eqx.field(static=True)
    """Similarity and quality."""
    refine: int = eqx.field(static=True, default=0)
    """Steps by which a hybrid's latents are pushed farther apart."""
    rate: float = eqx.field(static=True, default=0.01)
    """Adam's learning rate there."""
    tolerance: float = eqx.field(static=True, default=0.0)
    """Stop there early once latents and loss change by less than this, relatively."""

    def __call__(self, sampler: PointSampler, *, key: PRNGKeyArray) -> Samples:
        """`n` heads."""
        latents = sampler.draw(self.pool, key=key)
        points = sampler.points(latents)
        chosen = most_diverse(sampler.head, sampler.fit, points, self.n, self.kernel)
        if self.refine and isinstance(sampler, HybridSampler):
            return sampler.samples(self._refined(sampler, latents[chosen]))
        return sampler.chosen(latents[chosen], points[chosen])

    def _refined(self, sampler: HybridSampler, latents: Float[Array, "n L"]) -> Float[Array, "n L"]:
        """Latents pushed apart where hidden by the DPP loss: Algorithm 2 without its visible term, since every latent
        decodes to a head that agrees with the visible part. Quality keeps a latent within what is likely."""
        threshold = jnp.asarray(quality_threshold(latents.shape[1], self.kernel.n_sigma), latents.dtype)
        prior, rest = sampler.condition.prior, latents.shape[1] - sampler.condition.prior.mean.size
        centre = jnp.concatenate([prior.mean.reshape(-1), jnp.zeros(rest, latents.dtype)])
        width = jnp.concatenate([jnp.exp(0.5 * prior.log_variance).reshape(-1), jnp.ones(rest, latents.dtype)])
        start = (latents - centre[None, :]) / width[None, :]

        def apart(white: Float[Array, "n L"]) -> Float[Array, "n n"]:
            return hidden_distance(sampler.fit, jax.vmap(sampler.decode)(centre[None, :] + width[None, :] * white))

        scale = median_distance(apart(start))

        def loss(white: Float[Array, "n L"]) -> Float[Array, ""]:
            likely = quality(jnp.sum(white**2, axis=1), threshold)
            return dpp_loss(kernel(apart(white), likely, k=self.kernel.k, scale=scale))

        best = descend(loss, start, optax.adam(self.rate), steps=self.refine, tolerance=self.tolerance).value
        return centre[None, :] + width[None, :] * best


class Blend(Choice[PointSampler]):
    """Weighted means of a pool's members."""

    n: int = eqx.field(static=True)
    """Completions."""
    pool: int = eqx.field(static=True)
    """Samples that they are made of."""
    rule: Callable[[HeadModel, Fit, Float[Array, "P D"], int], Float[Array, "n D"]] = eqx.field(static=True)
    """`best_cover` or `best_support`."""

    def __call__(self, sampler: PointSampler, *, key: PRNGKeyArray) -> Samples:
        """`n` heads."""
        points = sampler.points(sampler.draw(self.pool, key=key))
        return sampler.blended(self.rule(sampler.head, sampler.fit, points, self.n))


def hidden_distance(fit: Fit, vertices_m: Float[Array, "P V 3"]) -> Float[Array, "P P"]:
    """RMS distance over hidden vertices between every two heads, metres."""
    hidden = jnp.repeat((~fit.visible).astype(vertices_m.dtype), 3)
    return pairwise_distance(vertices_m.reshape(vertices_m.shape[0], -1), hidden)


def most_diverse(
    head: HeadModel, fit: Fit, points: Float[Array, "P D"], n: int, config: KernelConfig
) -> Int[Array, " n"]:
    """Indices of `n` points by greedy selection, under the kernel of Dey and Boddeti, 2022, over hidden vertices."""
    distance = hidden_distance(fit, all_vertices(head, points))
    threshold = quality_threshold(head.n_components, config.n_sigma, literal=config.literal_quality)
    qualities = quality(jnp.sum(points[:, : head.n_components] ** 2, axis=1), jnp.asarray(threshold, head.dtype))
    return greedy_selection(kernel(distance, qualities, k=config.k), n)


def best_cover(head: HeadModel, fit: Fit, points: Float[Array, "P D"], n: int) -> Float[Array, "n D"]:
    """`n` centres of the pool by k-means on hidden vertices: they make the expected squared closest distance small.

    A centre is the mean of its part of the pool, so it is likelier than its members. Starts from members chosen one
    after the other, each that which makes the sum of squared closest distances least: from the members farthest apart,
    many centres would keep an outlier for themselves. A centre that loses all its members stays where it was.
    """
    square = hidden_distance(fit, all_vertices(head, points)) ** 2
    pool = points.shape[0]
    start = jax.nn.one_hot(_central(square, n), pool, dtype=points.dtype)

    def step(_: Int[Array, ""], weights: Float[Array, "n P"]) -> Float[Array, "n P"]:
        cross, within = _terms(square, weights)
        away = cross - within[:, None]
        member = jax.nn.one_hot(jnp.argmin(away, axis=0), n, dtype=points.dtype, axis=0)
        count = jnp.sum(member, axis=1, keepdims=True)
        return jnp.where(count > 0, member / jnp.maximum(count, 1.0), weights)

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

    def step(_: Int[Array, ""], weights: Float[Array, "n P"]) -> Float[Array, "n P"]:
        cross, within = _terms(square, weights)
        to_pool = cross - within[:, None]
        to_others = cross @ weights.T - within[:, None] - within[None, :]
        pull = 1.0 / jnp.sqrt(jnp.maximum(to_pool, _NEAREST**2))
        apart = to_others > _NEAREST**2
        push = jnp.where(apart, 1.0 / jnp.sqrt(jnp.where(apart, to_others, 1.0)), 0.0)
        away = jnp.sum(push, axis=1, keepdims=True) * weights - push @ weights
        return (pull + (pool / n) * away) / jnp.sum(pull, axis=1, keepdims=True)

    start = jax.nn.one_hot(_farthest(square, n), pool, dtype=points.dtype)
    return jax.lax.fori_loop(0, _SUPPORT_STEPS, step, start) @ points


def _terms(square: Float[Array, "P P"], weights: Float[Array, "n P"]) -> tuple[Float[Array, "n P"], Float[Array, " n"]]:
    """d²w and ½ wᵀd²w of weighted means of the pool, of which all their squared distances follow: no vertices needed.

    For weights that sum to one, ‖y_p - Σ_q w_q y_q‖² = Σ_q w_q d²_pq - ½ wᵀd²w.
    """
    cross = weights @ square
    return cross, 0.5 * jnp.sum(cross * weights, axis=1)


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
