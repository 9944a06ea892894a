"""Losses of the two models, for one example; training takes their mean over a batch."""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Integer, PRNGKeyArray

from ._model import Gaussian, MaskedVAE, ResidualVAE


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """Weights of the terms. Offsets are in units of the population's RMS offset."""

    vertex: float = 1.0
    """Mean L1 distance of vertices."""
    hidden: float = 3.0
    """How much more a hidden vertex counts than a visible one."""
    laplacian: float = 1.0
    """Mean squared difference of uniform Laplacians."""
    normal: float = 0.05
    """Mean of 1 - cos of the angle between true and decoded face normals."""
    kl: float = 1e-5
    """Divergence from the prior, in nats (masked model)."""
    residual_kl: float = 1e-2
    """Divergence from the learned prior, in nats (residual model)."""
    free_bits: float = 0.02
    """Nats that each latent variable may take for nothing (masked model)."""


class Surface(eqx.Module):
    """What the shape terms need of a mesh."""

    template: Float[Array, "V 3"]
    """Template in units of the population's RMS offset."""
    faces: Int[Array, "F 3"]
    """Triangles."""
    neighbours: Int[Array, "V D"]
    """Vertices joined to each vertex, padded with the vertex itself."""
    neighbour_weights: Float[Array, "V D"]
    """One over the number of neighbours, zero where padded."""

    def laplacian(self, offsets: Float[Array, "V 3"]) -> Float[Array, "V 3"]:
        """Mean of the neighbours less the vertex."""
        return jnp.einsum("vd,vdc->vc", self.neighbour_weights, offsets[self.neighbours]) - offsets

    def face_normals(self, offsets: Float[Array, "V 3"]) -> Float[Array, "F 3"]:
        """Unit normals of the triangles; zero where a triangle has no area."""
        corners = (self.template + offsets)[self.faces]
        normal = jnp.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        square = jnp.sum(normal**2, axis=1, keepdims=True)
        return normal * jax.lax.rsqrt(square + 1e-12)


def make_surface(template: Float[np.ndarray, "V 3"], faces: Integer[np.ndarray, "F 3"], *, dtype: Any) -> Surface:
    """A surface from a template already in units of the population's RMS offset."""
    count = len(template)
    pairs = np.unique(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=0)
    pairs = np.unique(np.concatenate([pairs, pairs[:, ::-1]]), axis=0)
    degree = np.bincount(pairs[:, 0], minlength=count)
    column = np.arange(len(pairs)) - np.repeat(np.cumsum(degree) - degree, degree)
    neighbours = np.repeat(np.arange(count, dtype=np.int32)[:, None], max(int(degree.max()), 1), axis=1)
    weights = np.zeros(neighbours.shape)
    neighbours[pairs[:, 0], column] = pairs[:, 1]
    weights[pairs[:, 0], column] = 1.0 / degree[pairs[:, 0]]
    return Surface(
        template=jnp.asarray(template, dtype),
        faces=jnp.asarray(faces, jnp.int32),
        neighbours=jnp.asarray(neighbours),
        neighbour_weights=jnp.asarray(weights, dtype),
    )


@runtime_checkable
class Corrector(Protocol):
    """What a closed form knows of an example beyond its mean, linearly; a pytree of what all examples share.

    `correction` is the example's own data.
    """

    def __call__(self, correction: Any, residual: Float[Array, "V 3"]) -> Float[Array, "V 3"]:
        """The part of a residual that the visible part leaves free."""
        ...

    def draw(
        self, correction: Any, residual: Float[Array, "V 3"], share: Float[Array, ""], *, key: PRNGKeyArray
    ) -> Float[Array, "V 3"]:
        """The same, with a draw of the closed form's own spread times `share` added."""
        ...


class Terms(eqx.Module):
    """Parts of a loss, before their weights."""

    visible_l1: Float[Array, ""]
    """Mean L1 distance of visible vertices a coordinate."""
    hidden_l1: Float[Array, ""]
    """The same of hidden vertices."""
    hidden_rms: Float[Array, ""]
    """RMS distance of hidden vertices."""
    laplacian: Float[Array, ""]
    """Mean squared difference of Laplacians."""
    normal: Float[Array, ""]
    """Mean of 1 - cos between normals."""
    kl: Float[Array, "v c"]
    """Nats of each latent variable."""
    shift: Float[Array, "v c"]
    """How far the mean of each latent variable lies from its prior's, in its own standard deviations."""


def masked_loss(
    model: MaskedVAE,
    offsets: Float[Array, "V 3"],
    visible: Bool[Array, " V"],
    surface: Surface,
    config: LossConfig,
    *,
    kl_scale: Float[Array, ""],
    key: PRNGKeyArray,
) -> tuple[Float[Array, ""], Terms]:
    """Masked offsets in, the whole mesh out: L1, Laplacian and normals, and the divergence beyond the free bits."""
    latent = model.encode(offsets, visible)
    decoded = model.decode(latent.sample(key=key))
    difference = decoded - offsets
    seen = visible.astype(offsets.dtype)
    weight = seen + config.hidden * (1.0 - seen)
    laplacian = jnp.mean(surface.laplacian(difference) ** 2)
    normal = 1.0 - jnp.mean(jnp.sum(surface.face_normals(decoded) * surface.face_normals(offsets), axis=1))
    kl = latent.kl()
    l1 = jnp.sum(weight[:, None] * jnp.abs(difference)) / (3.0 * jnp.sum(weight))
    loss = config.vertex * l1 + config.laplacian * laplacian + config.normal * normal
    loss = loss + config.kl * kl_scale * jnp.sum(jnp.maximum(kl, jnp.full_like(kl, config.free_bits)))
    return loss, _terms(difference, seen, laplacian, normal, kl, latent.mean * jnp.exp(-0.5 * latent.log_variance))


