"""What draws latents and decodes them: the closed form, and with it what a trained residual model adds to it."""

import abc
import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from meshvae import Condition

from ..fit import Fit
from ..head import HeadModel
from ._components import ComponentCondition
from ._hold import Hold
from ._learned import ResidualModel
from ._pin import Kept
from ._posterior import Posterior, head_vertices


class Samples(eqx.Module):
    """What a method makes: heads in the fit's head frame, with their latents."""

    vertices_m: Float[Array, "N V 3"]
    """Vertices in metres, head frame."""
    latents: Float[Array, "N K"]
    """What the method varies: coefficients less their population mean, or a model's latents."""


class Sampler(eqx.Module):
    """Latents of heads that agree with a fit."""

    head: HeadModel
    """The method's own head."""
    fit: Fit
    """Stage 1's result with that head."""

    @property
    @abc.abstractmethod
    def latent_size(self) -> int:
        """Numbers in a latent."""

    @abc.abstractmethod
    def draw(self, count: int, *, key: PRNGKeyArray) -> Float[Array, "N L"]:
        """Independent latents."""

    @abc.abstractmethod
    def decode(self, latent: Float[Array, " L"]) -> Float[Array, "V 3"]:
        """Vertices in metres, in the fit's head frame."""

    @abc.abstractmethod
    def heads(self, latents: Float[Array, "N L"]) -> Float[Array, "N V 3"]:
        """The same of many, within bounded memory."""

    def samples(self, latents: Float[Array, "N L"]) -> Samples:
        """Heads with what is recorded of them."""
        return Samples(self.heads(latents), latents)


class PointSampler(Sampler):
    """A sampler whose latents are decoded to points of the closed-form posterior, which can be chosen and averaged."""

    posterior: Posterior
    """The closed form around the fit."""
    contraction: float = eqx.field(static=True)
    """How far samples are drawn together around the posterior mean, or apart."""
    kept: Kept | None
    """The closed form conditioned on what is pinned; None where nothing is."""

    @property
    def mean(self) -> Float[Array, " D"]:
        """The posterior mean, given also what is pinned."""
        return self.posterior.mean if self.kept is None else self.kept.mean

    @abc.abstractmethod
    def points(self, latents: Float[Array, "N L"]) -> Float[Array, "N D"]:
        """The posterior's vectors at latents."""

    def heads(self, latents: Float[Array, "N L"]) -> Float[Array, "N V 3"]:
        """Vertices in metres, in the fit's head frame."""
        return all_vertices(self.head, self.points(latents))

    def blended(self, points: Float[Array, "N D"]) -> Samples:
        """Heads of points that are no decoded latents: what is recorded are their coefficients."""
        return Samples(all_vertices(self.head, points), points[:, : self.head.n_components])

    def chosen(self, latents: Float[Array, "N L"], points: Float[Array, "N D"]) -> Samples:
        """Heads of latents whose points are known."""
        return Samples(all_vertices(self.head, points), latents)


class PosteriorSampler(PointSampler):
    """The closed form alone; its latents are the posterior's vectors themselves, recorded by their coefficients."""

    @property
    def latent_size(self) -> int:
        """Numbers in a posterior's vector."""
        return self.posterior.mean.size

    def draw(self, count: int, *, key: PRNGKeyArray) -> Float[Array, "N D"]:
        """Independent samples, contracted."""
        if self.kept is not None:
            noise = jax.random.normal(key, (count, self.mean.size), self.mean.dtype)
            return self.mean[None, :] + self.contraction * (noise @ self.kept.spread.T)
        mean = self.posterior.mean[None, :]
        return mean + self.contraction * (self.posterior.samples(count, key=key) - mean)

    def points(self, latents: Float[Array, "N D"]) -> Float[Array, "N D"]:
        """The latents themselves."""
        return latents

    def decode(self, latent: Float[Array, " D"]) -> Float[Array, "V 3"]:
        """Vertices in metres, in the fit's head frame."""
        return head_vertices(self.head, latent)

    def samples(self, latents: Float[Array, "N D"]) -> Samples:
        """Heads with their coefficients."""
        return self.blended(latents)

    def chosen(self, latents: Float[Array, "N D"], points: Float[Array, "N D"]) -> Samples:
        """Heads with their coefficients."""
        return self.blended(points)


