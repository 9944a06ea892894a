"""Algorithm 1 with its photometric term: landmarks, pixels and prior together, from coarse to fine."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from .._arrays import on_device
from .._optimise import Solution, least_squares
from ..head import SurfacePoints
from ..surface import Fragments, WeakPerspective, interpolate, vertex_normals
from ._appearance import Appearance
from ._config import FitConfig
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
from ._crop import Crop, blurred, sample
from ._pixels import (
    Patches,
    PixelHead,
    PixelUnknowns,
    colours_at,
    light_of,
    look,
    patches,
    photometric_residuals,
    posed_surface,
    spread_points,
)
from ._solve import solve
from ._state import INTEROCULAR_M, Unknowns, camera_at, rotation_of

ROBUST_SCALE = 0.12
"""Difference on the tone scale from which on a pixel counts less (Geman–McClure)."""

FINEST_PX = 1.0
"""Blur under which a fit ends, in pixels of the crop."""

_ROUNDS = ((4.0, False), (4.0, True), (2.0, True), (FINEST_PX, True))
"""Blur in pixels of the crop, and whether the shape moves too."""

_STEPS = 4

EVERY = 4
"""Of all surface points, one in so many serves where each is looked at many times over."""

_STARTS, _JUDGEMENTS, _PART_M = 9, 3, 0.02
_COLOUR_STEPS, _COLOUR_TOLERANCE, _SOFT_PX = 8, 1e-2, 2.0
_FACE_SD = 0.07
_INDEPENDENT = 200.0
"""How many independent looks all the points together are worth: neighbours say the same."""

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
    """Share of gradient descent's learning rate a coefficient."""


def fit_pixels(problem: PhotoProblem, crop: Crop, at: PixelUnknowns, config: FitConfig) -> PixelUnknowns:
    """Refine a landmark fit by the pixels of the crop that weigh something, with the configured solver.

    Which triangle each pixel sees, and which pixels count, is looked up anew at each of the rounds.
    """
    for sigma_px, moves in _ROUNDS:
        points, share = points_seen(problem, crop, at)
        at = _round(problem, points, share, blurred(crop, sigma_px), at, config, moves=moves).value
    return at


def fit_colours(problem: PhotoProblem, crop: Crop, at: PixelUnknowns, weights: Weights) -> PixelUnknowns:
    """Refine skin and light alone by the pixels of the crop that weigh something, by Levenberg–Marquardt."""
    points, share = points_seen(problem, crop, at)
    config = FitConfig(weights=weights)
    return _round(problem, points, share, blurred(crop, _SOFT_PX), at, config, moves=False).value


def points_seen(problem: PhotoProblem, crop: Crop, at: PixelUnknowns) -> tuple[SurfacePoints, Float[Array, " P"]]:
    """Surface points that the crop shows, with their weights."""
    seen, normals = _look(problem, crop, at.shape)
    return spread_points(problem.pixels, seen, normals, np.asarray(crop.weight))


def start_appearance(problem: PhotoProblem, shape: Unknowns) -> PixelUnknowns:
    """The most likely skin and light on a given shape."""
    dtype = shape.z.dtype
    return PixelUnknowns(
        shape=shape,
        albedo=on_device(np.zeros(problem.pixels.albedo.n_components), dtype),
        light=on_device(np.zeros((9, 3)), dtype),
    )


def appearance_of(at: PixelUnknowns) -> Appearance:
    """Skin and light of a fit."""
    return Appearance(albedo=at.albedo, light=light_of(at.light))


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


@eqx.filter_jit
def rendered(problem: PhotoProblem, crop: Crop, at: PixelUnknowns) -> Rendered:
    """The fitted face, drawn in the pixels of the crop."""
    turn, camera = _pose(problem, at.shape)
    posed, _ = posed_surface(problem.pixels, at.shape, turn)
    return render_face(problem.pixels, crop, posed, camera, appearance_of(at))


