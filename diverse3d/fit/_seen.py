"""A photo's pixels after its fit, to hold other heads against (papers/004, Algorithm 2's photometric term)."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..head import SurfacePoints
from ..observe import Observation
from ..surface import vertex_normals
from ._crop import blurred, crop_face
from ._fit import Fit
from ._photometric import EVERY, FINEST_PX, ROBUST_SCALE
from ._pixels import Facets, Picture, PixelHead, colour_differences, facets, look, spread_points
from ._state import canonical


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
    share: Float[Array, " P"]
    """How much of the crop each point stands for: together they are the share of its pixels that show the face."""
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
        return jnp.sum(self.share * square / (1.0 + square / ROBUST_SCALE**2)) / 3.0


def seen_pixels(seen: Observation, pixels: PixelHead | None, fit: Fit) -> SeenPixels | None:
    """What an observation's photo shows of a fit; None for a mesh, and where the fit knows no skin."""
    if seen.photo is None or pixels is None or fit.appearance is None:
        return None
    assert fit.camera is not None, "a photo's fit has a camera"
    crop = crop_face(seen.photo, fit.vertices_m.dtype)
    camera = crop.camera(fit.camera)
    vertices, normals = _surface(pixels, fit)
    posed = vertices @ fit.turn.T
    fragments = look(pixels, posed, camera)
    weight = np.asarray(crop.weight)
    found = spread_points(pixels, fragments, normals @ fit.turn.T, weight)
    points, share = jax.tree.map(lambda leaf: leaf[::EVERY], found)
    shows = jnp.asarray(np.mean(weight * (np.asarray(fragments.face) >= 0)), share.dtype)
    share = shows * share / jnp.maximum(jnp.sum(share), 1.0)
    picture = Picture(blurred(crop, FINEST_PX).tone, fit.turn, camera)
    return _fixed(pixels, points, share, picture, vertices, normals, fit)


@eqx.filter_jit
def _surface(pixels: PixelHead, fit: Fit) -> tuple[Float[Array, "n 3"], Float[Array, "n 3"]]:
    """The fitted face's vertices in metres and their unit normals, head frame."""
    vertices = canonical(pixels.head, fit.unknowns)
    return vertices, vertex_normals(vertices, pixels.faces)


@eqx.filter_jit
def _fixed(
    pixels: PixelHead,
    points: SurfacePoints,
    share: Float[Array, " P"],
    picture: Picture,
    vertices_m: Float[Array, "n 3"],
    normals: Float[Array, "n 3"],
    fit: Fit,
) -> SeenPixels:
    assert fit.appearance is not None
    return SeenPixels(
        corners=pixels.kept[points.corners],
        facets=facets(points, normals, vertices_m[points.corners.reshape(-1)]),
        albedo=points(pixels.albedo(fit.appearance.albedo)),
        share=share,
        light=fit.appearance.light,
        picture=picture,
    )
