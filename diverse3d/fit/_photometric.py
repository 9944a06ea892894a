"""Algorithm 1 with its photometric term: landmarks, pixels and prior together, from coarse to fine."""

from typing import NamedTuple

import equinox as eqx

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._optimise import Solution, least_squares
from ..head import SurfacePoints
from ._appearance import Appearance
from ._costs import (
    LandmarkHead,
    PhotoTarget,
    Weights,
    closure_cost,
    landmark_cost,
    prior_cost,
    project_landmarks,
    smoothness_cost,
)
from ._crop import Crop, blurred
from ._pixels import (
    PixelHead,
    PixelUnknowns,
    light_of,
    look,
    patches,
    photometric_residuals,
    posed_surface,
    spread_points,
)
from ._state import Unknowns, camera_at, rotation_of

ROBUST_SCALE = 0.12
"""Difference on the tone scale from which on a pixel counts less (Geman–McClure)."""

_ROUNDS = ((4.0, False), (4.0, True), (2.0, True), (1.0, True))
"""Blur in pixels of the crop, and whether the shape moves too."""

_STEPS = 4


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


def fit_pixels(problem: PhotoProblem, crop: Crop, at: PixelUnknowns, weights: Weights) -> PixelUnknowns:
    """Refine a landmark fit by the pixels of the crop that weigh something.

    Which triangle each pixel sees, and which pixels count, is looked up anew at each of the rounds.
    """
    for sigma_px, moves in _ROUNDS:
        points, share = points_seen(problem, crop, at)
        at = _round(problem, points, share, blurred(crop, sigma_px), at, weights, moves=moves).value
    return at


def points_seen(problem: PhotoProblem, crop: Crop, at: PixelUnknowns) -> tuple[SurfacePoints, Float[Array, " P"]]:
    """Surface points that the crop shows, with their weights."""
    posed, normals = _surface(problem, at.shape)
    camera = crop.camera(camera_at(at.shape, problem.target.camera_start, problem.target.interocular_px))
    return spread_points(problem.pixels, look(problem.pixels, posed, camera), normals, np.asarray(crop.weight))


def start_appearance(problem: PhotoProblem, shape: Unknowns) -> PixelUnknowns:
    """The most likely skin and light on a given shape."""
    dtype = shape.z.dtype
    return PixelUnknowns(
        shape=shape,
        albedo=jnp.zeros(problem.pixels.albedo.n_components, dtype),
        light=jnp.zeros((9, 3), dtype),
    )


def appearance_of(at: PixelUnknowns) -> Appearance:
    """Skin and light of a fit."""
    return Appearance(albedo=at.albedo, light=light_of(at.light))


@eqx.filter_jit
def _surface(problem: PhotoProblem, shape: Unknowns) -> tuple[Float[Array, "n 3"], Float[Array, "n 3"]]:
    return posed_surface(problem.pixels, shape, rotation_of(shape) @ problem.target.rotation_start)


@eqx.filter_jit
def _round(
    problem: PhotoProblem,
    points: SurfacePoints,
    share: Float[Array, " P"],
    crop: Crop,
    at: PixelUnknowns,
    weights: Weights,
    *,
    moves: bool,
) -> Solution[PixelUnknowns]:
    """A few steps with the points and the robust weights held."""
    surface = patches(problem.pixels, points, at.shape)
    target = problem.target

    def differences(unknowns: PixelUnknowns) -> Float[Array, "P 3"]:
        camera = camera_at(unknowns.shape, target.camera_start, target.interocular_px)
        turn = rotation_of(unknowns.shape) @ target.rotation_start
        return photometric_residuals(surface, crop, unknowns, turn, camera)

    square = jnp.sum(differences(at) ** 2, axis=1)
    robust = share / (1.0 + square / ROBUST_SCALE**2) ** 2
    root = jnp.sqrt(weights.photometric * robust / jnp.maximum(jnp.sum(share), 1.0))

    def residuals(unknowns: PixelUnknowns) -> list[Array]:
        dense, sparse = project_landmarks(problem.landmarks, target, unknowns.shape)
        prior = weights.prior**0.5
        parts = [
            landmark_cost(dense, target, weights),
            closure_cost(sparse, target, weights),
            smoothness_cost(unknowns.shape, problem.smoothness, weights),
            *prior_cost(unknowns.shape, weights),
            prior * unknowns.albedo,
            prior * unknowns.light,
            root[:, None] * differences(unknowns),
        ]
        return [part / prior for part in parts]

    if moves:
        return least_squares(residuals, at, steps=_STEPS, tolerance=1e-3)
    still = least_squares(
        lambda free: residuals(PixelUnknowns(at.shape, *free)), (at.albedo, at.light), steps=4 * _STEPS, tolerance=1e-3
    )
    return Solution(PixelUnknowns(at.shape, *still.value), still.loss, still.steps, still.result)
