"""Stage 1 (papers/004, Algorithm 1): Observation → Fit."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from .._arrays import on_device
from .._errors import InputError
from .._optimise import Solution
from ..head import HeadModel, HeadParameters
from ..observe import Observation, PartialMesh, Photo
from ..surface import WeakPerspective, facing_camera
from ._align import kabsch, rotation_vector
from ._appearance import Appearance
from ._config import FitConfig
from ._costs import (
    LandmarkHead,
    PhotoTarget,
    closure_cost,
    landmark_cost,
    prior_cost,
    project_landmarks,
    smoothness_cost,
    smoothness_factor,
    vertex_cost,
)
from ._crop import Crop, crop_face
from ._photo import landmark_head, photo_target, vertices_outside_mask
from ._photometric import PhotoProblem, appearance_of, colours_first, fit_pixels, start_appearance
from ._pixels import PixelHead, PixelUnknowns, pixel_head
from ._solve import coefficient_rates, solve
from ._state import (
    INTEROCULAR_M,
    RIGID_UNIT,
    Unknowns,
    at_rest,
    camera_at,
    canonical,
    joint_rotations,
    rigid,
    rotation_of,
    start,
)


class FitReport(eqx.Module):
    """What stage 1 left over."""

    landmark_rms_px: Float[Array, ""]
    """RMS distance of the visible 68 landmarks, in pixels (zero for a mesh)."""
    landmark_rms_interocular: Float[Array, ""]
    """The same as a share of the distance between the outer eye corners."""
    visible_rms_mm: Float[Array, ""]
    """RMS distance of visible vertices from a partial mesh's, in millimetres (zero for a photo)."""
    steps: Int[Array, ""]
    """Steps taken to meet landmarks or vertices, rigid stage included, the rounds over pixels not."""
    result: Int[Array, ""]
    """Result code of the stage that meets them (`diverse3d.RESULT_TEXT`)."""
    residual_rms_mm: Float[Array, ""]
    """RMS size a visible vertex of what the head's smooth residual adds, in millimetres."""
    residual_share: Float[Array, ""]
    """Its share of how far visible vertices lie from the mean head, in squares: of 1, how much the head's own
    components don't say."""


class Fit(eqx.Module):
    """The single best head for an observation, and what the completions are held to.

    "Head frame" is the head's own; x_world = turn · x_head + shift. For a photo "world" is the posed head as the
    camera sees it (metres, y up, z towards the camera); for a mesh it is the input's frame.
    """

    unknowns: Unknowns
    """Coefficients and joints; the rigid unknowns are folded into `turn` and `shift` and are zero here."""
    vertices_m: Float[Array, "V 3"]
    """Fitted vertices, head frame."""
    held_m: Float[Array, "V 3"]
    """What completions are held to where visible, head frame: a mesh's own vertices, or a photo's fitted ones."""
    visible: Bool[Array, " V"]
    """Vertices that are seen: given (mesh); or in front by the z-test and outside the mask (photo)."""
    turn: Float[Array, "3 3"]
    """Rotation from head to world."""
    shift_m: Float[Array, "3"]
    """Translation from head to world."""
    camera: WeakPerspective | None
    """A photo's camera, from world to pixels."""
    landmarks68_px: Float[Array, "68 2"] | None
    """A photo's fitted 68 landmarks in pixels."""
    report: FitReport
    """Residuals, steps and result code."""
    appearance: Appearance | None = None
    """Skin and light of a photo; None for a mesh, and for a head without albedo."""

    def to_world(self, vertices_m: Float[Array, "*n V 3"]) -> Float[Array, "*n V 3"]:
        """Vertices in the world frame."""
        return _moved(vertices_m, self.turn, self.shift_m)

    def parameters(self, head: HeadModel) -> HeadParameters:
        """FLAME-style parameters with head(parameters) = the fitted vertices in the world frame."""
        coefficients = self.unknowns.z + head.prior_mean
        pose = joint_rotations(head, self.unknowns.joints)
        root = head.joints(coefficients)[0]
        # FLAME turns about the root joint, not about the origin.
        return HeadParameters(
            coefficients=coefficients,
            pose=pose.at[0].set(jnp.asarray(rotation_vector(np.asarray(self.turn, np.float64)), head.dtype)),
            translation_m=self.shift_m + self.turn @ root - root,
        )


