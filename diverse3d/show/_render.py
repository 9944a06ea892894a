"""Pictures of heads: an orthographic software renderer on the host, smooth-shaded, in linear light."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from ..surface import STUDIO_LIGHT, host_normals, linear_from_srgb, shade, srgb_from_linear, zbuffer
from ._colour import CLAY

_SUPERSAMPLING = 2
"""Samples a pixel along each axis."""

_LAMP = STUDIO_LIGHT + np.array([-0.75, 0.25, 0.1, 0.55, 0.0, 0.0, 0.0, 0.0, 0.0])
"""The studio light with more of a direction, so that small forms show in small pictures."""

_BACK = 0.12
"""How bright the inside of the surface is: a mouth's depth, seen between the lips."""

_LINEAR = linear_from_srgb(np.repeat(np.arange(256.0)[:, None], 3, axis=1))[:, 0].astype(np.float32)
"""Linear light of each sRGB byte."""


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
    return render_views([view], faces, height=height, width=width, frame=frame)[0]


def render_views(
    views: Sequence[View], faces: Int[np.ndarray, "F 3"], *, height: int, width: int, frame: Frame
) -> UInt8[np.ndarray, "n height width 3"]:
    """Pictures of several heads on white, sRGB, all at the scale of one frame."""
    scale, white = height / frame.height_m, np.full((height, width, 3), 255, np.uint8)

    def draw(view: View) -> UInt8[np.ndarray, "height width 3"]:
        angle = np.radians(view.yaw_degrees)
        (x, y, z), c, s = (np.asarray(view.vertices_m, np.float64) - frame.centre_m).T, np.cos(angle), np.sin(angle)
        points = np.stack([width / 2 + scale * (c * x + s * z), height / 2 - scale * y, scale * (c * z - s * x)], 1)
        colours = np.broadcast_to(CLAY, points.shape) if view.colours is None else view.colours
        return render_over(white, points, faces, colours)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return np.stack(list(pool.map(draw, views)))


def render_over(
    picture: UInt8[np.ndarray, "H W 3"],
    points_px: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    colours: UInt8[np.ndarray, "V 3"],
) -> UInt8[np.ndarray, "H W 3"]:
    """A shaded mesh drawn over a picture, sRGB; points in its pixels: x right, y down, z towards the camera.

    It is drawn on the host, where nothing is compiled for a picture or a mesh of a new size, lit at the vertices.
    """
    (height, width), times = picture.shape[:2], _SUPERSAMPLING
    upright = points_px * [1.0, -1.0, 1.0]
    light = shade(_LINEAR[colours], host_normals(upright, faces), np.stack([_LAMP] * 3, axis=1))
    light = np.maximum(light, 0.0).astype(np.float32)
    fine = (times * points_px).astype(np.float32)
    hits = zbuffer(fine[:, :2], fine[:, 2], faces, height=times * height, width=times * width)
    (ux, uy), (vx, vy) = ((fine[faces[:, k], :2] - fine[faces[:, 0], :2]).T for k in (1, 2))
    side = np.where(ux * vy < uy * vx, 1.0, _BACK).astype(np.float32)
    corners = (light[faces] * side[:, None, None]).reshape(-1, 9)  # side by side, so that they are fetched in one piece
    seen = np.flatnonzero(hits.face >= 0)
    corner, weight = corners[hits.face.reshape(-1)[seen]], hits.barycentric.reshape(-1, 3)[seen]
    samples = np.zeros((hits.face.size, 4), np.float32)
    samples[seen] = 1.0
    samples[seen, :3] = sum(weight[:, k : k + 1] * corner[:, 3 * k : 3 * k + 3] for k in range(3))
    rows = samples.reshape(height, times, -1).mean(axis=1)
    pixels = rows.reshape(height, width, times, 4).mean(axis=2)
    return srgb_from_linear(pixels[..., :3] + (1.0 - pixels[..., 3:]) * _LINEAR[picture])
