"""Pictures of heads: an orthographic software renderer on the host, smooth-shaded, in linear light."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, UInt8

from ..surface import STUDIO_LIGHT, Hits, harmonics, host_normals, linear_from_srgb, shade, srgb_from_linear, zbuffer
from ._colour import CLAY

_SUPERSAMPLING = 2
"""Samples a pixel along each axis, where nothing else is said."""

LAMP = STUDIO_LIGHT + np.array([-0.75, 0.25, 0.1, 0.55, 0.0, 0.0, 0.0, 0.0, 0.0])
"""The studio light with more of a direction, so that small forms show in small pictures."""

RELIEF = 0.55
"""Power of the lamp's light on a textured surface, which carries the photo's own: enough for its forms to show."""

BACK = 0.12
"""How bright the inside of the surface is: a mouth's depth, seen between the lips."""

_LINEAR = linear_from_srgb(np.repeat(np.arange(256.0)[:, None], 3, axis=1))[:, 0].astype(np.float32)
"""Linear light of each sRGB byte."""

_SRGB = srgb_from_linear(np.repeat(np.linspace(0.0, 1.0, 1 << 14)[:, None], 3, axis=1))[:, 0].copy()
"""sRGB bytes of linear light from 0 to 1, finer than they can tell."""


class Frame(NamedTuple):
    """What an orthographic camera looking along -z sees."""

    centre_m: tuple[float, float, float]
    """Point about which heads turn, seen in the middle of the picture."""
    height_m: float
    """Height of what is seen."""


def frame_of(
    vertices_m: Float[np.ndarray, "V 3"], *, aspect: float, margin: float = 1.06, yaws: Sequence[float] | None = None
) -> Frame:
    """A frame that holds a head from every side, in a picture `aspect` times as wide as high.

    With `yaws` (degrees) it holds the head from those sides alone, which makes it larger.
    """
    low, high = np.asarray(vertices_m).min(0), np.asarray(vertices_m).max(0)
    centre = (low + high) / 2
    across = np.asarray(vertices_m)[:, [0, 2]] - centre[[0, 2]]
    if yaws is None:
        width = 2 * float(np.linalg.norm(across, axis=1).max())
    else:
        angles = np.radians(yaws)
        width = 2 * float(np.abs(across @ np.stack([np.cos(angles), np.sin(angles)])).max())
    return Frame(tuple(centre.tolist()), margin * max(float(high[1] - low[1]), width / aspect))


class Paint(NamedTuple):
    """A texture as the renderer takes it."""

    uv: Float[np.ndarray, "V 2"]
    """Place of each vertex in it, u to the right and v upwards."""
    light: Float32[np.ndarray, "T T 3"]
    """Linear light, the uppermost row first."""


def paint(uv: Float[np.ndarray, "V 2"], texture: UInt8[np.ndarray, "T T 3"]) -> Paint:
    """An sRGB texture for the renderer."""
    return Paint(uv, _LINEAR[texture])


class View(NamedTuple):
    """One head to draw."""

    vertices_m: Float[np.ndarray, "V 3"]
    """Vertices, y up, z towards the camera."""
    yaw_degrees: float = 0.0
    """Turn to the viewer's right about the vertical axis."""
    colours: UInt8[np.ndarray, "V 3"] | None = None
    """sRGB colours of the vertices; clay where not given."""
    paint: Paint | None = None
    """A texture in the colours' place."""


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
    views: Sequence[View],
    faces: Int[np.ndarray, "F 3"],
    *,
    height: int,
    width: int,
    frame: Frame,
    times: int = _SUPERSAMPLING,
) -> UInt8[np.ndarray, "n height width 3"]:
    """Pictures of several heads on white, sRGB, all at the scale of one frame, with `times`² samples a pixel."""
    scale, white = height / frame.height_m, np.full((height, width, 3), 255, np.uint8)

    def draw(view: View) -> UInt8[np.ndarray, "height width 3"]:
        angle = np.radians(view.yaw_degrees)
        (x, y, z), c, s = (np.asarray(view.vertices_m, np.float64) - frame.centre_m).T, np.cos(angle), np.sin(angle)
        points = np.stack([width / 2 + scale * (c * x + s * z), height / 2 - scale * y, scale * (c * z - s * x)], 1)
        colours = np.broadcast_to(CLAY, points.shape) if view.colours is None else view.colours
        return render_over(white, points, faces, colours, view.paint, times=times)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return np.stack(list(pool.map(draw, views)))


