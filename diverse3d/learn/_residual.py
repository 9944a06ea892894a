"""Examples for the residual model: what the closed-form posterior mean leaves over, on heads of the population."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from meshvae import Corrector, Examples, Source

from ..diversify import N_RIGID, coefficient_dual, observed_vertices, prior_root
from ..fit import NoiseModel
from ..head import HeadModel
from ..observe import correlated_error

DrawHeads = Callable[[int, PRNGKeyArray], Float[Array, "B V 3"]]
"""(count, key) → vertices of heads in metres."""

_ERROR_FIELDS, _HELD_FIELDS = 1024, 128
"""Simulated error fields to train and to validate on, mixed in pairs. With a few dozen a network learns the fields by
heart and takes them off, which looks like a gain until it meets new ones."""


class Linearised(eqx.Module):
    """The head linearised at its mean: what a posterior works with, the same for every example."""

    centre_m: Float[Array, " C"]
    """Vertices of the mean head, flattened; C = 3V."""
    jacobian_m: Float[Array, "D C"]
    """Metres a unit of each unknown: coefficients, joints, rigid motion, patterns of the noise."""
    shape_m: Float[Array, "R C"]
    """Its rows that belong to the head: all but the noise's patterns."""
    dual: Float[Array, "C K"]
    """From offsets in metres to the coefficients nearest in least squares."""
    root: Float[Array, " D"]
    """Square root of each unknown's prior precision."""
    weight: Float[Array, " C"]
    """One over the noise's variance at each coordinate, in 1/m²."""


class HeadCorrector(eqx.Module):
    """The kriging correction and the posterior's spread, as linear maps (`diversify.krige` for one head at a time).

    A residual is read as coefficients δ; conditioning them on a visible part that the closed form already explains
    leaves A⁻¹Pδ, with A the posterior precision and P the prior's (the identity for coefficients).
    """

    shape: Float[Array, "R C"]
    """Units of residuals a unit of each unknown, flattened vertices."""
    dual: Float[Array, "C K"]
    """From residuals to coefficients."""

    def __call__(self, correction: Float[Array, "R R"], residual: Float[Array, "V 3"]) -> Float[Array, "V 3"]:
        """The part of a residual that the visible part leaves free; `correction` is L with LLᵀ = A⁻¹."""
        return (self._free(correction, residual) @ self.shape).reshape(residual.shape)

    def draw(
        self,
        correction: Float[Array, "R R"],
        residual: Float[Array, "V 3"],
        share: Float[Array, ""],
        *,
        key: PRNGKeyArray,
    ) -> Float[Array, "V 3"]:
        """The same plus `share` times a draw of the posterior's spread."""
        noise = jax.random.normal(key, correction.shape[:1], residual.dtype)
        point = self._free(correction, residual) + share * (correction @ noise)
        return (point @ self.shape).reshape(residual.shape)

    def _free(self, factor: Float[Array, "R R"], residual: Float[Array, "V 3"]) -> Float[Array, " R"]:
        delta = residual.reshape(-1) @ self.dual
        return factor @ (factor[: delta.size].T @ delta)


class Views(eqx.Module):
    """Masks with the closed form's solution for each."""

    visible: Bool[Array, "M V"]
    """What is seen."""
    factor: Float[Array, "M D R"]
    """L with LLᵀ = A⁻¹, the posterior covariance: its columns that bear on the head's own R unknowns."""


def linearise(head: HeadModel, noise: NoiseModel) -> Linearised:
    """The Jacobian of the observed vertices at the mean head."""
    root = prior_root(head, noise)
    count = root.size - noise.factors_m.shape[0]

    def observed(point: Float[Array, " D"]) -> Float[Array, " C"]:
        return observed_vertices(head, noise, point)

    at = jnp.zeros(root.size, head.dtype)
    jacobian = jax.jit(jax.jacfwd(observed))(at).T
    return Linearised(
        centre_m=observed(at),
        jacobian_m=jacobian,
        shape_m=jacobian[:count],
        dual=coefficient_dual(head),
        root=root,
        weight=jnp.repeat(1.0 / noise.sigma_m**2, 3),
    )


