"""Triangles to pixels: a z-buffer by scatter-max."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

SMALLEST_CHUNK = 8192
"""Pairs of triangle and pixel that are drawn at a time, or as many as there are triangles."""

MOST_PAIRS = 2**30
"""Pairs that are numbered together: 32-bit integers hold so many and a chunk more."""


class Fragments(eqx.Module):
    """What each pixel sees."""

    face: Int[Array, "H W"]
    """Index of the nearest triangle, -1 where there is none."""
    barycentric: Float[Array, "H W 3"]
    """Weights of that triangle's corners at the pixel's centre; zero where there is none."""
    nearness: Float[Array, "H W"]
    """Interpolated nearness (larger is nearer) of that triangle, -inf where there is none."""


@functools.partial(jax.jit, static_argnames=("height", "width"))
def rasterise(
    points_px: Float[Array, "V 2"],
    nearness: Float[Array, " V"],
    faces: Int[Array, "F 3"],
    *,
    height: int,
    width: int,
) -> Fragments:
    """Nearest triangle at every pixel centre, exact in depth order.

    `points_px` has x right and y down with pixel centres at +0.5; larger `nearness` is nearer. Every pixel of every
    triangle's bounding box is looked at, so that a large triangle leaves no hole and a small one costs little. All of
    it is compiled, once for each size of mesh and picture, and may be called under `jax.jit` and on any device. Which
    triangle a pixel sees carries no derivatives; its weights and nearness do, as in `reweighed`.
    """
    still = jax.lax.stop_gradient((points_px, nearness))
    return _weighed(_nearest(*still, faces, height, width), points_px, nearness, faces)


def reweighed(
    fragments: Fragments, points_px: Float[Array, "V 2"], nearness: Float[Array, " V"], faces: Int[Array, "F 3"]
) -> Fragments:
    """The same triangle at every pixel with weights and nearness as the points have them now.

    This is what derivatives go through: which triangle a pixel sees carries none, where it lies in it does. Points may
    have moved a little since `fragments` were made.
    """
    return _weighed(fragments.face, points_px, nearness, faces)


def interpolate(fragments: Fragments, values: Float[Array, "V C"], faces: Int[Array, "F 3"]) -> Float[Array, "H W C"]:
    """Any attribute of the vertices at every pixel; zero where there is no triangle."""
    corners = values[faces[jnp.maximum(fragments.face, 0)]]
    return jnp.einsum("hwk,hwkc->hwc", fragments.barycentric, corners)


def _nearest(
    points_px: Float[Array, "V 2"],
    nearness: Float[Array, " V"],
    faces: Int[Array, "F 3"],
    height: int,
    width: int,
    most: int = MOST_PAIRS,
) -> Int[Array, "H W"]:
    """The nearest triangle at every pixel, -1 where there is none; not more than `most` pairs are ever counted.

    Pairs of a triangle and a pixel of its bounding box are numbered in the order of triangles, and drawn in chunks of
    one size, as many as there are. So nothing has a capacity, and nothing is drawn for room that isn't used.
    """
    pixels, end_px = height * width, jnp.array([[width, height]], points_px.dtype)
    # One group for all triangles, unless their boxes could together hold more pixels than can be counted.
    group = max(1, min(len(faces), most // pixels))
    groups = jnp.pad(faces, ((0, -len(faces) % group), (0, 0))).reshape(-1, group, 3)
    chunk, numbers = max(SMALLEST_CHUNK, group), jnp.arange(group, dtype=jnp.int32)

    def draw_group(buffers: tuple[Array, Array], at: tuple[Array, Array]) -> tuple[tuple[Array, Array], None]:
        first, members = at
        outline, distance = points_px[members], nearness[members]
        # A hair more than the box, for the tolerance at edges; only the part inside the picture counts.
        low = jnp.clip(jnp.ceil(jnp.min(outline, axis=1) - 0.501), 0, end_px).astype(jnp.int32)
        high = jnp.clip(jnp.floor(jnp.max(outline, axis=1) - 0.499), -1, end_px - 1).astype(jnp.int32)
        size = jnp.maximum(high - low + 1, 0)
        count = size[:, 0] * size[:, 1]
        end = jnp.cumsum(count, dtype=jnp.int32)

        def draw_chunk(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            start, depth, seen = state
            # Every triangle marks where its pairs begin; up to the next mark they are its own. Where several begin,
            # all but the last are empty.
            mark = jnp.maximum(end - count - start, 0)
            face = jax.lax.cummax(jnp.zeros(chunk, jnp.int32).at[mark].max(numbers, mode="drop"))
            pair = start + jnp.arange(chunk, dtype=jnp.int32)
            row, column = jnp.divmod(pair - (end - count)[face], jnp.maximum(size[face, 0], 1))
            x, y = low[face, 0] + column, low[face, 1] + row
            weights = _barycentric(outline[face], _centres(x, y, points_px.dtype))
            # Behind a barrier, for what is compared must be the very bits that were stored.
            near = jax.lax.optimization_barrier(jnp.sum(weights * distance[face], axis=1))
            # A hair of tolerance closes cracks between neighbours; all that is not drawn goes to a spare pixel.
            drawn = jnp.all(weights >= -1e-5, axis=1) & (pair < end[-1])
            pixel = jnp.where(drawn, y * width + x, pixels)
            depth = depth.at[pixel].max(near)
            # Ties go to the higher number, which is also that of the later chunk: a maximum is all it needs.
            seen = seen.at[jnp.where(near == depth[pixel], pixel, pixels)].max(first + face)
            return start + chunk, depth, seen

        state = jax.lax.while_loop(lambda state: state[0] < end[-1], draw_chunk, (jnp.int32(0), *buffers))
        return state[1:], None

    blank = jnp.full(pixels + 1, -jnp.inf, nearness.dtype), jnp.full(pixels + 1, -1, jnp.int32)
    (_, seen), _ = jax.lax.scan(draw_group, blank, (group * jnp.arange(len(groups), dtype=jnp.int32), groups))
    return seen[:pixels].reshape(height, width)


def _weighed(
    face: Int[Array, "H W"], points_px: Float[Array, "V 2"], nearness: Float[Array, " V"], faces: Int[Array, "F 3"]
) -> Fragments:
    """Weights and nearness of the triangle given for each pixel."""
    height, width = face.shape
    y, x = jnp.indices((height, width), jnp.int32)
    corners, inside = faces[jnp.maximum(face, 0)], face >= 0
    weights = _barycentric(points_px[corners], _centres(x, y, points_px.dtype))
    weights = jnp.where(inside[..., None], weights, jnp.zeros_like(weights))
    return Fragments(face, weights, jnp.where(inside, jnp.sum(weights * nearness[corners], axis=-1), -jnp.inf))


def _centres(x: Int[Array, "*n"], y: Int[Array, "*n"], dtype: jnp.dtype) -> Float[Array, "*n 2"]:
    """Centres of the pixels in column x and row y."""
    return jnp.stack([x, y], axis=-1).astype(dtype) + 0.5


def _barycentric(corners: Float[Array, "*#b 3 2"], point: Float[Array, "*#b 2"]) -> Float[Array, "*#b 3"]:
    """Barycentric weights in the image plane; a triangle seen edge-on gets none (all -1)."""
    a, b, c = corners[..., 0, :], corners[..., 1, :], corners[..., 2, :]

    def cross(u: Array, v: Array) -> Array:
        return u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0]

    area = cross(b - a, c - a)
    flat = jnp.abs(area) < 1e-9
    safe = jnp.where(flat, jnp.ones_like(area), area)
    first = cross(b - point, c - point) / safe
    second = cross(c - point, a - point) / safe
    weights = jnp.stack([first, second, 1.0 - first - second], axis=-1)
    return jnp.where(flat[..., None], -jnp.ones_like(weights), weights)
