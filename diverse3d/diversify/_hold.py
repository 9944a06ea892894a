"""The two maps that hold heads to what is seen: the kriging correction of any vertices, and the map that holds samples
together where visible."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..fit import Fit, NoiseModel
from ..head import HeadModel
from ._posterior import N_RIGID, Expansion, Posterior, expand


class Kriging(eqx.Module):
    """The correction for one fit, prepared once for any number of heads; `jax.vmap` it over them."""

    expansion: Expansion
    """The linearised head with the noise's weights and the prior."""
    factor: Float[Array, "D D"]
    """Upper triangle R with RᵀR = A, the posterior precision."""
    n_shape: int = eqx.field(static=True)
    """How many of the unknowns move the head: all but the noise's."""

    def __call__(self, vertices_m: Float[Array, "V 3"], held_m: Float[Array, "V 3"]) -> Float[Array, "V 3"]:
        """Vertices in metres, corrected towards `held_m` where visible; both in the fit's head frame and finite.

        Linear in `held_m - vertices_m`: vertices that agree already stay as they are, and so do all where nothing is
        visible.
        """
        off = self.expansion.weight((held_m - vertices_m).reshape(-1))
        step = self._solve(self._pull(off))
        # The normal equations lose half of single precision's digits; a step from what they left over brings them back.
        left = off - self.expansion.weight(self.expansion.jacobian_m @ step)
        step = step + self._solve(self._pull(left) - self.expansion.root**2 * step)
        return vertices_m + (self.expansion.jacobian_m[:, : self.n_shape] @ step[: self.n_shape]).reshape(
            vertices_m.shape
        )

    def _pull(self, weighted: Float[Array, " C"]) -> Float[Array, " D"]:
        """Jᵀ√W."""
        return self.expansion.weight(weighted) @ self.expansion.jacobian_m

    def _solve(self, right: Float[Array, " D"]) -> Float[Array, " D"]:
        """A⁻¹."""
        half = jax.scipy.linalg.solve_triangular(self.factor, right, trans=1, lower=False)
        return jax.scipy.linalg.solve_triangular(self.factor, half, lower=False)


@eqx.filter_jit
def kriging(head: HeadModel, fit: Fit, posterior: Posterior, noise: NoiseModel) -> Kriging:
    """The correction with the Jacobian, weights and prior of the `posterior` of this very fit and noise."""
    expansion = expand(head, fit, noise)
    expansion = dataclasses.replace(expansion, weight=expansion.weight / posterior.noise_widening, root=posterior.root)
    return Kriging(
        expansion=expansion, factor=posterior.factor, n_shape=expansion.point.size - noise.factors_m.shape[0]
    )


def krige(
    head: HeadModel,
    fit: Fit,
    posterior: Posterior,
    noise: NoiseModel,
    vertices_m: Float[Array, "V 3"],
    *,
    held_m: Float[Array, "V 3"] | None = None,
) -> Float[Array, "V 3"]:
    """Any vertices [V,3] (metres, head frame) corrected towards the held visible part: v + J_shape A⁻¹JᵀW(held - v).

    What is off on the visible part is read as unknowns of the linearised head, most likely a posteriori, and the whole
    head moves by them. `held_m` None is `fit.held_m`. Vertices of a prior sample become those of a posterior sample if
    a draw of the noise is taken off `held_m` (Matheron's rule). A head that the closed form has conditioned already,
    such as the posterior mean with something added, is held to that mean: give its vertices as `held_m`, or the data
    count twice. For many heads prepare once: `jax.vmap(kriging(…), (0, None))(vertices_m, held_m)`.
    """
    return kriging(head, fit, posterior, noise)(vertices_m, fit.held_m if held_m is None else held_m)


class Hold(eqx.Module):
    """A linear map of differences from the posterior mean.

    Along an eigenvector of the data's precision with eigenvalue d, in units of the prior's, a difference keeps
    1/(1 + d²): nearly all where the prior decides, nearly nothing where the data do. The kriging correction keeps
    1/(1 + d), which at equal agreement takes more of what is hidden. The rigid motion follows as it fits best.
    """

    axes: Float[Array, "S S"]
    """Rows: eigenvectors in units of the prior; S unknowns are coefficients and joints."""
    kept: Float[Array, " S"]
    """What a difference along each keeps."""
    root: Float[Array, " S"]
    """Square root of each unknown's prior precision."""
    follow: Float[Array, "6 S"]
    """The rigid motion that fits an unknown's visible part best."""

    def __call__(self, off: Float[Array, " D"]) -> Float[Array, " D"]:
        """A difference of two points of the posterior; without the noise's patterns, which are no part of the head."""
        size = self.root.size
        free = (self.axes.T @ (self.kept * (self.axes @ (self.root * off[:size])))) / self.root
        nothing = jnp.zeros_like(off)
        return nothing.at[:size].set(free).at[size : size + N_RIGID].set(self.follow @ free)


@eqx.filter_jit
def hold_together(head: HeadModel, fit: Fit, noise: NoiseModel, strength: float) -> Hold:
    """The map for a fit; `strength` s puts s²d for d: at 1 half is kept where data and prior say equally much."""
    expansion = expand(head, fit, noise)
    size = expansion.point.size - noise.factors_m.shape[0] - N_RIGID
    rigid = slice(size, size + N_RIGID)
    jacobian = expansion.weight(expansion.jacobian_m)
    # The rigid motion first, so that what it explains is off the other columns; its flat prior keeps it regular.
    rows = jnp.concatenate([jacobian[:, rigid], jacobian[:, :size] / expansion.root[None, :size]], axis=1)
    prior = jnp.zeros((N_RIGID, rows.shape[1]), rows.dtype).at[:, :N_RIGID].set(jnp.diag(expansion.root[rigid]))
    triangle = jnp.linalg.qr(jnp.concatenate([rows, prior]), mode="r")
    # Singular values of the factor, not eigenvalues of its square, which would cost half of single precision's digits.
    _, singular, axes = jnp.linalg.svd(triangle[N_RIGID:, N_RIGID:])
    follow = jax.scipy.linalg.solve_triangular(triangle[:N_RIGID, :N_RIGID], triangle[:N_RIGID, N_RIGID:], lower=False)
    told = (strength * singular) ** 2
    return Hold(
        axes=axes, kept=1.0 / (1.0 + told**2), root=expansion.root[:size], follow=-follow * expansion.root[None, :size]
    )
