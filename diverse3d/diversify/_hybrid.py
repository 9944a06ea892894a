"""Ours: the closed-form posterior, what a residual model adds to it, the kriging correction, and a selection."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from meshvae import Condition

from .._optimise import descend
from ._components import ComponentCondition
from ._config import DiversifyConfig
from ._gaussian import Posterior, head_vertices
from ._learned import Learned
from ._select import Choice, all_vertices, hidden_distance, most_diverse
from ._task import Samples, Task
from .dpp import dpp_loss, kernel, median_distance, quality, quality_threshold


class HybridDecoder(eqx.Module):
    """From a latent to a point of the posterior: mean + contraction · (trust · A⁻¹P·δ(z) + share · R⁻¹ε).

    δ is what the model decodes, as coefficients. A⁻¹Pδ is the kriging correction (`krige`) of the
    mean with δ added towards the mean's own visible part, in closed form: with A = P + JᵀWJ, δ - A⁻¹JᵀWJδ = A⁻¹Pδ.
    Where the task holds samples together, what is added to the mean goes through `Hold`. The less usual the visible
    part (`Posterior.prior_widening`), the less the model is trusted, which saw usual heads only: its part shrinks, and
    the closed form's own spread comes back.
    """

    task: Task
    """The fitted face with its posterior and residual model."""
    condition: Condition | ComponentCondition
    """What the model makes of the posterior mean and the visible part."""
    contraction: float = eqx.field(static=True, default=1.0)
    """How far samples are drawn together around the posterior mean, or apart."""

    def draw(self, *, key: PRNGKeyArray) -> Float[Array, " L"]:
        """A latent of the model's prior and of the posterior's noise."""
        z_key, noise_key = jax.random.split(key)
        z = self.condition.prior.sample(key=z_key)
        return jnp.concatenate([z.reshape(-1), jax.random.normal(noise_key, self._belief.mean.shape, z.dtype)])

    def point(self, latent: Float[Array, " L"]) -> Float[Array, " D"]:
        """The posterior's vector at a latent."""
        learned, belief = self._learned, self._belief
        size = latent.size - belief.mean.size
        z = latent[:size].reshape(learned.model.latent_shape)
        delta = learned.coefficients(z, self.condition)
        # P is the identity but where the prior was widened; the rigid motion has no part in δ.
        free = jnp.zeros_like(belief.mean).at[: delta.size].set(belief.root[: delta.size] ** 2 * self.trust * delta)
        right = jax.scipy.linalg.solve_triangular(belief.factor, free, trans=1, lower=False)
        share = 1.0 - self.trust * (1.0 - self.condition.share)
        right = right + share * latent[size:]
        off = jax.scipy.linalg.solve_triangular(belief.factor, right, lower=False)
        if self.task.hold is not None:
            off = self.task.hold(off)
        return belief.mean + self.contraction * off

    def __call__(self, latent: Float[Array, " L"]) -> Float[Array, "V 3"]:
        """Vertices in metres, head frame."""
        return head_vertices(self.task.head, self.point(latent))

    @property
    def trust(self) -> Float[Array, ""]:
        """How much of the model's part is taken: 1 for usual faces."""
        return 1.0 / (self._belief.prior_widening * self._belief.noise_widening) ** 2

    @property
    def _belief(self) -> Posterior:
        assert self.task.belief is not None, "the method starts from the closed form"
        return self.task.belief

    @property
    def _learned(self) -> Learned:
        assert self.task.learned is not None, "the method needs a residual model"
        return self.task.learned


def hybrid_decoder(task: Task, contraction: float = 1.0) -> HybridDecoder:
    """The decoder of a task; the conditioning network runs once."""
    assert task.belief is not None and task.learned is not None
    # Drawn together to where the heads lie that the model was trained on.
    usual = task.belief.mean / task.belief.prior_widening
    condition = task.learned.condition(task.head, usual, task.fit.visible)
    return HybridDecoder(task, condition, contraction)


@eqx.filter_jit
def run_hybrid(task: Task, n: int, config: DiversifyConfig, *, key: PRNGKeyArray) -> Samples:
    """Independent samples. The pools that selections choose from may be held together besides (`Method.hold`)."""
    decode = hybrid_decoder(task, config.scale)
    latents, points = _pool(decode, n, key)
    return Samples(all_vertices(task.head, points), latents)


@eqx.filter_jit
def run_hybrid_dpp(task: Task, n: int, config: DiversifyConfig, *, key: PRNGKeyArray) -> Samples:
    """The most diverse `n` of a pool, which is first drawn together around the mean."""
    decode = hybrid_decoder(task, config.scale)
    latents, points = _pool(decode, config.pool_size(n), key)
    chosen = most_diverse(task.head, task.fit, points, n, config)
    if config.refine == 0:
        return Samples(all_vertices(task.head, points[chosen]), latents[chosen])
    refined = _refined(decode, latents[chosen], config)
    return Samples(all_vertices(task.head, jax.vmap(decode.point)(refined)), refined)


@eqx.filter_jit
def run_hybrid_choice(task: Task, n: int, config: DiversifyConfig, *, choose: Choice, key: PRNGKeyArray) -> Samples:
    """The `n` points that `choose` makes of a pool; they are no decoded latents, so their latents are coefficients."""
    _, points = _pool(hybrid_decoder(task, config.scale), config.pool_size(n), key)
    chosen = choose(task.head, task.fit, points, n)
    return Samples(all_vertices(task.head, chosen), chosen[:, : task.head.n_components])


def _refined(decode: HybridDecoder, latents: Float[Array, "n L"], config: DiversifyConfig) -> Float[Array, "n L"]:
    """Latents pushed apart where hidden by the DPP loss: Algorithm 2 without its visible term, since every latent
    decodes to a head that agrees with the visible part. Quality keeps a latent within what is likely."""
    threshold = jnp.asarray(quality_threshold(latents.shape[1], config.n_sigma), latents.dtype)
    prior, rest = decode.condition.prior, latents.shape[1] - decode.condition.prior.mean.size
    centre = jnp.concatenate([prior.mean.reshape(-1), jnp.zeros(rest, latents.dtype)])
    width = jnp.concatenate([jnp.exp(0.5 * prior.log_variance).reshape(-1), jnp.ones(rest, latents.dtype)])
    start = (latents - centre[None, :]) / width[None, :]

    def apart(white: Float[Array, "n L"]) -> Float[Array, "n n"]:
        return hidden_distance(decode.task.fit, jax.vmap(decode)(centre[None, :] + width[None, :] * white))

    scale = median_distance(apart(start))

    def loss(white: Float[Array, "n L"]) -> Float[Array, ""]:
        return dpp_loss(kernel(apart(white), quality(jnp.sum(white**2, axis=1), threshold), k=config.k, scale=scale))

    best = descend(loss, start, optax.adam(config.refine_rate), steps=config.refine, tolerance=config.tolerance).value
    return centre[None, :] + width[None, :] * best


def _pool(decode: HybridDecoder, count: int, key: PRNGKeyArray) -> tuple[Float[Array, "N L"], Float[Array, "N D"]]:
    latents = jax.vmap(lambda one: decode.draw(key=one))(jax.random.split(key, count))
    return latents, jax.lax.map(decode.point, latents, batch_size=32)
