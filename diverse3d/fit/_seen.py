"""A photo's pixels after its fit, to compare other heads with (the photometric
term of Algorithm 2, Dey and Boddeti 2022, supplement)."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .._arrays import on_device
from ..head import SurfacePoints
from ..observe import Observation, PhotoObservation
from ..surface import WeakPerspective, vertex_normals
from ._crop import Crop, blurred, crop_face
from ._photometric import ROBUST_SCALE
from ._pixels import Facets, Picture, PixelHead, colour_differences, facets, nearest_faces, spread_points
from ._refine import EVERY, FINEST_PX
from ._state import canonical
from ._types import Appearance, Fit, PhotoFit


class SeenPixels(eqx.Module):
    """Surface points of a fitted face that its photo shows, with the fit's skin, light, pose and camera.

    They stay where they are on the surface, so that ids carry no gradient; positions and normals follow the head. A
    fixed number of them, so that every photo runs through one compiled program.
    """

    corners: Int[Array, "P 3"]
    """The vertices of each point's triangle."""
    facets: Facets
    """The points on them."""
    albedo: Float[Array, "P 3"]
    """The fitted skin there, linear-light reflectance."""
    weight: Float[Array, " P"]
    """What part of the crop each point stands for: they add up to the part of its pixels that shows the face."""
    light: Float[Array, "9 3"]
    """The fitted light."""
    picture: Picture
    """The photo as the fit's last round saw it, with the fit's pose and camera."""

    def differences(self, vertices_m: Float[Array, "V 3"]) -> Float[Array, "P 3"]:
        """Expected less seen colour on the tone scale, of a head given by its vertices in the head frame."""
        points, normals = self.facets(vertices_m[self.corners.reshape(-1)])
        return colour_differences(points, normals, self.albedo, self.light, self.picture)

    def __call__(self, vertices_m: Float[Array, "V 3"]) -> Float[Array, ""]:
        """Mean squared difference on the tone scale, robustly, over the crop's pixels and channels.

        It is zero where the crop shows no face, as in a picture under a mask, so little of a face says little. A
        pixel's sum over channels levels off at `ROBUST_SCALE`² (Geman–McClure): the weights of the fit's own rounds
        are the slope of that.
        """
        square = jnp.sum(self.differences(vertices_m) ** 2, axis=1)
        return jnp.sum(self.weight * square / (1.0 + square / ROBUST_SCALE**2)) / 3.0


def seen_pixels(seen: Observation, pixels: PixelHead | None, fit: Fit) -> SeenPixels | None:
    """What an observation's photo shows of a fit; None for a mesh, and where the fit knows no skin."""
    if not (isinstance(seen, PhotoObservation) and isinstance(fit, PhotoFit) and pixels and fit.appearance):
        return None
    crop = crop_face(seen.photo, fit.vertices_m.dtype)
    surface, posed, normals, camera = _surface(pixels, crop, fit)
    fragments, weight = nearest_faces(pixels, posed, camera), np.asarray(crop.weight)
    covered = on_device(np.mean(weight * (np.asarray(fragments.face) >= 0)), fit.vertices_m.dtype)
    found = spread_points(pixels, fragments, normals, weight)
    return _fixed(pixels, found, covered, blurred(crop, FINEST_PX), surface, fit, fit.appearance)


Surface = tuple[Float[Array, "n 3"], Float[Array, "n 3"]]
"""Vertices in metres and unit normals, head frame."""


@eqx.filter_jit
def _surface(
    pixels: PixelHead, crop: Crop, fit: PhotoFit
) -> tuple[Surface, Float[Array, "n 3"], Float[Array, "n 3"], WeakPerspective]:
    """The fitted face, its vertices and normals as posed, and the camera from there to the crop."""
    vertices = canonical(pixels.head, fit.unknowns)
    normals = vertex_normals(vertices, pixels.faces)
    return (vertices, normals), vertices @ fit.turn.T, normals @ fit.turn.T, crop.camera(fit.camera)


@eqx.filter_jit
def _fixed(
    pixels: PixelHead,
    found: tuple[SurfacePoints, Float[Array, " P"]],
    covered: Float[Array, ""],
    crop: Crop,
    surface: Surface,
    fit: PhotoFit,
    appearance: Appearance,
) -> SeenPixels:
    points, weight = jax.tree.map(lambda leaf: leaf[::EVERY], found)
    vertices, normals = surface
    return SeenPixels(
        corners=pixels.kept[points.corners],
        facets=facets(points, normals, vertices[points.corners.reshape(-1)]),
        albedo=points(pixels.albedo(appearance.albedo)),
        weight=covered * weight / jnp.maximum(jnp.sum(weight), 1.0),
        light=appearance.light,
        picture=Picture(crop.tone, fit.turn, crop.camera(fit.camera)),
    )
