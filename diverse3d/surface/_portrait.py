"""Portraits in perspective: for pictures in the docs, and for showing a head to the landmark detector."""

from typing import NamedTuple

import numpy as np

from ._normals import host_normals
from ._zbuffer import Hits, zbuffer

_BACKGROUND = (0.93, 0.93, 0.94)


class Portrait(NamedTuple):
    """Where a picture is taken from: the head is turned (degrees), then seen in perspective.

    Heads are vertices [V, 3] in metres and triangles [F, 3], counter-clockwise from outside: a closed surface.
    """

    yaw: float = 0.0
    """Positive turns the face to the picture's right."""
    pitch: float = 0.0
    """Positive bows it."""
    size_px: int = 512
    """Width and height of the picture."""
    width_m: float = 0.30
    """Width of what is seen at the distance of `centre_m`."""
    centre_m: tuple[float, float, float] = (0.0, -0.005, -0.02)
    """Point of the head that is in the middle, about which it turns."""
    distance_m: float = 1.0
    """From the camera to it."""

    @property
    def rotation(self) -> np.ndarray:
        """[3, 3]: turns the head."""
        yaw, pitch = np.radians([self.yaw, self.pitch])
        about_y = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
        about_x = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
        return about_x @ about_y

    def look(self, vertices_m: np.ndarray, faces: np.ndarray, oversampling: int = 2) -> Hits:
        """What each pixel sees, `oversampling` times finer than the picture; weights are those of the picture, which
        over a triangle of a few millimetres differ in nothing from those of space."""
        side = self.size_px * oversampling
        turned = (vertices_m - np.array(self.centre_m)) @ self.rotation.T
        nearness = 1.0 / (self.distance_m - turned[:, 2])
        scale = side / self.width_m * self.distance_m * nearness
        points = np.stack([side / 2 + scale * turned[:, 0], side / 2 - scale * turned[:, 1]], axis=1)
        return zbuffer(points, nearness, faces, height=side, width=side, solid=len(faces))

    def render(
        self,
        vertices_m: np.ndarray,
        faces: np.ndarray,
        colours: np.ndarray,
        *,
        oversampling: int = 2,
        gloss: float = 0.12,
    ) -> np.ndarray:
        """The shaded picture, uint8 [size, size, 3] sRGB; `colours` uint8 [V, 3] are the vertices', sRGB too."""
        return self.paint(self.look(vertices_m, faces, oversampling), vertices_m, faces, colours, gloss=gloss)

    def paint(
        self,
        hits: Hits,
        vertices_m: np.ndarray,
        faces: np.ndarray,
        colours: np.ndarray,
        *,
        gloss: float = 0.12,
    ) -> np.ndarray:
        """The picture of what `look` saw."""
        vertices_m = np.asarray(vertices_m, np.float64)
        oversampling = len(hits.face) // self.size_px
        seen = hits.face >= 0
        corner, weight = faces[hits.face[seen]], hits.barycentric[seen][..., None]
        normal = ((host_normals(vertices_m, faces) @ self.rotation.T)[corner] * weight).sum(axis=1)
        normal /= np.linalg.norm(normal, axis=1, keepdims=True).clip(1e-12)
        albedo = ((colours[corner] / 255.0) ** 2.2 * weight).sum(axis=1)
        picture = np.broadcast_to(np.array(_BACKGROUND) ** 2.2, (*seen.shape, 3)).copy()
        picture[seen] = _shade(normal, albedo, gloss)
        size = self.size_px
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