def make_views(
    linear: Linearised,
    noise: NoiseModel,
    hidden: Bool[np.ndarray, "M V"],
    *,
    report: Callable[[int, int], None] = lambda done, of: None,
) -> Views:
    """Solve the closed form for each mask, in double precision where its condition number asks for it."""
    root, kept = np.asarray(linear.root, np.float64), linear.shape_m.shape[0]
    factors = np.empty((len(hidden), len(root), kept), np.asarray(linear.jacobian_m).dtype)
    for number, mask in enumerate(hidden):
        rows, _, _ = weighted_rows(linear, noise, mask)
        normal = (rows @ rows.T).astype(np.float64) + np.diag(root**2)
        # Factored from the last unknown to the first, A = WWᵀ with W upper triangular: L = W⁻ᵀ is lower triangular.
        upper = scipy.linalg.cholesky(normal[::-1, ::-1], lower=True)[::-1, ::-1]
        factors[number] = scipy.linalg.solve_triangular(upper, np.eye(len(root)), trans="T")[:, :kept]
        report(number + 1, len(hidden))
    return Views(visible=jnp.asarray(~hidden), factor=jnp.asarray(factors))


def weighted_rows(
    linear: Linearised, noise: NoiseModel, hidden: Bool[np.ndarray, " V"]
) -> tuple[Float[np.ndarray, "D c"], Float[np.ndarray, " c"], Int[np.ndarray, " c"]]:
    """The Jacobian's columns of visible coordinates over their noise; one over that noise; which coordinates."""
    jacobian = np.asarray(linear.jacobian_m)
    seen = np.flatnonzero(np.repeat(~hidden, 3))
    weight = np.repeat(1.0 / np.asarray(noise.sigma_m, np.float64), 3)[seen].astype(jacobian.dtype)
    return jacobian[:, seen] * weight, weight, seen