@eqx.filter_jit
def render_face(
    pixels: PixelHead, crop: Crop, posed_m: Float[Array, "n 3"], camera: WeakPerspective, appearance: Appearance
) -> Rendered:
    """A posed face (`PixelHead.kept` vertices, camera's frame), drawn in the pixels of the crop."""
    seen = look(pixels, posed_m, crop.camera(camera))
    albedo, normal, place = (
        interpolate(seen, values, pixels.faces)
        for values in (
            pixels.albedo(appearance.albedo),
            vertex_normals(posed_m, pixels.faces),
            pixels.head.shaped(pixels.head.prior_mean) / INTEROCULAR_M,
        )
    )
    tones = colours_at(albedo.reshape(-1, 3), normal.reshape(-1, 3), appearance.light)
    return Rendered(tone=tones.reshape(normal.shape), inside=seen.face >= 0, place=place, facing=normal[..., 2])


@eqx.filter_jit
def _look(problem: PhotoProblem, crop: Crop, shape: Unknowns) -> tuple[Fragments, Float[Array, "n 3"]]:
    """What each pixel of the crop sees of the face, and the face's normals in the camera's frame."""
    turn, camera = _pose(problem, shape)
    posed, normals = posed_surface(problem.pixels, shape, turn)
    return look(problem.pixels, posed, crop.camera(camera)), normals


def _pose(problem: PhotoProblem, shape: Unknowns) -> tuple[Float[Array, "3 3"], WeakPerspective]:
    """Rotation from the head's own frame to the camera's, and the photo's camera."""
    target = problem.target
    turn = rotation_of(shape) @ target.rotation_start
    return turn, camera_at(shape, target.camera_start, target.interocular_px)


def _still(
    problem: PhotoProblem, surface: Patches, crop: Crop, shape: Unknowns
) -> tuple[Float[Array, "P 3"], Float[Array, "P 3"]]:
    """Normals in the camera's frame and the crop's colours, of a surface that stays where it is."""
    points, normals = surface(shape)
    turn, camera = _pose(problem, shape)
    return normals @ turn.T, sample(crop.tone, crop.camera(camera).project(points @ turn.T))


@eqx.filter_jit
def _round(
    problem: PhotoProblem,
    points: SurfacePoints,
    share: Float[Array, " P"],
    crop: Crop,
    at: PixelUnknowns,
    config: FitConfig,
    *,
    moves: bool,
) -> Solution[PixelUnknowns]:
    """Some steps with the points and the robust weights held."""
    surface = patches(problem.pixels, points, at.shape)
    target, weights = problem.target, config.weights

    def differences(unknowns: PixelUnknowns) -> Float[Array, "P 3"]:
        return photometric_residuals(surface, crop, unknowns, *_pose(problem, unknowns.shape))

    root = _robust_root(differences(at), share, weights)

    def residuals(unknowns: PixelUnknowns) -> list[Array]:
        dense, sparse = project_landmarks(problem.landmarks, target, unknowns.shape)
        parts = [
            landmark_cost(dense, target, weights),
            closure_cost(sparse, target, weights),
            smoothness_cost(unknowns.shape, problem.smoothness, weights),
            *prior_cost(unknowns.shape, weights),
            root[:, None] * differences(unknowns),
        ]
        return [unknowns.albedo, unknowns.light, *(part / weights.prior**0.5 for part in parts)]

    few = _STEPS if moves else _COLOUR_STEPS
    steps = few if config.solver == "lm" else config.part_steps
    if moves:
        return solve(residuals, at, config, problem.rates, steps=steps, tolerance=1e-3)
    normals, seen = _still(problem, surface, crop, at.shape)
    colours = _colour_residuals(surface, normals, seen, root, weights)
    still = solve(colours, (at.albedo, at.light), config, problem.rates, steps=steps, tolerance=_COLOUR_TOLERANCE)
    return Solution(PixelUnknowns(at.shape, *still.value), still.loss, still.steps, still.result)