class HybridSampler(PointSampler):
    """From a latent to a point of the posterior: mean + contraction · (trust · A⁻¹P·δ(z) + weight · R⁻¹ε).

    δ is what the model decodes, as coefficients. A⁻¹Pδ is the kriging correction (`krige`) of the mean with δ added
    towards the mean's own visible part, in closed form: with A = P + JᵀWJ, δ - A⁻¹JᵀWJδ = A⁻¹Pδ. Where samples are held
    together, what is added to the mean goes through `Hold`. The less usual the visible part
    (`Posterior.prior_widening`), the less the model is trusted, which saw usual heads only: its part shrinks, and the
    closed form's own spread comes back. Where something is pinned, `Kept` stands in the places of mean and R⁻¹, and the
    model is told that it is visible.
    """

    model: ResidualModel
    """The trained model."""
    condition: Condition | ComponentCondition
    """What the model makes of the posterior mean and the visible part."""
    hold: Hold | None
    """What holds samples together where visible; None where the closed form's own agreement does."""

    @property
    def latent_size(self) -> int:
        """Numbers in a latent of the model and the posterior's noise."""
        return math.prod(self.model.model.latent_shape) + self.posterior.mean.size

    def draw(self, count: int, *, key: PRNGKeyArray) -> Float[Array, "N L"]:
        """Latents of the model's prior with the posterior's noise beside them."""

        def one(key: PRNGKeyArray) -> Float[Array, " L"]:
            z_key, noise_key = jax.random.split(key)
            z = self.condition.prior.sample(key=z_key)
            return jnp.concatenate([z.reshape(-1), jax.random.normal(noise_key, self.posterior.mean.shape, z.dtype)])

        return jax.vmap(one)(jax.random.split(key, count))

    def point(self, latent: Float[Array, " L"]) -> Float[Array, " D"]:
        """The posterior's vector at a latent."""
        posterior = self.posterior
        size = latent.size - posterior.mean.size
        z = latent[:size].reshape(self.model.model.latent_shape)
        delta = self.model.coefficients(z, self.condition)
        # P is the identity but where the prior was widened; the rigid motion has no part in δ.
        prior = posterior.root[: delta.size] ** 2
        free = jnp.zeros_like(posterior.mean).at[: delta.size].set(prior * self.trust * delta)
        right = jax.scipy.linalg.solve_triangular(posterior.factor, free, trans=1, lower=False)
        weight = 1.0 - self.trust * (1.0 - self.condition.share)
        right = right + weight * latent[size:]
        if self.kept is not None:
            return self.mean + self.contraction * (self.kept.spread @ right)
        off = jax.scipy.linalg.solve_triangular(posterior.factor, right, lower=False)
        if self.hold is not None:
            off = self.hold(off)
        return posterior.mean + self.contraction * off

    def points(self, latents: Float[Array, "N L"]) -> Float[Array, "N D"]:
        """The posterior's vectors at latents."""
        return jax.lax.map(self.point, latents, batch_size=32)

    def decode(self, latent: Float[Array, " L"]) -> Float[Array, "V 3"]:
        """Vertices in metres, in the fit's head frame."""
        return head_vertices(self.head, self.point(latent))

    @property
    def trust(self) -> Float[Array, ""]:
        """How much of the model's part is taken: 1 for usual faces."""
        return 1.0 / (self.posterior.prior_widening * self.posterior.noise_widening) ** 2


def hybrid_sampler(
    head: HeadModel,
    fit: Fit,
    posterior: Posterior,
    model: ResidualModel,
    hold: Hold | None,
    contraction: float = 1.0,
    kept: Kept | None = None,
) -> HybridSampler:
    """The sampler of a fit; the conditioning network runs once."""
    mean = posterior.mean if kept is None else kept.mean
    # Drawn together to where the heads lie that the model was trained on.
    condition = model.condition(head, mean / posterior.prior_widening, fit.visible)
    return HybridSampler(head, fit, posterior, contraction, kept, model, condition, hold)


def all_vertices(head: HeadModel, points: Float[Array, "N D"]) -> Float[Array, "N V 3"]:
    """Vertices of many points, a bounded number at a time so that skinning's intermediates stay small."""
    return jax.lax.map(lambda point: head_vertices(head, point), points, batch_size=64)
