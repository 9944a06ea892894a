"""A small software renderer in numpy: for pictures in the docs, and for showing a head to the landmark detector."""

from typing import NamedTuple

import numpy as np


class View(NamedTuple):
    """Where a picture is taken from: the head is turned (degrees), then seen in perspective."""

    yaw: float = 0.0
    pitch: float = 0.0
    size_px: int = 512
    width_m: float = 0.30  # width of what is seen at the distance of `centre_m`
    centre_m: tuple[float, float, float] = (0.0, -0.005, -0.02)
    distance_m: float = 1.0


class Hits(NamedTuple):
    """What each pixel sees: the face (or -1) and the barycentric coordinates there."""

    face: np.ndarray  # int32 [H, W]
    barycentric: np.ndarray  # float64 [H, W, 3]


def rotation(view: View) -> np.ndarray:
    """[3, 3]: turns the head; positive yaw turns its face to the picture's right, positive pitch bows it."""
    yaw, pitch = np.radians([view.yaw, view.pitch])
    about_y = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    return about_x @ about_y


def project(vertices_m: np.ndarray, view: View) -> tuple[np.ndarray, np.ndarray]:
    """Pixels [V, 2] (x right, y down) and inverse depths [V] (larger is nearer)."""
    turned = (vertices_m - np.array(view.centre_m)) @ rotation(view).T
    inverse = 1.0 / (view.distance_m - turned[:, 2])
    scale = view.size_px / view.width_m * view.distance_m * inverse
    x = view.size_px / 2 + scale * turned[:, 0]
    y = view.size_px / 2 - scale * turned[:, 1]
    return np.stack([x, y], axis=1), inverse


def rasterise(points_px: np.ndarray, nearness: np.ndarray, faces: np.ndarray, size_px: int) -> Hits:
    """Which face each pixel centre sees: every pixel of every face's bounding box is tested at once."""
    corners = points_px[faces]  # [F, 3, 2]
    low = np.clip(np.ceil(corners.min(axis=1) - 0.5), 0, size_px).astype(np.int64)
    high = np.clip(np.floor(corners.max(axis=1) - 0.5) + 1, 0, size_px).astype(np.int64)
    width, height = np.maximum(high - low, 0).T
    area = _cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    count = width * height * (area < -1e-9)  # those that face us: y runs down, so they turn clockwise
    face = np.repeat(np.arange(len(faces)), count)
    within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    x = low[face, 0] + within % width[face]
    y = low[face, 1] + within // width[face]
    at = np.stack([x, y], axis=1) + 0.5
    opposite = [(corners[:, (k + 1) % 3], corners[:, (k + 2) % 3]) for k in range(3)]
    weight = np.stack([_cross((b - a)[face], at - a[face]) for a, b in opposite], axis=1) / area[face, None]
    inside = (weight >= -1e-12).all(axis=1)
    face, x, y, weight = face[inside], x[inside], y[inside], weight[inside]
    near = (weight * nearness[faces[face]]).sum(axis=1)
    order = np.argsort(near, kind="stable")  # the nearest is written last
    hits = Hits(np.full((size_px, size_px), -1, np.int32), np.zeros((size_px, size_px, 3)))
    flat = (y * size_px + x)[order]
    hits.face.reshape(-1)[flat] = face[order]
    # Weights of the picture, not of space: over a face of a few millimetres the difference is nothing.
    hits.barycentric.reshape(-1, 3)[flat] = weight[order]
    return hits


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Area-weighted unit normals [V, 3]."""
    corners = vertices[faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    corner = faces.T.ravel()
    total = np.stack(
        [np.bincount(corner, np.tile(normal[:, axis], 3), minlength=len(vertices)) for axis in range(3)], axis=1
    )
    return total / np.linalg.norm(total, axis=1, keepdims=True).clip(1e-12)


def render(
    vertices_m: np.ndarray,
    faces: np.ndarray,
    colours: np.ndarray,
    view: View,
    *,
    oversampling: int = 2,
    background: tuple[float, float, float] = (0.93, 0.93, 0.94),
    gloss: float = 0.12,
) -> np.ndarray:
    """A shaded picture, uint8 [size, size, 3] sRGB; `colours` uint8 [V, 3] are the vertices', sRGB too."""
    hits = look(vertices_m, faces, view, oversampling)
    return paint(hits, vertices_m, faces, colours, view, background=background, gloss=gloss)


def look(vertices_m: np.ndarray, faces: np.ndarray, view: View, oversampling: int = 2) -> Hits:
    """What each pixel of the view sees, `oversampling` times finer than its picture."""
    fine = view._replace(size_px=view.size_px * oversampling)
    return rasterise(*project(vertices_m, fine), faces, fine.size_px)


def paint(
    hits: Hits,
    vertices_m: np.ndarray,
    faces: np.ndarray,
    colours: np.ndarray,
    view: View,
    *,
    background: tuple[float, float, float] = (0.93, 0.93, 0.94),
    gloss: float = 0.12,
) -> np.ndarray:
    """The shaded picture of what `look` saw."""
    vertices_m = np.asarray(vertices_m, np.float64)
    oversampling = len(hits.face) // view.size_px
    seen = hits.face >= 0
    corner, weight = faces[hits.face[seen]], hits.barycentric[seen][..., None]
    normal = ((vertex_normals(vertices_m, faces) @ rotation(view).T)[corner] * weight).sum(axis=1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True).clip(1e-12)
    albedo = ((colours[corner] / 255.0) ** 2.2 * weight).sum(axis=1)
    picture = np.broadcast_to(np.array(background) ** 2.2, (*seen.shape, 3)).copy()
    picture[seen] = _shade(normal, albedo, gloss)
    size = view.size_px
    picture = picture.reshape(size, oversampling, size, oversampling, 3).mean(axis=(1, 3))
    return (np.clip(picture, 0, 1) ** (1 / 2.2) * 255 + 0.5).astype(np.uint8)


def _shade(normal: np.ndarray, albedo: np.ndarray, gloss: float) -> np.ndarray:
    """A warm key light from the upper left, a cool fill, a rim light, and a sky brighter than the ground."""
    lights = (
        ((-0.5, 0.6, 0.75), (1.00, 0.95, 0.88), 0.85),
        ((0.8, 0.1, 0.6), (0.80, 0.88, 1.00), 0.28),
        ((0.2, 0.7, -0.7), (1.00, 1.00, 1.00), 0.25),
    )
    light = (0.5 + 0.5 * normal[:, 1:2]) * np.array([0.30, 0.32, 0.36]) + np.array([0.10, 0.09, 0.09])
    shine = np.zeros_like(light)
    for direction, colour, strength in lights:
        towards = np.array(direction) / np.linalg.norm(direction)
        facing = (normal @ towards)[:, None]
        # Wrapped, as light that enters skin comes out around the edge.
        light = light + strength * np.array(colour) * np.clip((facing + 0.25) / 1.25, 0, 1) ** 1.3
        half = towards + np.array([0.0, 0.0, 1.0])
        shine = shine + strength * np.clip(normal @ (half / np.linalg.norm(half)), 0, 1)[:, None] ** 24
    return albedo * light + gloss * shine * np.array([1.0, 0.98, 0.95])
