"""Training of the component model: heads as weights of a basis, masks with the closed form as a matrix for each."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from meshvae import Terms

from ..diversify import ComponentModel
from ..fit import NoiseModel
from ._bank import Basis
from ._residual import Linearised, weighted_rows

HEADS_A_VIEW = 8
"""Heads of a batch that share a mask: a mask's matrices are large, and reading them is what takes time."""


class ComponentExamples(eqx.Module):
    """Heads behind one mask, completed in closed form, in the head's own R unknowns."""

    mean: Float[Array, "*B H R"]
    """Posterior means."""
    visible: Bool[Array, "*B V"]
    """What is seen."""
    factor: Float[Array, "*B R R"]
    """L with LLᵀ = A⁻¹, the posterior covariance."""
    metric: Float[Array, "*B R R"]
    """G with ‖G p‖ = RMS displacement of the hidden vertices by unknowns p, in mm."""
    error: Float[Array, "*B H R"]
    """G (truth - mean), the truth read as the coefficients nearest to it."""


class ComponentViews(eqx.Module):
    """Masks with the closed form for each, as linear maps of a head's weights."""

    visible: Bool[Array, "M V"]
    """What is seen."""
    mean: Float[Array, "M R Q"]
    """From weights of a basis to posterior means."""
    error: Float[Array, "M E R"]
    """From E standard normals to what the setting's error field adds to a posterior mean; E = 0 without one."""
    factor: Float[Array, "M R R"]
    """See `ComponentExamples`."""
    metric: Float[Array, "M R R"]
    """See `ComponentExamples`."""
    n_components: int = eqx.field(static=True)
    """The first of a basis's weights, which are unknowns of the head."""


class ComponentSource(eqx.Module):
    """Heads of a bank, each behind one of the views."""

    bank: Float[Array, "N Q"]
    """Heads to train on, as weights of a basis."""
    held_bank: Float[Array, "P Q"]
    """Heads to validate on."""
    views: ComponentViews
    """Masks to train on."""
    held_views: ComponentViews
    """Masks to validate on."""
    batch: int = eqx.field(static=True)
    """Heads in a validation batch."""

    @property
    def corrector(self) -> None:
        """The examples hold all that is needed."""
        return None

    def examples(self, count: int, *, progress: float, key: PRNGKeyArray) -> ComponentExamples:
        """Heads of the bank, `count` or the next lower multiple of eight; eight share a mask."""
        del progress
        return _drawn(self.views, self.bank, grouping(count), key)

    def validation(self) -> list[ComponentExamples]:
        """The held-back heads behind the held-back views; what does not fill a batch is left out."""
        groups, heads = grouping(self.batch)
        size = groups * heads
        batches = [
            self.held_bank[start : start + size].reshape(groups, heads, -1)
            for start in range(0, len(self.held_bank) - size + 1, size)
        ]
        keys = [jax.random.fold_in(jax.random.key(0), number) for number in range(len(batches))]
        return [behind(self.held_views, batch, key=key) for batch, key in zip(batches, keys, strict=True)]


def grouping(count: int) -> tuple[int, int]:
    """Masks in a batch, and heads behind each."""
    heads = min(HEADS_A_VIEW, count)
    return count // heads, heads


def component_views(
    linear: Linearised,
    noise: NoiseModel,
    basis: Basis,
    hidden: Bool[np.ndarray, "M V"],
    errors_m: Float[np.ndarray, "F C"],
    *,
    report: Callable[[int, int], None] = lambda done, of: None,
) -> ComponentViews:
    """Solve the closed form for each mask. The error's fields are Gaussian, so their effect on a mean is one, with
    the fields' covariance: any number can be drawn and none be learnt by heart."""
    kept, count, kind = linear.shape_m.shape[0], len(hidden), np.asarray(linear.shape_m).dtype
    rows_m, shape_mm = np.asarray(basis.rows_m), 1e3 * np.asarray(linear.shape_m)
    mean, factor = np.empty((count, kept, len(rows_m)), kind), np.empty((count, kept, kept), kind)
    error, metric = np.empty((count, min(len(errors_m), kept), kept), kind), np.empty_like(factor)
    for number, mask in enumerate(hidden):
        rows, weight, seen = weighted_rows(linear, noise, mask)
        rows = rows.astype(np.float64)  # where noise is small, squares leave single precision nothing of the prior
        normal = rows @ rows.T + np.diag(np.asarray(linear.root, np.float64) ** 2)
        # Factored from the last unknown to the first, A = WWᵀ with W upper triangular: L = W⁻ᵀ is lower triangular, and
        # so is the factor of a leading block of A⁻¹ = LLᵀ; the inverse itself has lost too many digits to be factored.
        upper = scipy.linalg.cholesky(normal[::-1, ::-1], lower=True)[::-1, ::-1]
        lower = scipy.linalg.solve_triangular(upper, np.eye(len(normal)), trans="T")[:, :kept]
        factor[number] = lower[:kept]
        pulled = lower.T @ rows
        mean[number] = lower[:kept] @ (pulled @ (rows_m[:, seen] * weight).T)
        if len(errors_m):
            pull = lower[:kept] @ (pulled @ (errors_m[:, seen] * weight).T)
            error[number] = np.linalg.qr(pull.T / np.sqrt(len(errors_m)), mode="r")
        metric[number] = _metric(shape_mm[:, np.repeat(mask, 3)])
        report(number + 1, count)
    return ComponentViews(
        visible=jnp.asarray(~hidden),
        mean=jnp.asarray(mean),
        error=jnp.asarray(error),
        factor=jnp.asarray(factor),
        metric=jnp.asarray(metric),
        n_components=linear.dual.shape[1],
    )


