"""Pictures of heads: an orthographic software renderer on the rasteriser, smooth-shaded, in linear light."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from ..surface import STUDIO_LIGHT, Fragments, linear_from_srgb, rasterise, shade, srgb_from_linear, vertex_normals
from ._colour import CLAY

SUPERSAMPLING = 2
"""Samples a pixel along each axis."""

_LAMP = STUDIO_LIGHT + np.array([-0.75, 0.25, 0.1, 0.55, 0.0, 0.0, 0.0, 0.0, 0.0])
"""The studio light with more of a direction, so that small forms show in small pictures."""

_BACK = 0.12
"""How bright the inside of the surface is: a mouth's depth, seen between the lips."""


class Frame(NamedTuple):
    """What an orthographic camera looking along -z sees."""

    centre_m: tuple[float, float, float]
    """Point about which heads turn, seen in the middle of the picture."""
    height_m: float
    """Height of what is seen."""


def frame_of(vertices_m: Float[np.ndarray, "V 3"], *, aspect: float, margin: float = 1.06) -> Frame:
    """A frame that holds a head from every side, in a picture `aspect` times as wide as high."""
    low, high = np.asarray(vertices_m).min(0), np.asarray(vertices_m).max(0)
    centre = (low + high) / 2
    across = np.asarray(vertices_m)[:, [0, 2]] - centre[[0, 2]]
    width = 2 * float(np.linalg.norm(across, axis=1).max())
    return Frame(tuple(centre.tolist()), margin * max(float(high[1] - low[1]), width / aspect))


class View(NamedTuple):
    """One head to draw."""

    vertices_m: Float[np.ndarray, "V 3"]
    """Vertices, y up, z towards the camera."""
    yaw_degrees: float = 0.0
    """Turn to the viewer's right about the vertical axis."""
    colours: UInt8[np.ndarray, "V 3"] | None = None
    """sRGB colours of the vertices; clay where not given."""


def render_head(
    vertices_m: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    *,
    height: int,
    width: int,
    yaw_degrees: float = 0.0,
    colours: UInt8[np.ndarray, "V 3"] | None = None,
    frame: Frame | None = None,
) -> UInt8[np.ndarray, "height width 3"]:
    """Picture of one head on white, sRGB; `frame` by default holds it from every side."""
    frame = frame_of(vertices_m, aspect=width / height) if frame is None else frame
    view = View(np.asarray(vertices_m), yaw_degrees, colours)
    return render_row([view], faces, height=height, width=width, frame=frame)


def render_row(
    views: Sequence[View], faces: Int[np.ndarray, "F 3"], *, height: int, width: int, frame: Frame
) -> UInt8[np.ndarray, "height columns 3"]:
    """Pictures of several heads side by side, each `width` pixels wide, all at the scale of one frame.

    They are drawn in one pass, so that a sheet of many heads compiles few shapes.
    """
    scale = SUPERSAMPLING * height / frame.height_m
    points, nearness, colours = [], [], []
    for column, view in enumerate(views):
        turned = (np.asarray(view.vertices_m, np.float64) - np.array(frame.centre_m)) @ _yaw(view.yaw_degrees).T
        middle = SUPERSAMPLING * np.array([(column + 0.5) * width, 0.5 * height])
        points.append(middle + scale * turned[:, :2] * [1.0, -1.0])
        nearness.append(turned[:, 2])
        colours.append(np.broadcast_to(CLAY, turned.shape) if view.colours is None else view.colours)
    count = len(views[0].vertices_m)
    all_faces = (np.asarray(faces)[None] + count * np.arange(len(views))[:, None, None]).reshape(-1, 3)
    light, coverage = render_pixels(
        np.concatenate(points),
        scale * np.concatenate(nearness),
        all_faces,
        np.concatenate(colours),
        height=SUPERSAMPLING * height,
        width=SUPERSAMPLING * width * len(views),
    )
    light, coverage = shrink(light), shrink(coverage)
    return srgb_from_linear(light + (1.0 - coverage))


def render_pixels(
    points_px: Float[np.ndarray, "V 2"],
    nearness_px: Float[np.ndarray, " V"],
    faces: Int[np.ndarray, "F 3"],
    colours: UInt8[np.ndarray, "V 3"],
    *,
    height: int,
    width: int,
) -> tuple[Float[np.ndarray, "height width 3"], Float[np.ndarray, "height width 1"]]:
    """Linear light and coverage of a shaded mesh in pixels: x right, y down, nearness towards the camera."""
    corners = jnp.asarray(faces, jnp.int32)
    points, near = jnp.asarray(points_px, jnp.float32), jnp.asarray(nearness_px, jnp.float32)
    fragments = rasterise(points, near, corners, height=height, width=width)
    upright = jnp.stack([points[:, 0], -points[:, 1], near], axis=1)
    albedo = jnp.asarray(linear_from_srgb(colours), jnp.float32)
    light, coverage = _shade(fragments, upright, corners, albedo)
    return np.asarray(light), np.asarray(coverage)


@jax.jit
def _shade(
    fragments: Fragments, upright: Float[Array, "V 3"], faces: Int[Array, "F 3"], albedo: Float[Array, "V 3"]
) -> tuple[Float[Array, "H W 3"], Float[Array, "H W 1"]]:
    attributes = jnp.concatenate([vertex_normals(upright, faces), albedo], axis=1)
    corners = attributes[faces[jnp.maximum(fragments.face, 0)]]
    pixel = jnp.sum(corners * fragments.barycentric[..., None], axis=2)
    normal = pixel[..., :3]
    length = jnp.linalg.norm(normal, axis=-1, keepdims=True)
    normal = normal / jnp.where(length > 0, length, jnp.ones_like(length))
    lamp = jnp.asarray(np.stack([_LAMP] * 3, axis=1), jnp.float32)
    light = jnp.maximum(shade(pixel[..., 3:], normal, lamp), 0.0)
    a, b, c = (upright[faces[:, i], :2] for i in range(3))
    u, v = b - a, c - a
    outside = u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0] > 0
    light = light * jnp.where(outside[jnp.maximum(fragments.face, 0)], 1.0, _BACK)[..., None]
    coverage = (fragments.face >= 0).astype(jnp.float32)[..., None]
    return light * coverage, coverage


def shrink(picture: Float[np.ndarray, "H W c"]) -> Float[np.ndarray, "h w c"]:
    """Mean over the samples of each pixel."""
    height, width, channels = picture.shape
    blocks = picture.reshape(height // SUPERSAMPLING, SUPERSAMPLING, width // SUPERSAMPLING, SUPERSAMPLING, channels)
    return blocks.mean(axis=(1, 3))


@functools.cache
def _yaw(degrees: float) -> Float[np.ndarray, "3 3"]:
    angle = np.radians(degrees)
    c, s = float(np.cos(angle)), float(np.sin(angle))
    return np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])
