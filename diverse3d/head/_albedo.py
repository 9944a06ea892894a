"""How much light the skin gives back: a mean colour a vertex, and how it varies from person to person."""

import math

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..surface import decode_srgb

_DARKEST = 1e-4
"""Least reflectance: no surface is black, and a logarithm or a ratio of it must stay finite."""


class Albedo(eqx.Module):
    """A linear model of the surface's colour: coefficients in, reflectance out; batch by `jax.vmap`."""

    mean: Float[Array, "V 3"]
    """Red, green, blue of the mean in the model's own space."""
    components: Float[Array, "A V 3"]
    """Offsets in the same space, one standard deviation each."""
    logarithmic: bool = eqx.field(static=True)
    """The space: the natural logarithm of linear-light reflectance, or else sRGB from 0 to 1."""

    @property
    def n_components(self) -> int:
        """Number of coefficients A."""
        return self.components.shape[0]

    def __call__(self, coefficients: Float[Array, " A"]) -> Float[Array, "V 3"]:
        """Linear-light reflectance (red, green, blue) of each vertex, in (0, 1]; clipped where the model leaves it.

        The coefficients have unit variance in the population.
        """
        value = self.mean + jnp.tensordot(coefficients, self.components, axes=1)
        if self.logarithmic:
            return jnp.exp(jnp.clip(value, math.log(_DARKEST), 0.0))
        return decode_srgb(jnp.clip(value, _DARKEST * 12.92, 1.0))

    def subset(self, vertices: Int[Array | np.ndarray, " n"]) -> "Albedo":
        """The same model of some vertices, in the order given."""
        return Albedo(self.mean[vertices], self.components[:, vertices], self.logarithmic)
