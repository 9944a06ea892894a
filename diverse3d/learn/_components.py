"""Training of the component model: examples as unknowns of the head, distances by the Gram matrix of what is hidden."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from meshvae import Terms

from ..diversify import ComponentModel
from ._residual import ResidualSource, Views, posterior_means


class ComponentExamples(eqx.Module):
    """A batch of completions in closed form, in the head's own R unknowns."""

    mean: Float[Array, "B R"]
    """Posterior means."""
    visible: Bool[Array, "B V"]
    """What is seen of each."""
    factor: Float[Array, "B R R"]
    """L with LLᵀ = A⁻¹."""
    metric: Float[Array, "B R R"]
    """G with ‖G p‖ = RMS displacement of the hidden vertices by unknowns p, in the unit of residuals."""
    error: Float[Array, "B R"]
    """G (truth - mean), the truth read as the coefficients nearest to it."""


class ComponentSource(eqx.Module):
    """The residual source's examples, without their vertices."""

    of: ResidualSource
    """Heads, masks, noise."""
    metric: Float[Array, "M R R"]
    """The metric of each training view."""
    held_metric: Float[Array, "N R R"]
    """The same of the held-back views."""

    @property
    def corrector(self) -> None:
        """The examples hold all that is needed."""
        return None

    def examples(self, count: int, *, progress: float, key: PRNGKeyArray) -> ComponentExamples:
        """Heads from the sampler, each behind a view of its own."""
        del progress
        heads_key, view_key = jax.random.split(key)
        heads = self.of.draw(count, heads_key)
        return _examples(self.of, self.of.views, self.of.errors_m, self.metric, heads, key=view_key)

    def validation(self) -> list[ComponentExamples]:
        """The held-back heads behind the held-back views."""
        held = self.of.held_views, self.of.held_errors_m, self.held_metric
        return [_examples(self.of, *held, heads, key=key) for heads, key in self.of.held_batches()]


def component_source(source: ResidualSource) -> ComponentSource:
    """The same examples in unknowns."""
    shape = np.asarray(source.linear.shape_m, np.float64) / source.residual_scale_m
    metrics = [_metrics(shape, np.asarray(views.visible)) for views in (source.views, source.held_views)]
    return ComponentSource(source, *(jnp.asarray(one, source.template_m.dtype) for one in metrics))


def _metrics(shape: Float[np.ndarray, "R C"], visible: Bool[np.ndarray, "M V"]) -> Float[np.ndarray, "M R R"]:
    result = np.empty((len(visible), len(shape), len(shape)), np.float32)
    for number, seen in enumerate(visible):
        rows = shape[:, np.repeat(~seen, 3)]
        gram = rows @ rows.T / max(int((~seen).sum()), 1)
        # What moves nothing hidden has no distance; a little keeps the factor from failing there.
        gram += 1e-8 * np.trace(gram) * np.eye(len(gram))
        result[number] = scipy.linalg.cholesky(gram)
    return result


@eqx.filter_jit
def _examples(
    source: ResidualSource,
    views: Views,
    errors_m: Float[Array, "E C"],
    metric: Float[Array, "M R R"],
    heads_m: Float[Array, "B V 3"],
    *,
    key: PRNGKeyArray,
) -> ComponentExamples:
    flat, row, mean, factor = posterior_means(source, views, errors_m, heads_m, key=key)
    coefficients = (flat - source.linear.centre_m[None, :]) @ source.linear.dual
    rest = jnp.zeros((flat.shape[0], mean.shape[1] - coefficients.shape[1]), flat.dtype)
    off = jnp.concatenate([coefficients, rest], axis=1) - mean
    return ComponentExamples(
        mean=mean,
        visible=views.visible[row],
        factor=factor,
        metric=metric[row],
        error=jnp.einsum("bij,bj->bi", metric[row], off),
    )


def component_loss(
    model: ComponentModel, one: ComponentExamples, *, samples: int, key: PRNGKeyArray
) -> tuple[Float[Array, ""], Terms]:
    """Energy score over hidden vertices of samples for one example, without bias from two samples or more."""
    condition = model.condition(one.mean, one.visible)

    def draw(key: PRNGKeyArray) -> Float[Array, " R"]:
        latent_key, spread_key = jax.random.split(key)
        delta = model.decode_conditioned(condition.prior.sample(key=latent_key), condition)
        noise = jax.random.normal(spread_key, one.mean.shape, one.mean.dtype)
        free = one.factor[: delta.size].T @ delta + condition.share * noise
        return one.metric @ (one.factor @ free)

    drawn = jax.vmap(draw)(jax.random.split(key, samples))
    to_truth = jnp.sqrt(jnp.sum((drawn - one.error[None, :]) ** 2, axis=1) + _TINY)
    apart = jnp.sqrt(jnp.sum((drawn[:, None] - drawn[None]) ** 2, axis=2) + _TINY) * (1.0 - jnp.eye(samples))
    score = jnp.mean(to_truth) - 0.5 * jnp.sum(apart) / (samples * (samples - 1))
    off = jnp.sqrt(jnp.sum((jnp.mean(drawn, axis=0) - one.error) ** 2))
    zero = jnp.zeros_like(score)
    prior = condition.prior
    shift = prior.mean * jnp.exp(-0.5 * prior.log_variance)
    return score, Terms(zero, zero, off, zero, zero, jnp.zeros_like(prior.mean), shift)


_TINY = 1e-8


class TrainedComponents(eqx.Module):
    """The model as the training loop sees it: it scores its own examples."""

    network: ComponentModel
    """The network."""

    @property
    def fingerprint(self) -> str:
        """The head that it belongs to."""
        return self.network.fingerprint

    @property
    def config(self) -> Any:
        """Its sizes."""
        return self.network.config

    def example_loss(
        self, one: ComponentExamples, *, samples: int, key: PRNGKeyArray
    ) -> tuple[Float[Array, ""], Terms]:
        """See `component_loss`."""
        return component_loss(self.network, one, samples=samples, key=key)