def residual_loss(
    model: ResidualVAE,
    residual: Float[Array, "V 3"],
    base: Float[Array, "V 3"],
    visible: Bool[Array, " V"],
    correct: Callable[[Float[Array, "V 3"]], Float[Array, "V 3"]],
    config: LossConfig,
    *,
    kl_scale: Float[Array, ""],
    key: PRNGKeyArray,
) -> tuple[Float[Array, ""], Terms]:
    """The evidence bound of p(residual | base, visible): squared hidden distance and divergence from the learned prior.

    What is decoded passes through `correct` before it is compared: the loss sees what a user gets.
    """
    condition = model.condition(base, visible)
    latent: Gaussian = model.encode(residual, base, visible)
    decoded = correct(model.decode_conditioned(latent.sample(key=key), condition))
    difference = decoded - residual
    seen = visible.astype(base.dtype)
    kl = latent.kl(condition.prior)
    square = jnp.sum((1.0 - seen)[:, None] * difference**2) / jnp.maximum(jnp.sum(1.0 - seen), 1.0)
    loss = config.vertex * square + config.residual_kl * kl_scale * jnp.sum(kl)
    shift = (latent.mean - condition.prior.mean) * jnp.exp(-0.5 * latent.log_variance)
    return loss, _terms(difference, seen, jnp.zeros_like(square), jnp.zeros_like(square), kl, shift)


def energy_loss(
    model: ResidualVAE,
    residual: Float[Array, "V 3"],
    base: Float[Array, "V 3"],
    visible: Bool[Array, " V"],
    draw: Callable[[Float[Array, "V 3"], Float[Array, ""], PRNGKeyArray], Float[Array, "V 3"]],
    *,
    samples: int,
    key: PRNGKeyArray,
) -> tuple[Float[Array, ""], Terms]:
    """Energy score over hidden vertices of samples from the learned prior (Gneiting & Raftery 2007): strictly proper.

    E‖X - y‖ - ½ E‖X - X'‖ with the distance RMS over hidden vertices, estimated without bias from two samples or more.
    `draw` is (residual, share, key) → sample. The terms are of the samples' mean; `shift` is the learned prior's.
    """
    condition = model.condition(base, visible)

    def one(key: PRNGKeyArray) -> Float[Array, "V 3"]:
        latent_key, spread_key = jax.random.split(key)
        z = condition.prior.sample(key=latent_key)
        return draw(model.decode_conditioned(z, condition), condition.share, spread_key)

    drawn = jax.vmap(one)(jax.random.split(key, samples))
    prior, zero = condition.prior, jnp.zeros((), base.dtype)
    difference = jnp.mean(drawn, axis=0) - residual
    shift = prior.mean * jnp.exp(-0.5 * prior.log_variance)
    terms = _terms(difference, visible.astype(base.dtype), zero, zero, jnp.zeros_like(prior.mean), shift)
    return energy_score(drawn, residual, ~visible), terms


def energy_score(
    drawn: Float[Array, "n V 3"], truth: Float[Array, "V 3"], counted: Bool[Array, " V"]
) -> Float[Array, ""]:
    """Unbiased energy score of two samples or more, with the RMS distance over the vertices that count."""
    count = drawn.shape[0]
    share = counted.astype(drawn.dtype)
    root = jnp.sqrt(share / jnp.maximum(jnp.sum(share), 1.0))[:, None]
    flat = (root[None] * drawn).reshape(count, -1)
    error = jnp.sqrt(jnp.sum((flat - (root * truth).reshape(1, -1)) ** 2, axis=1) + _TINY)
    gram = flat @ flat.T
    norm = jnp.diagonal(gram)
    square = jnp.maximum(norm[:, None] + norm[None, :] - 2.0 * gram, 0.0)
    spread = jnp.sqrt(square + _TINY) * (1.0 - jnp.eye(count, dtype=drawn.dtype))
    return jnp.mean(error) - 0.5 * jnp.sum(spread) / (count * (count - 1))


_TINY = 1e-8
"""Keeps the root's gradient finite where samples coincide; squared, in units of the population's RMS offset."""


def _terms(
    difference: Float[Array, "V 3"],
    seen: Float[Array, " V"],
    laplacian: Float[Array, ""],
    normal: Float[Array, ""],
    kl: Float[Array, "v c"],
    shift: Float[Array, "v c"],
) -> Terms:
    hidden = 1.0 - seen
    n_seen, n_hidden = jnp.maximum(jnp.sum(seen), 1.0), jnp.maximum(jnp.sum(hidden), 1.0)
    distance = jnp.sum(jnp.abs(difference), axis=1) / 3.0
    return Terms(
        visible_l1=jnp.sum(seen * distance) / n_seen,
        hidden_l1=jnp.sum(hidden * distance) / n_hidden,
        hidden_rms=jnp.sqrt(jnp.sum(hidden * jnp.sum(difference**2, axis=1)) / n_hidden),
        laplacian=laplacian,
        normal=normal,
        kl=kl,
        shift=shift,
    )