def _robust_root(differences: Float[Array, "P 3"], share: Float[Array, " P"], weights: Weights) -> Float[Array, " P"]:
    """Root of each point's weight: λ2 over the points, less where the difference is large (Geman–McClure)."""
    robust = share / (1.0 + jnp.sum(differences**2, axis=1) / ROBUST_SCALE**2) ** 2
    return jnp.sqrt(weights.photometric * robust / jnp.maximum(jnp.sum(share), 1.0))


def _colour_residuals(
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


def colours_first(problem: PhotoProblem, crop: Crop, at: PixelUnknowns, weights: Weights) -> PixelUnknowns:
    """Skin and light that explain most of the face although any part of it may be hidden.

    Each of `_STARTS` small parts of the face is taken for skin in turn and the rest is judged by it, robustly; the
    colours under which all of it is likeliest win. A pixel is face with a Gaussian difference or something else, of
    any colour alike (papers/003, eq. 8-9).
    """
    points, share = points_seen(problem, crop, at)
    return _robust_colours(problem, points, share, blurred(crop, _SOFT_PX), at, weights)


@eqx.filter_jit
def _robust_colours(
    problem: PhotoProblem,
    points: SurfacePoints,
    share: Float[Array, " P"],
    crop: Crop,
    at: PixelUnknowns,
    weights: Weights,
) -> PixelUnknowns:
    points, share = jax.tree.map(lambda leaf: leaf[::EVERY], (points, share))
    surface = patches(problem.pixels, points, at.shape)
    points_m, _ = surface(at.shape)
    normals, seen = _still(problem, surface, crop, at.shape)

    def judge(centre: Float[Array, "2"]) -> tuple[Float[Array, ""], Colours]:
        near = jnp.exp(-0.5 * jnp.sum((points_m[:, :2] - centre[None, :]) ** 2, axis=1) / _PART_M**2)
        colours = (jnp.zeros_like(at.albedo), jnp.zeros_like(at.light))
        root = jnp.sqrt(weights.photometric * share * near / jnp.maximum(jnp.sum(share * near), 1e-6))

        def again(so_far: tuple[Colours, Array], _: None) -> tuple[tuple[Colours, Array], None]:
            left = _colour_residuals(surface, normals, seen, so_far[1], weights)
            better = least_squares(left, so_far[0], steps=_COLOUR_STEPS, tolerance=_COLOUR_TOLERANCE).value
            return (better, _robust_root(differences(better), share, weights)), None

        def differences(colours: Colours) -> Float[Array, "P 3"]:
            return colours_at(surface.reflectance(colours[0]), normals, light_of(colours[1])) - seen

        (colours, _), _ = jax.lax.scan(again, (colours, root), None, length=_JUDGEMENTS)
        square = jnp.sum(differences(colours) ** 2, axis=1) / _FACE_SD**2
        face = jnp.exp(-0.5 * square) / (2 * np.pi * _FACE_SD**2) ** 1.5
        likely = jnp.sum(share * jnp.log(0.5 * face + 0.5)) / jnp.maximum(jnp.sum(share), 1.0)
        return _INDEPENDENT * likely - 0.5 * (jnp.sum(colours[0] ** 2) + jnp.sum(colours[1] ** 2)), colours

    score, found = jax.vmap(judge)(_far_apart(points_m[:, :2], _STARTS))
    best = jax.tree.map(lambda leaf: leaf[jnp.argmax(score)], found)
    return PixelUnknowns(at.shape, *best)


def _far_apart(points: Float[Array, "P D"], count: int) -> Float[Array, "count D"]:
    """Points of a set that lie far from each other, by farthest-point sampling from the mean."""

    def add(nearest: Float[Array, " P"], _: None) -> tuple[Array, Array]:
        chosen = points[jnp.argmax(nearest)]
        return jnp.minimum(nearest, jnp.sum((points - chosen[None, :]) ** 2, axis=1)), chosen

    first = jnp.mean(points, axis=0)
    begin = jnp.sum((points - first[None, :]) ** 2, axis=1)
    _, rest = jax.lax.scan(add, begin, None, length=count - 1)
    return jnp.concatenate([first[None, :], rest])
