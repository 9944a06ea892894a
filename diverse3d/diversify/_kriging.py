"""The kriging correction: any vertices made to agree with the visible part, and the hidden part repaired to match."""

import dataclasses

import equinox as eqx
import jax
from jaxtyping import Array, Float

from ..fit import Fit, NoiseModel
from ..head import HeadModel
from ._gaussian import Expansion, Posterior, expand


class Kriging(eqx.Module):
    """The correction for one fit, prepared once for any number of heads; `jax.vmap` it over them."""

    at: Expansion
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
        off = self.at.weight * (held_m - vertices_m).reshape(-1)
        step = self._solve(self._pull(off))
        # The normal equations lose half of single precision's digits; a step from what they left over brings them back.
        left = off - self.at.weight * (self.at.jacobian_m @ step)
        step = step + self._solve(self._pull(left) - self.at.root**2 * step)
        return vertices_m + (self.at.jacobian_m[:, : self.n_shape] @ step[: self.n_shape]).reshape(vertices_m.shape)

    def _pull(self, weighted: Float[Array, " C"]) -> Float[Array, " D"]:
        """Jᵀ√W."""
        return (self.at.weight * weighted) @ self.at.jacobian_m

    def _solve(self, right: Float[Array, " D"]) -> Float[Array, " D"]:
        """A⁻¹."""
        half = jax.scipy.linalg.solve_triangular(self.factor, right, trans=1, lower=False)
        return jax.scipy.linalg.solve_triangular(self.factor, half, lower=False)


@eqx.filter_jit
def kriging(head: HeadModel, fit: Fit, belief: Posterior, noise: NoiseModel) -> Kriging:
    """The correction with the Jacobian, weights and prior of `belief`, the `posterior` of this very fit and noise."""
    at = expand(head, fit, noise)
    at = dataclasses.replace(at, weight=at.weight / belief.noise_widening, root=belief.root)
    return Kriging(at=at, factor=belief.factor, n_shape=at.point.size - noise.factors_m.shape[0])


def krige(
    head: HeadModel,
    fit: Fit,
    belief: Posterior,
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
    return kriging(head, fit, belief, noise)(vertices_m, fit.held_m if held_m is None else held_m)
