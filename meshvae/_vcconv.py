"""Spatially varying convolution, pooling and unpooling (Zhou et al. 2020, "Fully convolutional mesh autoencoder")."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ._pattern import Pattern


class VcConv(eqx.Module):
    """vcConv: y_i = Σ_j Σ_m α_ij,m B_m x_j + b_i; on a transposed pattern it is vcTransConv."""

    alpha: Float[Array, "E M"]
    """Coefficients of every edge, free for every pair of vertices."""
    basis: Float[Array, "M C D"]
    """The kernels that all vertices share."""
    bias: Float[Array, "O D"]
    """One bias a vertex and channel."""

    def __call__(self, x: Float[Array, "I C"], pattern: Pattern) -> Float[Array, "O D"]:
        """Features of the pattern's outputs from those of its inputs."""
        return pattern.convolve(self.alpha, self.basis, x) + self.bias


class VdPool(eqx.Module):
    """vdPool: a learned weighted mean of what each output sees; on a transposed pattern it is vdUnpool."""

    weights: Float[Array, " E"]
    """ρ, whose magnitudes are normalised to sum to one over what an output sees."""

    def __call__(self, x: Float[Array, "I C"], pattern: Pattern) -> Float[Array, "O C"]:
        """Features of the pattern's outputs from those of its inputs."""
        return pattern.average(self.weights, x)


def init_vcconv(pattern: Pattern, c_in: int, c_out: int, kernels: int, *, rng: np.random.Generator) -> VcConv:
    """Random weights under which outputs have the variance of the inputs, whether neighbours agree or not."""
    rows = pattern.edges.rows
    seen = np.bincount(rows, minlength=pattern.n_out)[rows]
    alpha = rng.standard_normal((rows.size, kernels)) / np.sqrt(seen * kernels)[:, None]
    basis = rng.standard_normal((kernels, c_in, c_out)) / c_in**0.5
    dtype = jnp.result_type(float)
    return VcConv(jnp.asarray(alpha, dtype), jnp.asarray(basis, dtype), jnp.zeros((pattern.n_out, c_out), dtype))


def init_vdpool(pattern: Pattern) -> VdPool:
    """The plain mean to begin with."""
    return VdPool(jnp.ones(pattern.edges.rows.size, jnp.result_type(float)))
