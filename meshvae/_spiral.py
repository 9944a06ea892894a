"""Spiral convolution (Gong et al. 2019, "SpiralNet++")."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


class SpiralConv(eqx.Module):
    """y_i = Σ_s W_s x_{spiral(i, s)} + b: the same weights at every vertex, one matrix for each place on the spiral."""

    weights: Float[Array, "S C D"]
    """A matrix for each place."""
    bias: Float[Array, " D"]
    """One bias a channel."""

    def __call__(
        self, x: Float[Array, "I C"], spiral: Int[np.ndarray, "O S"] | Int[Array, "O S"]
    ) -> Float[Array, "O D"]:
        """Features of the vertices whose spirals are given."""
        (length, c_in, c_out), (n_out, n_in) = self.weights.shape, (spiral.shape[0], x.shape[0])
        if c_out * (n_in + n_out) < c_in * n_out:
            # Few channels out: apply the matrices first and gather their thin results.
            y = jnp.einsum("ic,scd->isd", x, self.weights)[spiral, jnp.arange(length, dtype=spiral.dtype)[None, :]]
            return jnp.sum(y, axis=1) + self.bias[None, :]
        return jnp.einsum("osc,scd->od", x[spiral], self.weights) + self.bias[None, :]


def init_spiral(length: int, c_in: int, c_out: int, *, rng: np.random.Generator) -> SpiralConv:
    """Random weights under which outputs have the variance of the inputs."""
    weights = rng.standard_normal((length, c_in, c_out)) / (length * c_in) ** 0.5
    dtype = jnp.result_type(float)
    return SpiralConv(jnp.asarray(weights, dtype), jnp.zeros(c_out, dtype))


def fixed_point(weights: Float[np.ndarray, "V 3"]) -> Int[np.ndarray, "V 3"]:
    """Weights as whole numbers of 2⁻²⁴: as integers they are no parameters to any optimiser, decay or average."""
    return np.round(weights * 2.0**24).astype(np.int32)


def transfer(
    x: Float[Array, "C D"],
    index: Int[np.ndarray, "V 3"] | Int[Array, "V 3"],
    weights: Int[np.ndarray, "V 3"] | Int[Array, "V 3"],
) -> Float[Array, "V D"]:
    """Features of a coarse level carried to the finer one by fixed weights in units of 2⁻²⁴."""
    return jnp.einsum("vk,vkd->vd", jnp.asarray(weights).astype(x.dtype) * 2.0**-24, x[index])
