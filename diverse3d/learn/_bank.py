"""Heads as weights of a basis: a bank is drawn once, and the closed form then costs a small product a head."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from ._residual import DrawHeads, Linearised

LARGEST_BANK = 400_000
"""Heads kept at most; what comes after is drawn from them again, behind other masks."""
_CHUNK = 1024
_BEYOND = 192
"""Directions beside the head's components. What they can't express of the embedded head's population is 0.01 mm."""


class Basis(eqx.Module):
    """Rows that span heads: the head's components, then the main directions of what those can't express."""

    rows_m: Float[Array, "Q C"]
    """Metres a unit of each weight, flattened vertices."""
    dual: Float[Array, "C Q"]
    """From offsets in metres to weights."""
    centre_m: Float[Array, " C"]
    """What offsets are measured from: the mean head."""

    @eqx.filter_jit
    def weights(self, heads_m: Float[Array, "B V 3"]) -> Float[Array, "B Q"]:
        """Heads as weights."""
        return (heads_m.reshape(heads_m.shape[0], -1) - self.centre_m[None, :]) @ self.dual


def make_basis(linear: Linearised, heads_m: Float[np.ndarray, "S V 3"]) -> Basis:
    """A basis for heads like these."""
    dual = np.asarray(linear.dual, np.float64)
    components = np.asarray(linear.shape_m, np.float64)[: dual.shape[1]]
    offsets = heads_m.reshape(len(heads_m), -1) - np.asarray(linear.centre_m, np.float64)
    rest = offsets - offsets @ dual @ components
    beyond = np.linalg.svd(rest, full_matrices=False)[2][:_BEYOND]
    # The components' own part is taken off first: a direction of no strength may point anywhere.
    outside = beyond.T - dual @ (components @ beyond.T)
    dtype = linear.dual.dtype
    return Basis(
        rows_m=jnp.asarray(np.concatenate([components, beyond]), dtype),
        dual=jnp.asarray(np.concatenate([dual, outside], axis=1), dtype),
        centre_m=linear.centre_m,
    )


def fill_bank(
    basis: Basis, draw_m: DrawHeads, count: int, *, key: PRNGKeyArray, report: Callable[[str], None]
) -> Float[Array, "N Q"]:
    """At least `count` heads, drawn a chunk at a time."""
    size = min(_CHUNK, count)
    chunks = -(-count // size)
    parts = []
    for number in range(chunks):
        parts.append(np.asarray(basis.weights(draw_m(size, jax.random.fold_in(key, number)))))
        if number % 32 == 31 or number + 1 == chunks:
            report(f"heads drawn: {(number + 1) * size} of {chunks * size}")
    return jnp.asarray(np.concatenate(parts))