class ResidualSource(eqx.Module):
    """Heads of the population, each behind one of the views, completed in closed form."""

    draw: DrawHeads = eqx.field(static=True)
    """Heads to train on."""
    held_back_m: Float[np.ndarray, "H V 3"]
    """Heads to validate on, metres."""
    linear: Linearised
    """The linearised head."""
    views: Views
    """Masks to train on."""
    held_views: Views
    """Masks to validate on."""
    errors_m: Float[Array, "E C"]
    """Simulated error fields of the visible part to train on; none where the setting has none."""
    held_errors_m: Float[Array, "F C"]
    """Others to validate on."""
    template_m: Float[Array, "V 3"]
    """What offsets are measured from."""
    scale_m: float = eqx.field(static=True)
    """Unit of offsets."""
    residual_scale_m: float = eqx.field(static=True)
    """Unit of residuals."""
    batch: int = eqx.field(static=True, default=16)
    """Size of the validation batches."""

    @property
    def corrector(self) -> HeadCorrector:
        """The kriging correction."""
        unit = self.residual_scale_m
        return HeadCorrector(self.linear.shape_m / unit, self.linear.dual * unit)

    def examples(self, count: int, *, progress: float, key: PRNGKeyArray) -> Examples:
        """Heads from the sampler, each behind a view of its own; masks don't grow with `progress`."""
        del progress
        heads_key, view_key = jax.random.split(key)
        return _complete(self, self.views, self.errors_m, self.draw(count, heads_key), key=view_key)

    def validation(self) -> list[Examples]:
        """The held-back heads behind the held-back views; what does not fill a batch is left out."""
        batches = []
        for number in range(len(self.held_back_m) // self.batch):
            heads = jnp.asarray(
                self.held_back_m[number * self.batch : (number + 1) * self.batch], self.template_m.dtype
            )
            key = jax.random.fold_in(jax.random.key(0), number)
            batches.append(_complete(self, self.held_views, self.held_errors_m, heads, key=key))
        return batches


class Mixture(eqx.Module):
    """Examples of several settings in turn."""

    sources: tuple[Source, ...]
    """One a setting, of the same head, scales and batch."""

    @property
    def corrector(self) -> Corrector | None:
        """The kriging correction, which does not depend on the setting; None where the examples hold all."""
        return self.sources[0].corrector

    def examples(self, count: int, *, progress: float, key: PRNGKeyArray) -> Any:
        """A batch of one setting, drawn by the key."""
        pick_key, key = jax.random.split(key)
        chosen = self.sources[int(jax.random.randint(pick_key, (), 0, len(self.sources)))]
        return chosen.examples(count, progress=progress, key=key)

    def validation(self) -> list[Any]:
        """All settings' batches."""
        return [batch for source in self.sources for batch in source.validation()]


def error_fields(head: HeadModel, setting: str, *, held_back: bool = False) -> Float[Array, "E C"]:
    """Simulated errors of the setting, metres: none in `exact`."""
    count = _HELD_FIELDS if held_back else _ERROR_FIELDS
    key = jax.random.key(8 if held_back else 7)
    keys = [] if setting == "exact" else [jax.random.fold_in(key, number) for number in range(count)]
    fields = [correlated_error(head, key=one).reshape(-1) for one in keys]
    return jnp.asarray(np.stack(fields) if fields else np.zeros((0, head.n_vertices * 3)), head.dtype)


def posterior_means(
    source: ResidualSource,
    views: Views,
    errors_m: Float[Array, "E C"],
    heads_m: Float[Array, "B V 3"],
    *,
    key: PRNGKeyArray,
) -> tuple[Float[Array, "B C"], Int[Array, " B"], Float[Array, "B R"], Float[Array, "B R R"]]:
    """Heads behind random views, completed: flattened vertices, views, posterior means in the head's own unknowns, and
    the factors L of their posterior covariances."""
    linear, count = source.linear, heads_m.shape[0]
    pick_key, error_key, turn_key = jax.random.split(key, 3)
    row = jax.random.randint(pick_key, (count,), 0, views.visible.shape[0])
    flat = heads_m.reshape(count, -1)
    given = flat
    if len(errors_m):
        pair = jax.random.randint(error_key, (count, 2), 0, len(errors_m))
        angle = 2.0 * jnp.pi * jax.random.uniform(turn_key, (count, 1), flat.dtype)
        first, second = errors_m[pair[:, 0]], errors_m[pair[:, 1]]
        given = flat + jnp.cos(angle) * first + jnp.sin(angle) * second
    visible = views.visible[row]
    weight = linear.weight[None, :] * jnp.repeat(visible.astype(flat.dtype), 3, axis=1)
    evidence = (weight * (given - linear.centre_m[None, :])) @ linear.jacobian_m.T
    factor = views.factor[row]
    own = factor[:, : factor.shape[2]]
    mean = jnp.einsum("bij,bkj,bk->bi", own, factor, evidence)
    return flat, row, mean, own


@eqx.filter_jit
def _complete(
    source: ResidualSource,
    views: Views,
    errors_m: Float[Array, "E C"],
    heads_m: Float[Array, "B V 3"],
    *,
    key: PRNGKeyArray,
) -> Examples:
    linear = source.linear
    flat, row, mean, factor = posterior_means(source, views, errors_m, heads_m, key=key)
    base = linear.centre_m[None, :] + mean @ linear.shape_m
    # Without its rigid motion, as a fit has it: where the population's heads lie would tell the posterior's error.
    unmoved = base - mean[:, -N_RIGID:] @ linear.shape_m[-N_RIGID:]
    return Examples(
        target=((flat - base) / source.residual_scale_m).reshape(heads_m.shape),
        visible=views.visible[row],
        base=(unmoved.reshape(heads_m.shape) - source.template_m[None]) / source.scale_m,
        correction=factor,
    )
