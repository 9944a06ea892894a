"""Samples held together where visible: what the data determine is taken out of their differences, the rest is left."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..fit import Fit, NoiseModel
from ..head import HeadModel
from ._gaussian import N_RIGID, expand


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
    at = expand(head, fit, noise)
    size = at.point.size - noise.factors_m.shape[0] - N_RIGID
    rigid = slice(size, size + N_RIGID)
    jacobian = at.jacobian_m * at.weight[:, None]
    # The rigid motion first, so that what it explains is off the other columns; its flat prior keeps it regular.
    rows = jnp.concatenate([jacobian[:, rigid], jacobian[:, :size] / at.root[None, :size]], axis=1)
    prior = jnp.zeros((N_RIGID, rows.shape[1]), rows.dtype).at[:, :N_RIGID].set(jnp.diag(at.root[rigid]))
    triangle = jnp.linalg.qr(jnp.concatenate([rows, prior]), mode="r")
    # Singular values of the factor, not eigenvalues of its square, which would cost half of single precision's digits.
    _, singular, axes = jnp.linalg.svd(triangle[N_RIGID:, N_RIGID:])
    follow = jax.scipy.linalg.solve_triangular(triangle[:N_RIGID, :N_RIGID], triangle[:N_RIGID, N_RIGID:], lower=False)
    told = (strength * singular) ** 2
    return Hold(axes=axes, kept=1.0 / (1.0 + told**2), root=at.root[:size], follow=-follow * at.root[None, :size])