def _metric(rows_mm: Float[np.ndarray, "R h"]) -> Float[np.ndarray, "R R"]:
    rows = rows_mm.astype(np.float64)
    gram = rows @ rows.T / max(rows.shape[1] // 3, 1)
    # What moves nothing hidden has no distance; a little keeps the factor from failing there.
    gram += (1e-8 * np.trace(gram) + 1e-12) * np.eye(len(gram))
    return scipy.linalg.cholesky(gram)


@eqx.filter_jit
def _drawn(
    views: ComponentViews, bank: Float[Array, "N Q"], groups: tuple[int, int], key: PRNGKeyArray
) -> ComponentExamples:
    pick_key, key = jax.random.split(key)
    return behind(views, bank[jax.random.randint(pick_key, groups, 0, bank.shape[0])], key=key)


@eqx.filter_jit
def behind(views: ComponentViews, weights: Float[Array, "G H Q"], *, key: PRNGKeyArray) -> ComponentExamples:
    """Heads behind random views, a view a group, completed."""
    view_key, error_key = jax.random.split(key)
    row = jax.random.randint(view_key, weights.shape[:1], 0, views.visible.shape[0])
    noise = jax.random.normal(error_key, (*weights.shape[:2], views.error.shape[1]), weights.dtype)
    mean = jnp.einsum("grq,ghq->ghr", views.mean[row], weights) + jnp.einsum("ghe,ger->ghr", noise, views.error[row])
    components = weights[:, :, : views.n_components]
    unturned = jnp.zeros((*components.shape[:2], mean.shape[2] - views.n_components), mean.dtype)
    off = jnp.concatenate([components, unturned], axis=2) - mean
    return ComponentExamples(
        mean=mean,
        visible=views.visible[row],
        factor=views.factor[row],
        metric=views.metric[row],
        error=jnp.einsum("grs,ghs->ghr", views.metric[row], off),
    )


def component_scores(
    model: ComponentModel, of: ComponentExamples, *, samples: int, key: PRNGKeyArray
) -> tuple[Float[Array, " H"], Float[Array, " H"], Float[Array, "H L"]]:
    """Energy scores over hidden vertices of samples for the heads behind one mask, in mm, without bias from two samples
    or more; how far the samples' means are off; and how far the prior's mean is, in its deviations."""

    def score(
        mean: Float[Array, " R"], error: Float[Array, " R"], key: PRNGKeyArray
    ) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, " L"]]:
        condition = model.condition(mean, of.visible)

        def draw(key: PRNGKeyArray) -> Float[Array, " R"]:
            latent_key, spread_key = jax.random.split(key)
            delta = model.decode_conditioned(condition.prior.sample(key=latent_key), condition)
            noise = jax.random.normal(spread_key, mean.shape, mean.dtype)
            free = of.factor[: delta.size].T @ delta + condition.share * noise
            return of.metric @ (of.factor @ free)

        drawn = jax.vmap(draw)(jax.random.split(key, samples))
        to_truth = jnp.sqrt(jnp.sum((drawn - error[None, :]) ** 2, axis=1) + _TINY)
        apart = jnp.sqrt(jnp.sum((drawn[:, None] - drawn[None]) ** 2, axis=2) + _TINY) * (1.0 - jnp.eye(samples))
        value = jnp.mean(to_truth) - 0.5 * jnp.sum(apart) / (samples * (samples - 1))
        off = jnp.sqrt(jnp.sum((jnp.mean(drawn, axis=0) - error) ** 2))
        prior = condition.prior
        return value, off, (prior.mean * jnp.exp(-0.5 * prior.log_variance))[0]

    return jax.vmap(score)(of.mean, of.error, jax.random.split(key, len(of.mean)))


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
        """Mean of `component_scores`."""
        score, off, shift = component_scores(self.network, one, samples=samples, key=key)
        zero = jnp.zeros((), score.dtype)
        shift = jnp.mean(shift, axis=0, keepdims=True)
        return jnp.mean(score), Terms(zero, zero, jnp.mean(off), zero, zero, jnp.zeros_like(shift), shift)
