"""Algorithm 1 with its photometric term: landmarks, pixels and prior together, from coarse to fine."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._optimise import Solution, least_squares
from ..head import SurfacePoints
from ._config import FitConfig
from ._costs import Weights, closure_cost, landmark_cost, prior_cost, project_landmarks, smoothness_cost
from ._crop import Crop, blurred
from ._photometric import Colours, PhotoProblem, colour_residuals, points_seen, pose, robust_root, still
from ._pixels import PixelUnknowns, colours_at, light_of, patches, photometric_residuals
from ._solve import solve

FINEST_PX = 1.0
"""Blur under which a fit ends, in pixels of the crop."""

_ROUNDS = {False: ((4.0, False), (2.0, False)), True: ((4.0, False), (4.0, True), (2.0, True), (FINEST_PX, True))}
"""Blur in pixels of the crop, and whether the shape moves too, by `FitConfig.shape_from_pixels`."""

_STEPS = 4

EVERY = 4
"""Of all surface points, one in so many serves where each is looked at many times over."""

_STARTS, _JUDGEMENTS, _PART_M = 9, 3, 0.02
_COLOUR_STEPS, _COLOUR_TOLERANCE, _SOFT_PX = 8, 1e-2, 2.0
_FACE_SD = 0.07
_INDEPENDENT = 200.0
"""How many independent samples all the points together are worth: neighbours say the same."""


def fit_pixels(problem: PhotoProblem, crop: Crop, begin: PixelUnknowns, config: FitConfig) -> PixelUnknowns:
    """Refine a landmark fit or its colours alone by pixels of the crop that weigh something, by the configured solver.

    Which triangle each pixel sees, and which pixels count, is looked up anew at each of the rounds.
    """
    for sigma_px, moves in _ROUNDS[config.shape_from_pixels]:
        points, weight = points_seen(problem, crop, begin)
        begin = _round(problem, points, weight, blurred(crop, sigma_px), begin, config, moves=moves).value
    return begin


def fit_colours(problem: PhotoProblem, crop: Crop, begin: PixelUnknowns, weights: Weights) -> PixelUnknowns:
    """Refine skin and light alone by the pixels of the crop that weigh something, by Levenberg–Marquardt."""
    points, weight = points_seen(problem, crop, begin)
    config = FitConfig(weights=weights)
    return _round(problem, points, weight, blurred(crop, _SOFT_PX), begin, config, moves=False).value


@eqx.filter_jit
def _round(
    problem: PhotoProblem,
    points: SurfacePoints,
    weight: Float[Array, " P"],
    crop: Crop,
    begin: PixelUnknowns,
    config: FitConfig,
    *,
    moves: bool,
) -> Solution[PixelUnknowns]:
    """Some steps with the points and the robust weights fixed."""
    surface = patches(problem.pixels, points, begin.shape)
    target, weights = problem.target, config.weights

    def differences(unknowns: PixelUnknowns) -> Float[Array, "P 3"]:
        return photometric_residuals(surface, crop, unknowns, *pose(problem, unknowns.shape))

    root = robust_root(differences(begin), weight, weights)

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
        return solve(residuals, begin, config, problem.rates, steps=steps, tolerance=1e-3)
    normals, seen = still(problem, surface, crop, begin.shape)
    colours = colour_residuals(surface, normals, seen, root, weights)
    found = solve(colours, (begin.albedo, begin.light), config, problem.rates, steps=steps, tolerance=_COLOUR_TOLERANCE)
    return Solution(PixelUnknowns(begin.shape, *found.value), found.loss, found.steps, found.result)


def colours_first(problem: PhotoProblem, crop: Crop, begin: PixelUnknowns, weights: Weights) -> PixelUnknowns:
    """Skin and light that explain most of the face although any part of it may be hidden.

    Each of `_STARTS` small parts of the face is taken for skin in turn and the rest is judged by it, robustly; the
    colours under which all of it is likeliest win. A pixel is face with a Gaussian difference or something else, of
    any colour alike (Li et al. 2023, eq. 8-9).
    """
    points, weight = points_seen(problem, crop, begin)
    return _robust_colours(problem, points, weight, blurred(crop, _SOFT_PX), begin, weights)


@eqx.filter_jit
def _robust_colours(
    problem: PhotoProblem,
    points: SurfacePoints,
    weight: Float[Array, " P"],
    crop: Crop,
    begin: PixelUnknowns,
    weights: Weights,
) -> PixelUnknowns:
    points, weight = jax.tree.map(lambda leaf: leaf[::EVERY], (points, weight))
    surface = patches(problem.pixels, points, begin.shape)
    points_m, _ = surface(begin.shape)
    normals, seen = still(problem, surface, crop, begin.shape)

    def judge(centre: Float[Array, "2"]) -> tuple[Float[Array, ""], Colours]:
        near = jnp.exp(-0.5 * jnp.sum((points_m[:, :2] - centre[None, :]) ** 2, axis=1) / _PART_M**2)
        colours = (jnp.zeros_like(begin.albedo), jnp.zeros_like(begin.light))
        root = jnp.sqrt(weights.photometric * weight * near / jnp.maximum(jnp.sum(weight * near), 1e-6))

        def again(so_far: tuple[Colours, Array], _: None) -> tuple[tuple[Colours, Array], None]:
            left = colour_residuals(surface, normals, seen, so_far[1], weights)
            better = least_squares(left, so_far[0], steps=_COLOUR_STEPS, tolerance=_COLOUR_TOLERANCE).value
            return (better, robust_root(differences(better), weight, weights)), None

        def differences(colours: Colours) -> Float[Array, "P 3"]:
            return colours_at(surface.reflectance(colours[0]), normals, light_of(colours[1])) - seen

        (colours, _), _ = jax.lax.scan(again, (colours, root), None, length=_JUDGEMENTS)
        square = jnp.sum(differences(colours) ** 2, axis=1) / _FACE_SD**2
        face = jnp.exp(-0.5 * square) / (2 * np.pi * _FACE_SD**2) ** 1.5
        likely = jnp.sum(weight * jnp.log(0.5 * face + 0.5)) / jnp.maximum(jnp.sum(weight), 1.0)
        return _INDEPENDENT * likely - 0.5 * (jnp.sum(colours[0] ** 2) + jnp.sum(colours[1] ** 2)), colours

    score, found = jax.vmap(judge)(_far_apart(points_m[:, :2], _STARTS))
    best = jax.tree.map(lambda leaf: leaf[jnp.argmax(score)], found)
    return PixelUnknowns(begin.shape, *best)


def _far_apart(points: Float[Array, "P D"], count: int) -> Float[Array, "count D"]:
    """Points of a set that lie far from each other, by farthest-point sampling from the mean."""

    def add(nearest: Float[Array, " P"], _: None) -> tuple[Array, Array]:
        chosen = points[jnp.argmax(nearest)]
        return jnp.minimum(nearest, jnp.sum((points - chosen[None, :]) ** 2, axis=1)), chosen

    first = jnp.mean(points, axis=0)
    begin = jnp.sum((points - first[None, :]) ** 2, axis=1)
    _, rest = jax.lax.scan(add, begin, None, length=count - 1)
    return jnp.concatenate([first[None, :], rest])
