"""Which vertices a training example hides: drawn anew for every example, growing as training goes on."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

LARGEST_SHARE = 0.4
"""Share of the vertices that the drawn masks hide at the curriculum's end (Dey and Boddeti 2022, supplement §2.2)."""

Masker = Callable[[Float[Array, "V 3"], Float[Array, ""], PRNGKeyArray], Bool[Array, " V"]]
"""(vertices, share, key) → hidden vertices, `share` of them."""


def rectangle(vertices: Float[Array, "V 3"], share: Float[Array, ""], key: PRNGKeyArray) -> Bool[Array, " V"]:
    """A rectangle in the x–y plane around a random vertex, as in Dey and Boddeti 2022."""
    centre_key, aspect_key = jax.random.split(key)
    offset = jnp.abs(vertices[:, :2] - _any_vertex(vertices, centre_key)[None, :2])
    aspect = jnp.exp(0.7 * jax.random.normal(aspect_key, (), vertices.dtype))
    return _nearest(jnp.maximum(offset[:, 0] * aspect, offset[:, 1] / aspect), share)


def blob(vertices: Float[Array, "V 3"], share: Float[Array, ""], key: PRNGKeyArray) -> Bool[Array, " V"]:
    """An ellipsoid of random axes around a random vertex."""
    centre_key, axes_key = jax.random.split(key)
    axes = jnp.exp(0.4 * jax.random.normal(axes_key, (3,), vertices.dtype))
    offset = (vertices - _any_vertex(vertices, centre_key)[None, :]) * axes[None, :]
    return _nearest(jnp.sum(offset**2, axis=1), share)


def side(vertices: Float[Array, "V 3"], share: Float[Array, ""], key: PRNGKeyArray) -> Bool[Array, " V"]:
    """Everything on one side of a plane of random direction in the x–y plane: half of a face and less."""
    direction = jax.random.normal(key, (2,), vertices.dtype)
    return _nearest(vertices[:, :2] @ direction, share)


DRAWN: tuple[Masker, ...] = (rectangle, blob, side)
"""The shapes that are drawn for any mesh."""


def draw_hidden(
    vertices: Float[Array, "V 3"],
    pool: Bool[Array, "M V"],
    *,
    progress: Float[Array, ""],
    pool_share: float,
    key: PRNGKeyArray,
) -> Bool[Array, " V"]:
    """Hidden vertices of one example: one of the pool's masks, or a drawn shape that grows with `progress` in 0 … 1.

    A pool of no masks is never drawn from.
    """
    kind_key, share_key, shape_key, pick_key, pool_key = jax.random.split(key, 5)
    largest = LARGEST_SHARE * (0.2 + 0.8 * progress)
    share = largest * jax.random.uniform(share_key, (), vertices.dtype)
    kind = jax.random.randint(kind_key, (), 0, len(DRAWN))
    drawn = jax.lax.switch(kind, [lambda key, shape=shape: shape(vertices, share, key) for shape in DRAWN], shape_key)
    if not len(pool):
        return drawn
    row = jax.random.randint(pick_key, (), 0, len(pool))
    return jnp.where(jax.random.bernoulli(pool_key, pool_share), pool[row], drawn)


def _any_vertex(vertices: Float[Array, "V 3"], key: PRNGKeyArray) -> Float[Array, " 3"]:
    return vertices[jax.random.randint(key, (), 0, vertices.shape[0])]


def _nearest(distance: Float[Array, " V"], share: Float[Array, ""]) -> Bool[Array, " V"]:
    """The `share` of the vertices with the smallest distance."""
    count = jnp.round(share * distance.shape[0]).astype(jnp.int32)
    rank = jnp.argsort(jnp.argsort(distance))
    return rank < count
