"""The photometric term of Algorithm 1 (Dey and Boddeti 2022, supplement §2.1): what a head looks like, pixel by pixel.

Points are fixed on the surface between two rasterisations; in between, they move over the
photo with the head. So ids carry no gradient, while positions, normals and colours do.
"""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .._arrays import on_device
from ..head import Albedo, HeadModel, SurfacePoints
from ..surface import Fragments, WeakPerspective, rasterise, shade, vertex_normals
from ._crop import CROP_PX, Crop, sample, tone
from ._state import Unknowns, canonical, subset

POINTS = 1600
"""Surface points on which colours are compared."""

_GRAZING = 0.2
_LEVEL, _LEVEL_SD, _SHAPE_SD, _COLOUR_SD = 2.5, 0.5, 0.3, 0.08
_FRONTAL = np.array([1.0, 0.0, 0.2, 0.4, 0.0, 0.0, 0.0, 0.0, 0.0])
_OPPONENT = np.array([[1.0, 0.0, -1.0], [-0.5, 1.0, -0.5]])


class PixelHead(eqx.Module):
    """The face of a head with its eyeballs, or all of it, as a head of its own."""

    head: HeadModel
    """The head restricted to those vertices."""
    albedo: Albedo
    """Its colours."""
    faces: Int[Array, "F 3"]
    """Triangles whose three corners are kept."""
    kept: Int[Array, " n"]
    """Which vertices of the whole head these are."""
    face: Float[Array, " n"]
    """1 at vertices of the face and the eyeballs."""


class PixelUnknowns(eqx.Module):
    """What the photometric fit solves for; everything of order one, zero the most likely value."""

    shape: Unknowns
    """Shape, joints, pose and camera."""
    albedo: Float[Array, " A"]
    """Albedo coefficients."""
    light: Float[Array, "9 3"]
    """Light, in units of its prior (see `light_of`)."""


def pixel_head(head: HeadModel, *, whole: bool = False) -> PixelHead | None:
    """The face of a head, or all of it, as photos are compared with; None where the head has no albedo."""
    if head.albedo is None:
        return None
    every = np.arange(head.n_vertices)
    names = [name for name in ("face", "left_eyeball", "right_eyeball") if name in head.regions]
    face = np.unique(np.concatenate([np.asarray(head.regions[name]) for name in names])) if names else every
    kept = every if whole else face
    place = np.full(head.n_vertices, -1)
    place[kept] = np.arange(kept.size)
    faces = place[np.asarray(head.faces)]
    return PixelHead(
        head=head if whole else subset(head, kept),
        albedo=head.albedo if whole else subset(head.albedo, kept),
        faces=on_device(faces[(faces >= 0).all(axis=1)], jnp.int32),
        kept=on_device(kept, jnp.int32),
        face=on_device(np.isin(kept, face), head.dtype),
    )


def light_of(unknown: Float[Array, "9 3"]) -> Float[Array, "9 3"]:
    """Light from its standardised unknowns: a column of grey and two of colour.

    A priori it is white, from the front and a little from above. Its level varies most, where it comes from less, and
    its colour least, so that light can't explain skin colour away.
    """
    dtype = unknown.dtype
    grey = on_device(_FRONTAL[1:], dtype) + _SHAPE_SD * unknown[1:, 0]
    shape = jnp.concatenate([jnp.ones(1, dtype), grey])
    colour = unknown[:, 1:] @ on_device(_OPPONENT, dtype)
    return _LEVEL * jnp.exp(_LEVEL_SD * unknown[0, 0]) * (shape[:, None] + _COLOUR_SD * colour)


def posed_surface(
    pixels: PixelHead, unknowns: Unknowns, turn: Float[Array, "3 3"]
) -> tuple[Float[Array, "n 3"], Float[Array, "n 3"]]:
    """Posed vertices in metres and their unit normals."""
    posed = canonical(pixels.head, unknowns) @ turn.T
    return posed, vertex_normals(posed, pixels.faces)


def colours_at(
    albedo: Float[Array, "P 3"], normals: Float[Array, "P 3"], light: Float[Array, "9 3"]
) -> Float[Array, "P 3"]:
    """What surface points look like, on the tone scale; normals need not be of unit length."""
    return tone(shade(albedo, _unit(normals), light))


class Facets(eqx.Module):
    """Small pieces of surface around the points that are compared: each point's triangle, on its own.

    In a few steps the smooth normal moves as its triangle's own does, so that no step needs the whole mesh.
    """

    barycentric: Float[Array, "P 3"]
    """Weights of the corners."""
    bend: Float[Array, "P 3"]
    """Smooth less flat unit normal, in the head's own frame."""

    def __call__(self, corners_m: Float[Array, "n 3"]) -> tuple[Float[Array, "P 3"], Float[Array, "P 3"]]:
        """Points in metres and their normals, from the corners, three a point."""
        a, b, c = (corners_m.reshape(-1, 3, 3)[:, i] for i in range(3))
        return self.mean(corners_m), _unit(jnp.cross(b - a, c - a)) + self.bend

    def mean(self, values: Float[Array, "n D"]) -> Float[Array, "P D"]:
        """Any attribute of the corners, at the points."""
        return jnp.einsum("pc,pcd->pd", self.barycentric, values.reshape(-1, 3, values.shape[1]))


