"""A photo's pixels after its fit, to hold other heads against (papers/004, Algorithm 2's photometric term)."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .._arrays import on_device
from ..head import SurfacePoints
from ..observe import Observation
from ..surface import Fragments, vertex_normals
from ._crop import Crop, blurred, crop_face
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
    crop = crop_face(seen.photo, fit.vertices_m.dtype)
    fragments, posed_normals, vertices, normals = _look(pixels, crop, fit)
    weight = np.asarray(crop.weight)
    points, share = spread_points(pixels, fragments, posed_normals, weight)
    shows = on_device(np.mean(weight * (np.asarray(fragments.face) >= 0)), share.dtype)
    return _fixed(pixels, points, shows, share, blurred(crop, FINEST_PX), vertices, normals, fit)


@eqx.filter_jit
def _look(
    pixels: PixelHead, crop: Crop, fit: Fit
) -> tuple[Fragments, Float[Array, "n 3"], Float[Array, "n 3"], Float[Array, "n 3"]]:
    """What each pixel of the crop sees, posed normals, and the fitted face's vertices and normals in the head frame."""
    assert fit.camera is not None, "a photo's fit has a camera"
    vertices = canonical(pixels.head, fit.unknowns)
    normals = vertex_normals(vertices, pixels.faces)
    fragments = look(pixels, vertices @ fit.turn.T, crop.camera(fit.camera))
    return fragments, normals @ fit.turn.T, vertices, normals


@eqx.filter_jit
def _fixed(
    pixels: PixelHead,
    points: SurfacePoints,
    shows: Float[Array, ""],
    share: Float[Array, " P"],
    crop: Crop,
    vertices_m: Float[Array, "n 3"],
    normals: Float[Array, "n 3"],
    fit: Fit,
) -> SeenPixels:
    assert fit.appearance is not None and fit.camera is not None
    points, share = jax.tree.map(lambda leaf: leaf[::EVERY], (points, share))
    share = shows * share / jnp.maximum(jnp.sum(share), 1.0)
    picture = Picture(crop.tone, fit.turn, crop.camera(fit.camera))
    return SeenPixels(
        corners=pixels.kept[points.corners],
        facets=facets(points, normals, vertices_m[points.corners.reshape(-1)]),
        albedo=points(pixels.albedo(fit.appearance.albedo)),
        share=share,
        light=fit.appearance.light,
        picture=picture,
    )