def render_over(
    picture: UInt8[np.ndarray, "H W 3"],
    points_px: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    colours: UInt8[np.ndarray, "V 3"],
    paint: Paint | None = None,
    *,
    times: int = _SUPERSAMPLING,
) -> UInt8[np.ndarray, "H W 3"]:
    """A shaded mesh drawn over a picture, sRGB; points in its pixels: x right, y down, z towards the camera.

    It is drawn on the host, where nothing is compiled for a picture or a mesh of a new size, lit at the vertices. A
    `paint` stands in the colours' place.
    """
    height, width = picture.shape[:2]
    normals = host_normals(points_px * [1.0, -1.0, 1.0], faces)
    if paint is None:
        values = np.maximum(shade(_LINEAR[colours], normals, np.stack([LAMP] * 3, axis=1)), 0.0)
    else:
        lamp = np.maximum(harmonics(normals) @ LAMP, 0.0)[:, None]
        facing = float(harmonics(np.array([0.0, 0.0, 1.0])) @ LAMP)
        values = np.concatenate([paint.uv, (lamp / facing) ** RELIEF], axis=1)
    fine = (times * points_px).astype(np.float32)
    (ux, uy), (vx, vy) = ((fine[faces[:, k], :2] - fine[faces[:, 0], :2]).T for k in (1, 2))
    towards = ux * vy < uy * vx
    hits = _nearest(fine, faces, towards, times * height, times * width)
    # Corners side by side, so that they are fetched in one piece.
    corners = values.astype(np.float32)[faces].reshape(-1, 9)
    seen = np.flatnonzero(hits.face >= 0)
    face, weight = hits.face.reshape(-1)[seen], hits.barycentric.reshape(-1, 3)[seen]
    light = np.einsum("nk,nkc->nc", weight, corners.take(face, axis=0).reshape(-1, 3, 3))
    if paint is not None:
        light = _sampled(paint.light, light[:, :2]) * light[:, 2:]
    light *= np.where(towards, 1.0, BACK).astype(np.float32)[face, None]
    if times == 1:
        mixed = _LINEAR[picture]
        mixed.reshape(-1, 3)[seen] = light
        return _bytes(mixed)
    samples = np.zeros((hits.face.size, 4), np.float32)
    samples[seen] = 1.0
    samples[seen, :3] = light
    blocks = samples.reshape(height, times, width, times, 4)
    # Added one by one: far faster than a mean over two short axes.
    pixels = np.zeros((height, width, 4), np.float32)
    for row, column in np.ndindex(times, times):
        pixels += blocks[:, row, :, column]
    pixels /= times**2
    return _bytes(pixels[..., :3] + (1.0 - pixels[..., 3:]) * _LINEAR[picture])


def _nearest(
    points: Float32[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    towards: Bool[np.ndarray, " F"],
    height: int,
    width: int,
) -> Hits:
    """What `zbuffer` sees. Of triangles that face away, half of all, only those are drawn whose corners or middles
    aren't behind what faces us: those seen through a mouth or a neck, or where a surface ends."""
    place, size = points[:, :2], {"height": height, "width": width}
    front, back = np.flatnonzero(towards), np.flatnonzero(~towards)
    hits = zbuffer(place, points[:, 2], faces[front], **size)
    seen = np.append(front, -1).astype(np.int32)[hits.face]
    corners = points[faces[back]]
    probes = np.concatenate([corners, corners.mean(axis=1, keepdims=True)], axis=1)
    column, row = (probes[..., k].astype(np.int64).clip(0, end - 1) for k, end in enumerate((width, height)))
    back = back[(probes[..., 2] > hits.nearness[row, column]).any(axis=1)]
    if len(back):
        behind = zbuffer(place, points[:, 2], faces[back], **size)
        closer = behind.nearness > hits.nearness
        seen[closer] = back[behind.face[closer]]
        for mine, other in zip(hits[1:], behind[1:], strict=True):
            mine[closer] = other[closer]
    return hits._replace(face=seen)


def _bytes(light: Float32[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "H W 3"]:
    """sRGB of linear light, from a table."""
    return _SRGB[(light * (len(_SRGB) - 1) + 0.5).clip(0, len(_SRGB) - 1).astype(np.int32)]


def _sampled(texture: Float32[np.ndarray, "T T 3"], uv: Float32[np.ndarray, "n 2"]) -> Float32[np.ndarray, "n 3"]:
    """The nearest texel's values: samples are finer than texels, and each pixel is the mean of several."""
    side = len(texture)
    column, row = (side * uv[:, 0]).astype(np.int32), (side * (1.0 - uv[:, 1])).astype(np.int32)
    return texture.reshape(-1, 3).take(row.clip(0, side - 1) * side + column.clip(0, side - 1), axis=0)
