"""What a fit to pixels compares: the face that the unknowns describe with the crop of the photo."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from .._arrays import on_device
from ..head import SurfacePoints
from ..surface import Fragments, WeakPerspective, interpolate, vertex_normals
from ._costs import LandmarkHead, PhotoTarget, Weights
from ._crop import Crop, sample
from ._pixels import (
    Patches,
    PixelHead,
    PixelUnknowns,
    colours_at,
    light_of,
    nearest_faces,
    posed_surface,
    spread_points,
)
from ._state import INTEROCULAR_M, Unknowns, camera_at, rotation_of
from ._types import Appearance

ROBUST_SCALE = 0.12
"""Difference on the tone scale from which on a pixel counts less (Geman–McClure)."""

Colours = tuple[Float[Array, " A"], Float[Array, "9 3"]]
"""Albedo coefficients and the unknowns of the light."""


class PhotoProblem(NamedTuple):
    """All that one photo's fit works with."""

    landmarks: LandmarkHead
    """The landmark-carrying vertices."""
    pixels: PixelHead
    """The face."""
    target: PhotoTarget
    """Landmarks in the photo."""
    smoothness: Float[Array, "K K"]
    """Factor of the smoothness term."""
    rates: Float[Array, " K"]
    """Factor of gradient descent's learning rate a coefficient."""


def points_seen(problem: PhotoProblem, crop: Crop, unknowns: PixelUnknowns) -> tuple[SurfacePoints, Float[Array, " P"]]:
    """Surface points that the crop shows, with their weights."""
    posed, normals, camera = _surface(problem, crop, unknowns.shape)
    seen = nearest_faces(problem.pixels, posed, camera)
    return spread_points(problem.pixels, seen, normals, np.asarray(crop.weight))


def start_appearance(problem: PhotoProblem, shape: Unknowns) -> PixelUnknowns:
    """The most likely skin and light on a given shape."""
    dtype = shape.z.dtype
    return PixelUnknowns(
        shape=shape,
        albedo=on_device(np.zeros(problem.pixels.albedo.n_components), dtype),
        light=on_device(np.zeros((9, 3)), dtype),
    )


def appearance_of(unknowns: PixelUnknowns) -> Appearance:
    """Skin and light of a fit."""
    return Appearance(albedo=unknowns.albedo, light=light_of(unknowns.light))


_appearance = eqx.filter_jit(appearance_of)


class Rendered(eqx.Module):
    """What the intact face should look like in a crop."""

    tone: Float[Array, "S S 3"]
    """Colours on the tone scale; meaningless outside."""
    inside: Bool[Array, "S S"]
    """Pixels that the face covers."""
    place: Float[Array, "S S 3"]
    """Position of each pixel's surface point on the mean head, in inter-ocular distances from the head's origin."""
    facing: Float[Array, "S S"]
    """Cosine between the normal and the direction to the camera."""
    face: Float[Array, "S S"]
    """1 where the surface is the face's or an eyeball's."""


def rendered(problem: PhotoProblem, crop: Crop, unknowns: PixelUnknowns) -> Rendered:
    """The fitted head or face (`problem.pixels`), drawn in the pixels of the crop."""
    posed, _, camera = _surface(problem, crop, unknowns.shape)
    seen = nearest_faces(problem.pixels, posed, camera, crop.weight.shape[0])
    return _paint(problem.pixels, seen, posed, _appearance(unknowns))


def render_face(
    pixels: PixelHead, crop: Crop, posed_m: Float[Array, "n 3"], camera: WeakPerspective, appearance: Appearance
) -> Rendered:
    """A posed face (`PixelHead.kept` vertices, camera's frame), drawn in the pixels of the crop."""
    return _paint(pixels, nearest_faces(pixels, posed_m, crop.camera(camera)), posed_m, appearance)


@eqx.filter_jit
def _paint(pixels: PixelHead, seen: Fragments, posed_m: Float[Array, "n 3"], appearance: Appearance) -> Rendered:
    albedo, normal, place, face = (
        interpolate(seen, values, pixels.faces)
        for values in (
            pixels.albedo(appearance.albedo),
            vertex_normals(posed_m, pixels.faces),
            pixels.head.shaped(pixels.head.prior_mean) / INTEROCULAR_M,
            pixels.face[:, None],
        )
    )
    tones = colours_at(albedo.reshape(-1, 3), normal.reshape(-1, 3), appearance.light)
    return Rendered(
        tone=tones.reshape(normal.shape),
        inside=seen.face >= 0,
        place=place,
        facing=normal[..., 2],
        face=face[..., 0],
    )


@eqx.filter_jit
def _surface(
    problem: PhotoProblem, crop: Crop, shape: Unknowns
) -> tuple[Float[Array, "n 3"], Float[Array, "n 3"], WeakPerspective]:
    """Vertices and normals of the posed face, and the camera from there to the crop."""
    turn, camera = pose(problem, shape)
    return *posed_surface(problem.pixels, shape, turn), crop.camera(camera)


def pose(problem: PhotoProblem, shape: Unknowns) -> tuple[Float[Array, "3 3"], WeakPerspective]:
    """Rotation from the head's own frame to the camera's, and the photo's camera."""
    target = problem.target
    turn = rotation_of(shape) @ target.rotation_start
    return turn, camera_at(shape, target.camera_start, target.interocular_px)


def still(
    problem: PhotoProblem, surface: Patches, crop: Crop, shape: Unknowns
) -> tuple[Float[Array, "P 3"], Float[Array, "P 3"]]:
    """Normals in the camera's frame and the crop's colours, of a surface that stays where it is."""
    points, normals = surface(shape)
    turn, camera = pose(problem, shape)
    return normals @ turn.T, sample(crop.tone, crop.camera(camera).project(points @ turn.T))


def robust_root(differences: Float[Array, "P 3"], weight: Float[Array, " P"], weights: Weights) -> Float[Array, " P"]:
    """Root of each point's weight: λ2 over the points, less where the difference is large (Geman–McClure)."""
    robust = weight / (1.0 + jnp.sum(differences**2, axis=1) / ROBUST_SCALE**2) ** 2
    return jnp.sqrt(weights.photometric * robust / jnp.maximum(jnp.sum(weight), 1.0))


def colour_residuals(
    surface: Patches,
    normals: Float[Array, "P 3"],
    seen: Float[Array, "P 3"],
    root: Float[Array, " P"],
    weights: Weights,
) -> Callable[[Colours], list[Array]]:
    """What skin and light leave on a surface that stays where it is, in units of their prior."""

    def residuals(colours: Colours) -> list[Array]:
        expected = colours_at(surface.reflectance(colours[0]), normals, light_of(colours[1]))
        return [*colours, root[:, None] * (expected - seen) / weights.prior**0.5]

    return residuals
