"""Products with matrices of a fixed sparsity pattern, arranged for dense hardware."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ._hierarchy import Edges

BLOCK_ROWS = (8, 16, 32, 64)
"""Outputs a block that are tried; one block of all outputs is the dense form."""
LEAST_SHARE = 1e-6
"""Added to the magnitude of every pooling weight, so that no sum of them is zero."""
FORMS = ("auto", "dense", "block", "reference")
"""How a pattern can be told to evaluate."""


class Pattern(eqx.Module):
    """Which inputs each output sees, and how products over it are evaluated.

    The outputs, in spatial order, are cut into blocks; a block gathers the union of its inputs once and is then a small
    dense matrix, so a layer is one batched product. A single block with all inputs is the dense form. The slow form
    without blocks (`slots` None) goes edge by edge; tests use it as the reference.
    """

    edges: Edges
    """The pattern itself."""
    slots: Int[np.ndarray, "blocks rows union"] | None
    """The edge behind each entry of each block's matrix; the number of edges where there is none."""
    places: Int[np.ndarray, " E"] | None
    """Where each edge went: the inverse of `slots`."""
    union: Int[np.ndarray, "blocks union"] | None
    """The inputs that each block gathers; None when it takes them all."""
    n_out: int = eqx.field(static=True)
    """Number of outputs."""
    n_in: int = eqx.field(static=True)
    """Number of inputs."""
    basis_first: bool = eqx.field(static=True)
    """Whether inputs meet the basis before they are gathered, or after."""

    def convolve(
        self, alpha: Float[Array, "E M"], basis: Float[Array, "M C D"], x: Float[Array, "I C"]
    ) -> Float[Array, "O D"]:
        """y_i = Σ_j Σ_m α_ij,m B_m x_j over the inputs j that output i sees (Zhou et al. 2020)."""
        if self.slots is None:
            weights = jnp.einsum("em,mcd->ecd", alpha, basis)
            return self._sum_edges(jnp.einsum("ecd,ec->ed", weights, x[self.edges.columns]))
        matrices = self.matrices(alpha)
        if self.basis_first:
            y = jnp.einsum("ic,mcd->imd", x, basis)
            return self._rows(jnp.einsum("nbum,numd->nbd", matrices, self._gather(y)))
        y = jnp.einsum("nbum,nuc->nbmc", matrices, self._gather(x))
        return self._rows(jnp.einsum("nbmc,mcd->nbd", y, basis))

    def average(self, weights: Float[Array, " E"], x: Float[Array, "I C"]) -> Float[Array, "O C"]:
        """y_i = Σ_j |w_ij| x_j / Σ_j |w_ij| (Zhou et al. 2020); where all weights vanish, the plain mean."""
        share = jnp.abs(weights)[:, None] + LEAST_SHARE
        if self.slots is None:
            return self._sum_edges(share * x[self.edges.columns]) / self._sum_edges(share)
        matrices = self.matrices(share)[..., 0]
        # Rows that fill up the last block are empty.
        matrices = matrices / jnp.maximum(jnp.sum(matrices, axis=2, keepdims=True), LEAST_SHARE)
        return self._rows(jnp.einsum("nbu,nuc->nbc", matrices, self._gather(x)))

    def matrices(self, values: Float[Array, "E M"]) -> Float[Array, "blocks rows union M"]:
        """The values of the edges in their places, zeros elsewhere."""
        assert self.slots is not None and self.places is not None
        return _place(values, self.slots, self.places)

    def _gather(self, x: Float[Array, "I ..."]) -> Float[Array, "blocks union ..."]:
        return x[None] if self.union is None else x[self.union]

    def _rows(self, y: Float[Array, "blocks rows C"]) -> Float[Array, "O C"]:
        return y.reshape(-1, y.shape[-1])[: self.n_out]

    def _sum_edges(self, values: Float[Array, "E C"]) -> Float[Array, "O C"]:
        return jax.ops.segment_sum(values, self.edges.rows, self.n_out, indices_are_sorted=True)


@jax.custom_vjp
def _place(values: Array, slots: Array | np.ndarray, places: Array | np.ndarray) -> Array:
    return jnp.concatenate([values, jnp.zeros((1, values.shape[1]), values.dtype)])[slots]


