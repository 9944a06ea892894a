"""The published method: N latents optimised together from around the fit (Dey and Boddeti, 2022, Algorithm 2), over
the latents of a masked VAE or the coefficients of a linear head."""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from .._methods import Algorithm2Config, KernelConfig
from .._optimise import descend
from ..fit import Fit, SeenPixels, canonical
from ._choice import Choice
from ._learned import MaskedModel
from ._samplers import Sampler, Samples
from .dpp import dpp_loss, kernel, pairwise_distance, quality, quality_threshold

CHUNK = 32
"""Samples decoded at a time: what bounds the memory of a step."""


class LatentSampler(Sampler):
    """A sampler that starts from the fit alone, of whose latents the likely ones are known."""

    @abc.abstractmethod
    def threshold(self, config: KernelConfig) -> float:
        """‖z‖² from which the quality of a latent falls."""


class VaeSampler(LatentSampler):
    """Samples of q(z | visible part): the fitted mesh with its hidden vertices zeroed goes through the encoder."""

    model: MaskedModel
    """The masked VAE."""

    @property
    def latent_size(self) -> int:
        """Numbers in a latent."""
        return self.model.latent_size

    def draw(self, count: int, *, key: PRNGKeyArray) -> Float[Array, "N L"]:
        """Samples of the encoder."""
        latent = self.model.encode(self.fit.held_m, self.fit.visible)
        return jax.vmap(lambda one: latent.sample(key=one).reshape(-1))(jax.random.split(key, count))

    def decode(self, latent: Float[Array, " L"]) -> Float[Array, "V 3"]:
        """Vertices in metres, in the fit's head frame."""
        return self.model.decode(latent.reshape(self.model.model.latent_shape))

    def heads(self, latents: Float[Array, "N L"]) -> Float[Array, "N V 3"]:
        """Vertices in metres; a gradient through many is computed piece by piece."""
        if latents.shape[0] <= CHUNK:
            return jax.vmap(self.decode)(latents)
        # A function of its own: jax.checkpoint hashes what it is given, and a module of traced arrays has no hash.
        return jax.lax.map(jax.checkpoint(lambda one: self.decode(one)), latents, batch_size=CHUNK)

    def threshold(self, config: KernelConfig) -> float:
        """As the training heads' latents tell."""
        return self.model.threshold(config.n_sigma, literal=config.literal_quality)


class CoefficientSampler(LatentSampler):
    """Coefficients less their mean, with the fit's joints."""

    spread: float = eqx.field(static=True)
    """Standard deviation around the fit's coefficients."""

    @property
    def latent_size(self) -> int:
        """Coefficients of the head."""
        return self.head.n_components

    def draw(self, count: int, *, key: PRNGKeyArray) -> Float[Array, "N K"]:
        """Coefficients around the fit's."""
        noise = jax.random.normal(key, (count, self.head.n_components), self.head.dtype)
        return self.fit.unknowns.z[None, :] + self.spread * noise

    def decode(self, latent: Float[Array, " K"]) -> Float[Array, "V 3"]:
        """Vertices in metres, in the fit's head frame."""
        return canonical(self.head, eqx.tree_at(lambda u: u.z, self.fit.unknowns, latent))

    def heads(self, latents: Float[Array, "N K"]) -> Float[Array, "N V 3"]:
        """The same of many at once."""
        return jax.vmap(self.decode)(latents)

    def threshold(self, config: KernelConfig) -> float:
        """As a standard normal prior tells."""
        return quality_threshold(self.head.n_components, config.n_sigma, literal=config.literal_quality)


class Algorithm2(Choice[LatentSampler]):
    """N latents optimised together, from draws."""

    n: int = eqx.field(static=True)
    """Completions."""
    config: Algorithm2Config = eqx.field(static=True)
    """Its settings."""
    kernel: KernelConfig = eqx.field(static=True)
    """Those of similarity and quality."""
    pixels: SeenPixels | None = None
    """What a photo shows of the fit; None for a mesh, and where the photometric term is left out."""

    def __call__(self, sampler: LatentSampler, *, key: PRNGKeyArray) -> Samples:
        """Heads, and the latents that were reached."""
        config, begin = self.config, sampler.draw(self.n, key=key)
        reached = descend(
            lambda z: self.loss(sampler, z), begin, self.optimiser, steps=config.steps, tolerance=config.tolerance
        )
        return sampler.samples(reached.value)

    def loss(self, sampler: LatentSampler, z: Float[Array, "N L"]) -> Float[Array, ""]:
        """The loss of latents."""
        points = sampler.heads(z).reshape(z.shape[0], -1)
        return self.loss_of(points, z, sampler.fit, sampler.threshold(self.kernel))

    def loss_of(
        self, points_m: Float[Array, "N C"], z: Float[Array, "N L"], fit: Fit, threshold: float
    ) -> Float[Array, ""]:
        """λ1 · visible L1 + λ2 · photometric + λ3 · L_dpp of N heads (flattened vertices, metres) and their latents.

        The visible L1, against what the fit is held to, is the mean over samples, visible vertices and coordinates, in
        metres. The photometric term, for a photo alone, is the mean of `SeenPixels` over samples. Quality falls where
        ‖z‖² passes the threshold.

        The paper gives no units. We read both data terms as means, so that neither grows with mesh or picture: under
        λ1 = 1000 a millimetre everywhere is worth 1; under λ2 = 500 a change by 0.05 of every colour, on a face that
        fills a quarter of the crop, is worth 0.3. As a mean over the face's pixels alone λ2 would outweigh L_dpp, whose
        range is λ3 · N / 2: the samples would chase what skin and light leave unexplained, and draw together where
        hidden.
        """
        seen = jnp.repeat(fit.visible.astype(points_m.dtype), 3)
        off = jnp.sum(jnp.abs(points_m - fit.held_m.reshape(1, -1)) * seen[None, :])
        off = off / (z.shape[0] * jnp.maximum(jnp.sum(seen), 1.0))
        distance = pairwise_distance(points_m, 1.0 - seen)
        qualities = quality(jnp.sum(z**2, axis=1), jnp.asarray(threshold, points_m.dtype))
        spread = dpp_loss(kernel(distance, qualities, k=self.kernel.k))
        loss = self.config.visible_weight * off + self.config.dpp_weight * spread
        if self.pixels is None:
            return loss
        heads = points_m.reshape(z.shape[0], -1, 3)
        return loss + self.config.photometric_weight * jnp.mean(jax.vmap(self.pixels)(heads))

    @property
    def optimiser(self) -> optax.GradientTransformation:
        """Adam, or the paper's SGD."""
        return (optax.sgd if self.config.sgd else optax.adam)(self.config.learning_rate)