@jax.jit
def _moved(points_m: Array, turn: Float[Array, "3 3"], shift_m: Float[Array, "3"]) -> Array:
    return points_m @ turn.T + jnp.broadcast_to(shift_m, points_m.shape)


class FitProblem(eqx.Module):
    """What depends on the head alone, prepared once for many fits."""

    head: HeadModel
    """The head that is fitted."""
    landmarks: LandmarkHead | None
    """Its landmark-carrying vertices; None where the head has no landmarks."""
    smoothness: Float[Array, "K K"]
    """Factor of the smoothness term."""
    pixels: PixelHead | None = None
    """Its face, to compare with pixels; None where the head has no albedo."""


def prepare(head: HeadModel) -> FitProblem:
    """Precompute what every fit of a head needs."""
    return FitProblem(
        head=head, landmarks=landmark_head(head), smoothness=smoothness_factor(head), pixels=pixel_head(head)
    )


def fit(seen: Observation, problem: FitProblem | HeadModel, config: FitConfig | None = None) -> Fit:
    """Fit a head to an observation (papers/004, Algorithm 1).

    A rigid stage comes first, then everything together. Raises `InputError` when the head carries no landmarks and
    a photo is given.
    """
    problem = prepare(problem) if isinstance(problem, HeadModel) else problem
    config = FitConfig() if config is None else config
    if seen.photo is not None:
        return _fit_photo(seen.photo, problem, config)
    assert seen.mesh is not None, "an observation holds a photo or a mesh"
    return _fit_mesh(seen.mesh, problem, config)


def _solve(
    residuals: Callable[[Unknowns], PyTree[Array]], problem: FitProblem, config: FitConfig
) -> tuple[Solution[Unknowns], Int[Array, ""]]:
    """Pose and camera first, a fifth of the budget, then all unknowns, by the configured solver."""
    begin = start(problem.head)

    def posed(pose: tuple[Array, Array, Array]) -> Unknowns:
        return eqx.tree_at(lambda u: (u.rotation, u.translation, u.camera), begin, pose)

    pose_start = (begin.rotation, begin.translation, begin.camera)
    first = _run(lambda pose: residuals(posed(pose)), pose_start, config.part_steps, problem, config)
    second = _run(residuals, posed(first.value), config.steps, problem, config)
    return second, first.steps + second.steps


def _run(
    residuals: Callable[[Any], PyTree[Array]], at: Any, steps: int, problem: FitProblem, config: FitConfig
) -> Solution[Any]:
    unit = 1.0 / config.weights.prior**0.5
    return solve(
        lambda u: jax.tree.map(lambda part: unit * part, residuals(u)),
        at,
        config,
        coefficient_rates(problem.head),
        steps=steps,
        tolerance=config.tolerance,
    )


@eqx.filter_jit
def _solve_photo(problem: FitProblem, points: LandmarkHead, target: PhotoTarget, config: FitConfig):
    def residuals(unknowns: Unknowns):
        dense, sparse = project_landmarks(points, target, unknowns)
        return [
            landmark_cost(dense, target, config.weights),
            closure_cost(sparse, target, config.weights),
            prior_cost(unknowns, config.weights),
            smoothness_cost(unknowns, problem.smoothness, config.weights),
        ]

    return _solve(residuals, problem, config)


def start_photo(
    photo: Photo, problem: FitProblem, config: FitConfig
) -> tuple[PhotoProblem, Crop, PixelUnknowns, Solution[Unknowns], Int[Array, ""]]:
    """The fit to landmarks alone, and what its refinement by pixels needs; the steps taken come last."""
    assert problem.landmarks is not None and problem.pixels is not None, "a head with landmarks and albedo is needed"
    target = photo_target(photo, problem.landmarks)
    solution, steps = _solve_photo(problem, problem.landmarks, target, config)
    rates = coefficient_rates(problem.head)
    photos = PhotoProblem(problem.landmarks, problem.pixels, target, problem.smoothness, rates)
    return photos, crop_face(photo, problem.head.dtype), start_appearance(photos, solution.value), solution, steps


