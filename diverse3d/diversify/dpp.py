"""Determinantal point processes: the paper's kernel and loss, and greedy selection (Dey and Boddeti, 2022)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def pairwise_distance(points: Float[Array, "N D"], weight: Float[Array, " D"]) -> Float[Array, "N N"]:
    """Weighted RMS distance between samples: √(Σ_d w_d (x_id - x_jd)² / Σ_d w_d · 3).

    With `points` as flattened vertices and `weight` 1 on hidden coordinates this is ‖S_i - S_j‖_F / √n over the n
    hidden vertices. Computed through the Gram matrix of the centred samples, so that a thousand samples fit in
    memory; the gradient is zero (not NaN) where two samples coincide. Zero when no coordinate has weight.
    """
    total = jnp.sum(weight)
    count = jnp.where(total > 0, total / 3.0, jnp.ones_like(total))
    centred = (points - jnp.mean(points, axis=0, keepdims=True)) * jnp.sqrt(weight)[None, :]
    gram = centred @ centred.T
    square_norm = jnp.diagonal(gram)
    square = (square_norm[:, None] + square_norm[None, :] - 2.0 * gram) / count
    # Rounding leaves about eps·‖x‖² where the true distance is zero.
    floor = 8.0 * jnp.finfo(points.dtype).eps * jnp.max(square_norm) / count
    apart = (square > floor) & ~jnp.eye(points.shape[0], dtype=bool)
    return jnp.where(apart, jnp.sqrt(jnp.where(apart, square, jnp.ones_like(square))), jnp.zeros_like(square))


def median_distance(distance: Float[Array, "N N"]) -> Float[Array, ""]:
    """Median over the off-diagonal entries, a constant to the gradient; one where there are none or it is zero."""
    count = distance.shape[0]
    if count == 1:
        return jnp.ones((), distance.dtype)
    median = jax.lax.stop_gradient(jnp.median(distance[jnp.triu_indices(count, 1)]))
    return jnp.where(median > 0, median, jnp.ones_like(median))


def similarity(distance: Float[Array, "N N"], k: float, scale: Float[Array, ""] | None = None) -> Float[Array, "N N"]:
    """S_ij = exp(-(k / scale) · dist_ij), with the median distance as the scale where none is given."""
    scale = median_distance(distance) if scale is None else scale
    return jnp.exp(-(k / scale) * distance)


def quality(square_norm: Float[Array, " N"], threshold: Float[Array, ""]) -> Float[Array, " N"]:
    """q_i = exp(-max(0, ‖z_i‖² - threshold)); see `quality_threshold` for the two readings of the threshold."""
    return jnp.exp(-jnp.maximum(square_norm - threshold, 0.0))


def quality_threshold(dimension: int, n_sigma: float, *, literal: bool = False) -> float:
    """Where quality starts to fall, for latents of a standard normal prior.

    Read literally the paper's n_σ√d is far below the size ‖z‖² ≈ d of ordinary latents: every quality is zero and the
    diversity gradient vanishes. By default the threshold is the quantile of ‖z‖² ~ χ²_d that lies `n_sigma` standard
    deviations up a normal distribution (Wilson–Hilferty); `literal=True` gives the paper's form.
    """
    if literal:
        return n_sigma * dimension**0.5
    shrink = 2.0 / (9.0 * dimension)
    return dimension * (1.0 - shrink + n_sigma * shrink**0.5) ** 3


def kernel(
    distance: Float[Array, "N N"],
    qualities: Float[Array, " N"],
    *,
    k: float,
    scale: Float[Array, ""] | None = None,
) -> Float[Array, "N N"]:
    """L_ij = q_i S_ij q_j, symmetric (the public release scales columns only).

    With the median distance of these very samples as the scale (None) the kernel does not change when all distances
    grow alike; give a scale where growth shall count.
    """
    return (qualities[:, None] * qualities[None, :]) * similarity(distance, k, scale)


def dpp_loss(l_kernel: Float[Array, "N N"]) -> Float[Array, ""]:
    """L_dpp = -tr(I - (L + I)⁻¹): minus the expected number of distinct samples that the process would draw.

    With L + I = C Cᵀ the trace of the inverse is ‖C⁻¹‖²_F. L + I has no eigenvalue below one, so the Cholesky factor
    exists whatever the rank of L: duplicates, N = 1 and N beyond the rank need no special case.
    """
    count = l_kernel.shape[0]
    identity = jnp.eye(count, dtype=l_kernel.dtype)
    factor = jnp.linalg.cholesky(l_kernel + identity)
    inverse = jax.scipy.linalg.solve_triangular(factor, identity, lower=True)
    return jnp.sum(inverse**2) - float(count)


def log_det(l_kernel: Float[Array, "N N"]) -> Float[Array, ""]:
    """log det(L + I), the process's normaliser."""
    factor = jnp.linalg.cholesky(l_kernel + jnp.eye(l_kernel.shape[0], dtype=l_kernel.dtype))
    return 2.0 * jnp.sum(jnp.log(jnp.diagonal(factor)))


def greedy_selection(l_kernel: Float[Array, "P P"], count: int) -> Int[Array, " count"]:
    """Indices of `count` ≤ P pool members by greedy determinant maximisation, best first, all distinct.

    Each step takes the member with the largest conditional variance given those taken (incremental Cholesky, as Chen
    et al. 2018), in O(P·count²) altogether. Past the kernel's rank the remaining ones follow in order of what rounding
    leaves, then of index.
    """
    pool = l_kernel.shape[0]

    def step(
        index: Int[Array, ""],
        state: tuple[Float[Array, "c P"], Float[Array, " P"], Bool[Array, " P"], Int[Array, " c"]],
    ) -> tuple[Array, Array, Array, Array]:
        rows, gain, taken, chosen = state
        best = jnp.argmax(jnp.where(taken, -jnp.inf, gain))
        safe = jnp.where(gain[best] > 0, gain[best], jnp.ones_like(gain[best]))
        row = (l_kernel[best] - rows[:, best] @ rows) / jnp.sqrt(safe)
        row = jnp.where(gain[best] > 0, row, jnp.zeros_like(row))
        gain = jnp.maximum(gain - row**2, 0.0)
        return rows.at[index].set(row), gain, taken.at[best].set(True), chosen.at[index].set(best.astype(jnp.int32))

    start = (
        jnp.zeros((count, pool), l_kernel.dtype),
        jnp.diagonal(l_kernel),
        jnp.zeros(pool, bool),
        jnp.zeros(count, jnp.int32),
    )
    return jax.lax.fori_loop(0, count, step, start)[3]