def _place_forward(
    values: Array, slots: Array | np.ndarray, places: Array | np.ndarray
) -> tuple[Array, Array | np.ndarray]:
    return _place(values, slots, places), places


def _place_backward(places: Array | np.ndarray, cotangent: Array) -> tuple[Array, None, None]:
    # Every edge has one place, so the gradient is a gather too; the scatter that jax would derive is slow on a CPU.
    return cotangent.reshape(-1, cotangent.shape[-1])[places], None, None


_place.defvjp(_place_forward, _place_backward)


def make_pattern(edges: Edges, n_out: int, n_in: int, *, channels: tuple[int, int, int], form: str = "auto") -> Pattern:
    """Arrange a pattern for layers of (channels in, channels out, basis kernels); `auto` takes the cheapest form."""
    assert form in FORMS
    if form == "reference":
        return Pattern(edges, None, None, None, n_out, n_in, False)
    sizes = {"auto": (n_out, *BLOCK_ROWS), "dense": (n_out,), "block": BLOCK_ROWS}[form]
    candidates = []
    for rows in sorted({min(size, n_out) for size in sizes}):
        unions = _unions(edges, n_out, rows)
        dense = rows == n_out
        union = n_in if dense else max(map(len, unions))
        for basis_first in (False, True):
            cost = product_cost(-(-n_out // rows), rows, union, n_in, channels, basis_first)
            candidates.append((cost, rows, basis_first, unions))
    _, rows, basis_first, unions = min(candidates, key=lambda candidate: candidate[:3])
    return _arranged(edges, n_out, n_in, rows, basis_first, unions)


def product_cost(
    blocks: int, rows: int, union: int, n_in: int, channels: tuple[int, int, int], basis_first: bool
) -> float:
    """Multiplications of one product, and for each number that is written as many as can be done meanwhile.

    The weights fit times measured on a CPU, forward and backward: where numbers are gathered after they met the basis,
    moving one costs some ninety multiplications inside a matrix product, half that where they are gathered before; one
    dense product takes about 0.6 of the time a multiplication of a batch of small ones.
    """
    c_in, c_out, kernels = channels
    entries = blocks * rows * union * kernels
    written = floats_written(blocks, rows, union, n_in, channels, basis_first)
    if basis_first:
        products = entries * c_out * (0.6 if blocks == 1 else 1.0) + n_in * kernels * c_in * c_out
        return products + 90.0 * written
    products = entries * c_in * (0.6 if blocks == 1 else 1.0) + blocks * rows * kernels * c_in * c_out
    return products + 45.0 * written


def floats_written(
    blocks: int, rows: int, union: int, n_in: int, channels: tuple[int, int, int], basis_first: bool
) -> int:
    """Numbers a product writes for one sample before its result."""
    c_in, c_out, kernels = channels
    gathered = blocks * union if blocks > 1 else 0
    return (n_in + gathered) * kernels * c_out if basis_first else gathered * c_in + blocks * rows * kernels * c_in


def _unions(edges: Edges, n_out: int, rows: int) -> list[np.ndarray]:
    starts = np.searchsorted(edges.rows, np.arange(0, n_out, rows))
    return [np.unique(part) for part in np.split(edges.columns, starts[1:])]


def _arranged(edges: Edges, n_out: int, n_in: int, rows: int, basis_first: bool, unions: list[np.ndarray]) -> Pattern:
    blocks, dense = len(unions), rows == n_out
    if dense:
        unions = [np.arange(n_in)]
    width = max(map(len, unions))
    union = np.zeros((blocks, width), np.int32)
    for k, inputs in enumerate(unions):
        union[k, : len(inputs)] = inputs
    block = edges.rows // rows
    column = np.concatenate([np.searchsorted(unions[k], edges.columns[block == k]) for k in range(blocks)])
    places = np.ravel_multi_index((block, edges.rows % rows, column), (blocks, rows, width))
    slots = np.full(blocks * rows * width, edges.rows.size, np.int32)
    slots[places] = np.arange(edges.rows.size)
    return Pattern(
        edges,
        slots.reshape(blocks, rows, width),
        places.astype(np.int32),
        None if dense else union,
        n_out,
        n_in,
        basis_first,
    )