def _residual_part(
    head: HeadModel, z: Float[Array, " K"], visible: Bool[Array, " V"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """What the smooth residual adds to visible vertices: RMS in mm, and its share of their squared offsets."""
    seen = visible.astype(head.dtype)
    beyond = jnp.sum(jnp.sum(head.residual_part(z) ** 2, axis=1) * seen)
    whole = jnp.sum(jnp.sum((z @ head.components_m).reshape(-1, 3) ** 2, axis=1) * seen)
    return 1e3 * jnp.sqrt(beyond / jnp.maximum(jnp.sum(seen), 1.0)), beyond / jnp.maximum(beyond, whole + 1e-12)


class _Placed(NamedTuple):
    """A photo's fitted head before its visible vertices are known."""

    vertices_m: Float[Array, "V 3"]
    landmarks68_px: Float[Array, "68 2"]
    camera: WeakPerspective
    turn: Float[Array, "3 3"]
    posed_m: Float[Array, "V 3"]
    posed_px: Float[Array, "V 2"]


@eqx.filter_jit
def _place(problem: FitProblem, points: LandmarkHead, target: PhotoTarget, unknowns: Unknowns) -> _Placed:
    _, projected = project_landmarks(points, target, unknowns)
    vertices = canonical(problem.head, unknowns)
    camera = camera_at(unknowns, target.camera_start, target.interocular_px)
    turn = rotation_of(unknowns) @ target.rotation_start
    # A weak-perspective camera carries the translation: the posed head stays at its own origin.
    posed = vertices @ turn.T
    return _Placed(vertices, projected, camera, turn, posed, camera.project(posed))


@eqx.filter_jit
def _photo_fit(
    head: HeadModel,
    target: PhotoTarget,
    unknowns: Unknowns | PixelUnknowns,
    placed: _Placed,
    visible: Bool[Array, " V"],
    solution: Solution[Unknowns],
    steps: Int[Array, ""],
) -> Fit:
    shape = unknowns.shape if isinstance(unknowns, PixelUnknowns) else unknowns
    distance = jnp.sum((placed.landmarks68_px - target.landmarks68_px) ** 2, axis=1) * target.landmarks68_weight
    rms_px = jnp.sqrt(jnp.sum(distance) / jnp.maximum(jnp.sum(target.landmarks68_weight), 1.0))
    residual_rms_mm, residual_share = _residual_part(head, shape.z, visible)
    return Fit(
        unknowns=at_rest(shape),
        vertices_m=placed.vertices_m,
        held_m=placed.vertices_m,
        visible=visible,
        turn=placed.turn,
        shift_m=jnp.zeros(3, head.dtype),
        camera=placed.camera,
        landmarks68_px=placed.landmarks68_px,
        report=FitReport(
            landmark_rms_px=rms_px,
            landmark_rms_interocular=rms_px / target.interocular_px,
            visible_rms_mm=jnp.zeros((), head.dtype),
            steps=steps,
            result=solution.result,
            residual_rms_mm=residual_rms_mm,
            residual_share=residual_share,
        ),
        appearance=appearance_of(unknowns) if isinstance(unknowns, PixelUnknowns) else None,
    )


def _fit_photo(photo: Photo, problem: FitProblem, config: FitConfig) -> Fit:
    head = problem.head
    if problem.landmarks is None:
        raise InputError(f"The head '{head.name}' carries no landmarks, so it can't be fitted to a photo; give a mesh.")
    unknowns: Unknowns | PixelUnknowns
    if problem.pixels is None or config.weights.photometric == 0.0:
        target = photo_target(photo, problem.landmarks)
        solution, steps = _solve_photo(problem, problem.landmarks, target, config)
        unknowns = shape = solution.value
    else:
        photos, crop, begin, solution, steps = start_photo(photo, problem, config)
        target = photos.target
        unknowns = fit_pixels(photos, crop, colours_first(photos, crop, begin, config.weights), config)
        shape = unknowns.shape
    placed = _place(problem, problem.landmarks, target, shape)
    visible = facing_camera(placed.posed_m, head.faces) & vertices_outside_mask(placed.posed_px, photo.hidden)
    return _photo_fit(head, target, unknowns, placed, on_device(visible, bool), solution, steps)


class _MeshSolution(NamedTuple):
    """Where the fit of a partial mesh ended, in the frame that the closed-form pose gave."""

    rest: Unknowns
    """Shape and joints."""
    turn: Float[Array, "3 3"]
    """The rigid motion that is left: its rotation …"""
    translation: Float[Array, "3"]
    """… and its translation, in its own unit."""
    vertices_m: Float[Array, "V 3"]
    report: FitReport


@eqx.filter_jit
def _solve_mesh(
    problem: FitProblem,
    held_m: Float[Array, "V 3"],
    seen: Bool[Array, " V"],
    sigma_m: Float[Array, ""],
    config: FitConfig,
) -> _MeshSolution:
    visible = seen.astype(problem.head.dtype)

    def residuals(unknowns: Unknowns):
        return [
            vertex_cost(rigid(unknowns, canonical(problem.head, unknowns)), held_m, visible, sigma_m, config.weights),
            prior_cost(unknowns, config.weights),
            smoothness_cost(unknowns, problem.smoothness, config.weights),
        ]

    solution, steps = _solve(residuals, problem, config)
    unknowns = solution.value
    vertices, zero = canonical(problem.head, unknowns), jnp.zeros((), problem.head.dtype)
    square = jnp.sum((rigid(unknowns, vertices) - held_m) ** 2, axis=1) * visible
    residual_rms_mm, residual_share = _residual_part(problem.head, unknowns.z, seen)
    report = FitReport(
        landmark_rms_px=zero,
        landmark_rms_interocular=zero,
        visible_rms_mm=1e3 * jnp.sqrt(jnp.sum(square) / jnp.maximum(jnp.sum(visible), 1.0)),
        steps=steps,
        result=solution.result,
        residual_rms_mm=residual_rms_mm,
        residual_share=residual_share,
    )
    return _MeshSolution(at_rest(unknowns), rotation_of(unknowns), unknowns.translation, vertices, report)


@eqx.filter_jit
def _mean_head(head: HeadModel) -> Float[Array, "V 3"]:
    return head.shaped(head.prior_mean)


def _fit_mesh(mesh: PartialMesh, problem: FitProblem, config: FitConfig) -> Fit:
    head = problem.head
    # Double precision on the host: the input may lie far from the origin.
    turn, shift = kabsch(np.asarray(_mean_head(head), np.float64), mesh.vertices_m, mesh.visible)
    held = np.where(mesh.visible[:, None], (mesh.vertices_m - shift) @ turn, 0.0)
    sigma = on_device(1e-3 * config.vertex_sigma_mm, head.dtype)
    visible = on_device(mesh.visible, bool)
    found = _solve_mesh(problem, on_device(held, head.dtype), visible, sigma, config)
    # Fold the fitted rigid motion into the frame, so that the head frame is the head's own.
    extra_turn = np.asarray(found.turn, np.float64)
    extra_shift = RIGID_UNIT * INTEROCULAR_M * np.asarray(found.translation, np.float64)
    total_turn, total_shift = turn @ extra_turn, turn @ extra_shift + shift
    held = np.where(mesh.visible[:, None], (mesh.vertices_m - total_shift) @ total_turn, found.vertices_m)
    return Fit(
        unknowns=found.rest,
        vertices_m=found.vertices_m,
        held_m=on_device(held, head.dtype),
        visible=visible,
        turn=on_device(total_turn, head.dtype),
        shift_m=on_device(total_shift, head.dtype),
        camera=None,
        landmarks68_px=None,
        report=found.report,
    )