def facets(points: SurfacePoints, normals: Float[Array, "n 3"], corners_m: Float[Array, "c 3"]) -> Facets:
    """The surface around points of a mesh with smooth unit normals; its own vertices are `corners_m`, three a point."""
    flat = Facets(points.barycentric, jnp.zeros_like(points.barycentric))
    return Facets(points.barycentric, _unit(points(normals)) - flat(corners_m)[1])


class Patches(eqx.Module):
    """`Facets` of a head whose unknowns are still to be found."""

    corners: HeadModel
    """The head restricted to the corners, three a point."""
    facets: Facets
    """The points on them."""
    albedo: Albedo
    """Colours of the corners, three a point."""

    def __call__(self, unknowns: Unknowns) -> tuple[Float[Array, "P 3"], Float[Array, "P 3"]]:
        """Points in metres and their normals, in the head's own frame."""
        return self.facets(canonical(self.corners, unknowns))

    def reflectance(self, coefficients: Float[Array, " A"]) -> Float[Array, "P 3"]:
        """Albedo of the points."""
        return self.facets.mean(self.albedo(coefficients))


def patches(pixels: PixelHead, points: SurfacePoints, unknowns: Unknowns) -> Patches:
    """The surface around points, with the smooth normals that it has now."""
    corners = points.corners.reshape(-1)
    head = pixels.head.subset(corners)
    normals = vertex_normals(canonical(pixels.head, unknowns), pixels.faces)
    return Patches(head, facets(points, normals, canonical(head, unknowns)), pixels.albedo.subset(corners))


def _unit(vectors: Float[Array, "P 3"]) -> Float[Array, "P 3"]:
    return vectors / jnp.sqrt(jnp.sum(vectors**2, axis=1, keepdims=True) + 1e-12)


class Picture(NamedTuple):
    """A crop of a photo, and how a head's own frame is seen in it."""

    tone: Float[Array, "S S 3"]
    """Colours on the tone scale."""
    turn: Float[Array, "3 3"]
    """Rotation from the head's own frame to the camera's."""
    camera: WeakPerspective
    """From there to pixels of the crop."""


def colour_differences(
    points_m: Float[Array, "P 3"],
    normals: Float[Array, "P 3"],
    albedo: Float[Array, "P 3"],
    light: Float[Array, "9 3"],
    picture: Picture,
) -> Float[Array, "P 3"]:
    """Expected less seen colour at surface points with normals in the head's own frame, on the tone scale."""
    seen = sample(picture.tone, picture.camera.project(points_m @ picture.turn.T))
    return colours_at(albedo, normals @ picture.turn.T, light) - seen


def photometric_residuals(
    surface: Patches,
    crop: Crop,
    unknowns: PixelUnknowns,
    turn: Float[Array, "3 3"],
    camera: WeakPerspective,
) -> Float[Array, "P 3"]:
    """`colour_differences` of a head, its skin and its light as the unknowns have them."""
    albedo, light = surface.reflectance(unknowns.albedo), light_of(unknowns.light)
    picture = Picture(crop.tone, turn, crop.camera(camera))
    return colour_differences(*surface(unknowns.shape), albedo, light, picture)


def nearest_faces(
    pixels: PixelHead, posed_m: Float[Array, "n 3"], camera: WeakPerspective, side: int = CROP_PX
) -> Fragments:
    """Which triangle of the face each pixel of the crop sees."""
    points_px, depth = on_host(camera, posed_m), np.asarray(posed_m)[:, 2]
    dtype = depth.dtype
    return rasterise(on_device(points_px, dtype), on_device(depth, dtype), pixels.faces, height=side, width=side)


def on_host(camera: WeakPerspective, points_m: Float[Array, "n 3"]) -> Float[np.ndarray, "n 2"]:
    """`camera.project`, rounded after the product and after the sum.

    Compiled, both are one operation, and a point on a pixel's edge lies in the one or the other by the last bit.
    """
    points = np.asarray(points_m)
    flipped = points[:, :2] * np.array([1, -1], points.dtype)
    return np.asarray(camera.scale_px_per_m) * flipped + np.asarray(camera.centre_px)


def spread_points(
    pixels: PixelHead, fragments: Fragments, normals: Float[Array, "n 3"], weight: Float[np.ndarray, "S S"]
) -> tuple[SurfacePoints, Float[Array, " P"]]:
    """`POINTS` surface points evenly over the face's seen pixels, and the weight of each.

    Grazing ones are left out: there a pixel is next to anything.
    """
    face, barycentric = np.asarray(fragments.face), np.asarray(fragments.barycentric)
    corners = np.asarray(pixels.faces)[np.maximum(face, 0)]
    facing = (np.asarray(normals)[corners, 2] * barycentric).sum(axis=2)
    usable = np.flatnonzero((face >= 0) & (facing > _GRAZING) & (weight > 0))
    if usable.size == 0:
        chosen, point_weight = np.zeros(POINTS, int), np.zeros(POINTS)
    else:
        chosen = usable[np.linspace(0, usable.size - 1, POINTS).round().astype(int)]
        point_weight = weight.reshape(-1)[chosen]
    points = SurfacePoints(
        on_device(corners.reshape(-1, 3)[chosen], jnp.int32),
        on_device(barycentric.reshape(-1, 3)[chosen], barycentric.dtype),
    )
    return points, on_device(point_weight, normals.dtype)
