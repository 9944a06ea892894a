"""A photo → PhotoFit: landmarks and a starting pose first, then pixels, then which vertices are seen."""

from collections.abc import Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from .._arrays import on_device
from .._errors import InputError
from .._optimise import Solution
from ..head import HeadModel, SurfacePoints
from ..observe import IBUG68_FROM_MEDIAPIPE, Photo
from ..surface import WeakPerspective, facing_camera, rotation_matrix
from ._align import pose_from_landmarks, rotation_vector
from ._config import FitConfig
from ._costs import (
    LandmarkHead,
    PhotoTarget,
    closure_cost,
    landmark_cost,
    prior_cost,
    project_landmarks,
    smoothness_cost,
)
from ._crop import Crop, crop_face
from ._landmarks import doubts, equal_trust, load_landmark_noise, whitening
from ._photometric import PhotoProblem, appearance_of, start_appearance
from ._pixels import PixelHead, PixelUnknowns, on_host
from ._refine import colours_first, fit_pixels
from ._several import Picture, changes, evidence_of, identity_index, joint
from ._solve import coefficient_rates, solve_in_turn
from ._state import (
    INTEROCULAR_M,
    RIGID_UNIT,
    Unknowns,
    at_rest,
    camera_at,
    canonical,
    mean_head,
    residual_rms,
    rigid,
    rotation_of,
    subset,
)
from ._types import FitProblem, FitReport, PhotoFit, PictureEvidence

_PLACE_M = 1e-4
"""How far the mean place of what is seen may move from head to head, metres."""

_DOUBT = 0.3
"""Probability of being hidden from which on a vertex isn't held."""

_TOGETHER_STEPS = 2
"""Gauss–Newton steps of several photos taken together."""

LEFT_EYE_OUTER, RIGHT_EYE_OUTER = 45, 36
"""Outer eye corners among the 68 landmarks: their distance is the inter-ocular distance."""


def fitted_points(head: HeadModel, landmarks68: SurfacePoints) -> tuple[SurfacePoints, np.ndarray]:
    """Points of a head that photos are fitted to, and which of mediapipe's 468 they are.

    The dense ones, and those of the 68 that are none of them: FLAME's dense embedding has no jaw line.
    """
    sparse_index = np.array(IBUG68_FROM_MEDIAPIPE)
    if head.landmarks_dense is None:
        return landmarks68, sparse_index
    dense_index = np.asarray(head.landmarks_dense_index)
    missing = np.flatnonzero(~np.isin(sparse_index, dense_index))
    points = SurfacePoints(
        on_device(np.concatenate([head.landmarks_dense.corners, np.asarray(landmarks68.corners)[missing]]), jnp.int32),
        on_device(
            np.concatenate([head.landmarks_dense.barycentric, np.asarray(landmarks68.barycentric)[missing]]), head.dtype
        ),
    )
    return points, np.concatenate([dense_index, sparse_index[missing]])


def landmark_head(head: HeadModel) -> LandmarkHead | None:
    """The head restricted to the vertices that carry landmarks; None where it has none."""
    if head.landmarks68 is None:
        return None
    dense, dense_index = fitted_points(head, head.landmarks68)
    corners = np.concatenate([np.asarray(dense.corners), np.asarray(head.landmarks68.corners)])
    kept, index = np.unique(corners, return_inverse=True)
    first, last = np.split(index.reshape(corners.shape), [dense.corners.shape[0]])
    return LandmarkHead(
        head=subset(head, kept),
        dense=SurfacePoints(on_device(first, jnp.int32), dense.barycentric),
        landmarks68=SurfacePoints(on_device(last, jnp.int32), head.landmarks68.barycentric),
        dense_index=on_device(dense_index, jnp.int32),
    )


def photo_target(photo: Photo, points: LandmarkHead, config: FitConfig) -> PhotoTarget:
    """Landmarks in pixels and how wrong they are, and the closed-form pose of the mean head."""
    dense_index, sparse_index = np.asarray(points.dense_index), np.array(IBUG68_FROM_MEDIAPIPE)
    dense_px, sparse_px = photo.landmarks_px[dense_index], photo.landmarks_px[sparse_index]
    seen = photo.landmark_visible[dense_index]
    weight = seen.astype(np.float64)
    interocular = float(np.linalg.norm(sparse_px[LEFT_EYE_OUTER] - sparse_px[RIGHT_EYE_OUTER]))
    if interocular < 1.0:
        raise InputError("The face's eye corners lie less than a pixel apart; use a larger picture of the face.")
    # With nothing visible the detector's guess still places the head; it shapes nothing, since its weights stay zero.
    pose_weight = weight if weight.sum() >= 6 else np.ones_like(weight)
    corners = _mean_corners(points)
    turn, scale, centre = pose_from_landmarks(_places(points, corners), dense_px, pose_weight)
    dtype = points.head.dtype
    if config.landmark_noise == "learnt":
        noise = load_landmark_noise()
        doubt = doubts(noise, dense_px, photo.hidden, _facing(corners, turn), interocular)
        seen = seen & np.isfinite(noise.sigma[dense_index])
        across = sparse_px[LEFT_EYE_OUTER] - sparse_px[RIGHT_EYE_OUTER]
        whitened = whitening(noise, dense_index, doubt, seen, -float(np.arctan2(across[1], across[0])), dtype)
    else:
        whitened = equal_trust(weight, 68.0 * config.weights.landmarks / config.weights.prior, dtype)
    return PhotoTarget(
        dense_px=on_device(dense_px, dtype),
        whitening=whitened,
        landmarks68_px=on_device(sparse_px, dtype),
        landmarks68_weight=on_device(photo.landmark_visible[sparse_index], dtype),
        interocular_px=on_device(interocular, dtype),
        rotation_start=on_device(turn, dtype),
        camera_start=WeakPerspective(on_device(scale, dtype), on_device(centre, dtype)),
    )


def _mean_corners(points: LandmarkHead) -> Float[np.ndarray, "L 3 3"]:
    """The corners of the mean head's triangles that carry the points, in metres."""
    return np.asarray(mean_head(points.head), np.float64)[np.asarray(points.dense.corners)]


def _places(points: LandmarkHead, corners_m: Float[np.ndarray, "L 3 3"]) -> Float[np.ndarray, "L 3"]:
    """The points on their triangles."""
    return np.einsum("lc,lcx->lx", np.asarray(points.dense.barycentric, np.float64), corners_m)


def _facing(corners_m: Float[np.ndarray, "L 3 3"], turn: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, " L"]:
    """Cosine between each triangle's normal and the direction to the camera."""
    a, b, c = corners_m.transpose(1, 0, 2)
    normal = np.cross(b - a, c - a)
    return (normal @ turn[2]) / np.linalg.norm(normal, axis=1).clip(1e-15)


def vertices_outside_mask(
    points_px: Float[np.ndarray, "V 2"], hidden: Bool[np.ndarray, "H W"]
) -> Bool[np.ndarray, " V"]:
    """Vertices whose pixel is inside the picture and not hidden."""
    column, row = np.floor(points_px).astype(int).T
    height, width = hidden.shape
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    return inside & ~hidden[row.clip(0, height - 1), column.clip(0, width - 1)]


def perhaps_hidden(photo: Photo) -> Bool[np.ndarray, "H W"]:
    """The mask, and what a found one is in doubt of: a vertex held though it was hidden costs more than one that isn't
    though it was seen."""
    return photo.hidden if photo.hidden_probability is None else photo.hidden | (photo.hidden_probability > _DOUBT)


@eqx.filter_jit
def _solve_photo(
    problem: FitProblem, points: LandmarkHead, target: PhotoTarget, config: FitConfig
) -> tuple[Solution[Unknowns], Int[Array, ""]]:
    def residuals(unknowns: Unknowns) -> PyTree[Array]:
        dense, sparse = project_landmarks(points, target, unknowns)
        return [
            landmark_cost(dense, target, config.weights),
            closure_cost(sparse, target, config.weights),
            prior_cost(unknowns, config.weights),
            smoothness_cost(unknowns, problem.smoothness, config.weights),
        ]

    return solve_in_turn(residuals, problem.head, config)


class StartedPhoto(NamedTuple):
    """The fit to landmarks alone, and what its refinement by pixels needs."""

    problem: PhotoProblem
    crop: Crop
    """The photo around the face."""
    begin: PixelUnknowns
    """The fitted shape with the most likely skin and light."""


def start_photo(photo: Photo, problem: FitProblem, config: FitConfig) -> StartedPhoto:
    """The fit to landmarks alone. Raises `InputError` for a head without landmarks or albedo."""
    if problem.landmarks is None or problem.pixels is None:
        name = problem.head.name
        raise InputError(f"The head '{name}' has no landmarks or no albedo, so give --mask PNG or --occlude none.")
    target = photo_target(photo, problem.landmarks, config)
    solution, _ = _solve_photo(problem, problem.landmarks, target, config)
    photos = _with_pixels(problem, problem.landmarks, problem.pixels, target)
    return StartedPhoto(photos, crop_face(photo, problem.head.dtype), start_appearance(photos, solution.value))


def _with_pixels(problem: FitProblem, points: LandmarkHead, pixels: PixelHead, target: PhotoTarget) -> PhotoProblem:
    return PhotoProblem(points, pixels, target, problem.smoothness, coefficient_rates(problem.head))


class _Placed(NamedTuple):
    """A photo's fitted head before its visible vertices are known."""

    vertices_m: Float[Array, "V 3"]
    landmarks68_px: Float[Array, "68 2"]
    camera: WeakPerspective
    turn: Float[Array, "3 3"]
    posed_m: Float[Array, "V 3"]


@eqx.filter_jit
def _place(problem: FitProblem, points: LandmarkHead, target: PhotoTarget, unknowns: Unknowns) -> _Placed:
    _, projected = project_landmarks(points, target, unknowns)
    vertices = canonical(problem.head, unknowns)
    camera = camera_at(unknowns, target.camera_start, target.interocular_px)
    turn = rotation_of(unknowns) @ target.rotation_start
    # A weak-perspective camera carries the translation: the posed head stays at its own origin.
    return _Placed(vertices, projected, camera, turn, vertices @ turn.T)


class _Linear(NamedTuple):
    """Landmarks linearised at a fit; unknowns are coefficients, joints, turn, shift, the camera's scale and centre."""

    left: Float[Array, " E"]
    """Whitened detected less fitted positions."""
    change: Float[Array, "E U"]
    """How the fitted ones change."""
    held: Float[Array, "3 U"]
    """How the mean place of what is seen does, in units of how far it may move."""
    counted: Float[Array, ""]
    """How many errors count, but for the two that a shift of the picture takes up."""


@eqx.filter_jit
def _linearised(points: LandmarkHead, target: PhotoTarget, unknowns: Unknowns) -> _Linear:
    count, joints = unknowns.z.size, unknowns.joints.size
    still = jnp.zeros(6, unknowns.z.dtype)
    flat = jnp.concatenate([unknowns.z, unknowns.joints.reshape(-1), still, unknowns.camera])
    turn = rotation_of(unknowns) @ target.rotation_start
    counts = (target.whitening.root > 0).astype(flat.dtype)
    share = jnp.where(jnp.any(counts > 0), counts, jnp.ones_like(counts))

    def errors(flat: Float[Array, " n"]) -> tuple[Float[Array, " E"], Float[Array, "3"]]:
        z, turns, rotation, shift, camera = jnp.split(flat, np.cumsum([count, joints, 3, 3]))
        at = Unknowns(z, turns.reshape(unknowns.joints.shape), rotation, shift, camera)
        dense = points.dense(rigid(at, canonical(points.head, at)))
        seen = camera_at(at, target.camera_start, target.interocular_px).project(dense @ turn.T)
        off = target.whitening((target.dense_px - seen) / target.interocular_px)
        return off.reshape(-1), share @ dense / (_PLACE_M * jnp.sum(share))

    left, (change, held) = errors(flat)[0], jax.jacfwd(errors)(flat)
    return _Linear(left, -change, held, jnp.maximum(2.0 * jnp.sum(counts) - 2.0, 1.0))


@eqx.filter_jit
def _evidence(linear: _Linear) -> PictureEvidence:
    """The landmarks' errors and how they change, less what a shift of the picture explains.

    The camera's scale is the fit's: a picture tells no size, and heads of one size agree with it by one camera.
    """
    free = jnp.linalg.qr(linear.change[:, -2:])[0]
    rows = jnp.concatenate([linear.left[:, None], linear.change[:, :-3]], axis=1)
    rows = rows - free @ (free.T @ rows)
    # Heads lie where the fit does: the mean place of what is seen of them is its.
    held = jnp.concatenate([jnp.zeros((3, 1), rows.dtype), linear.held[:, :-3]], axis=1)
    rows = jnp.concatenate([rows, held])
    return PictureEvidence(rows[:, 0], rows[:, 1:], linear.counted)


def _told_together(
    problem: FitProblem, points: LandmarkHead, shots: list[tuple[PhotoTarget, Unknowns]]
) -> tuple[Unknowns, PictureEvidence]:
    """The first of several photos fitted with what the others say of the person, and all evidence on it."""
    identity = identity_index(problem.head)
    targets, shapes = [target for target, _ in shots], [shape for _, shape in shots]
    for step in range(_TOGETHER_STEPS + 1):
        linear = [_linearised(points, *shot) for shot in zip(targets, shapes, strict=True)]
        pictures = [_picture(one, shape, target) for one, shape, target in zip(linear, shapes, targets, strict=True)]
        held, told = np.asarray(linear[0].held, np.float64)[:, :-3], joint(pictures, identity)
        if step < _TOGETHER_STEPS:
            shapes = [
                _moved(shape, target, change)
                for shape, target, change in zip(shapes, targets, changes(told, pictures, identity, held), strict=True)
            ]
    return shapes[0], evidence_of(told, held, linear[0].left.shape[0], problem.head.dtype)


def _picture(linear: _Linear, shape: Unknowns, target: PhotoTarget) -> Picture:
    point = np.concatenate([np.asarray(shape.z, np.float64), np.asarray(shape.joints, np.float64).reshape(-1)])
    seen = np.repeat(np.asarray(target.whitening.root) > 0, 2)
    return Picture(point, np.asarray(linear.left, np.float64), np.asarray(linear.change, np.float64), seen)


def _moved(shape: Unknowns, target: PhotoTarget, change: Float[np.ndarray, " U"]) -> Unknowns:
    """Unknowns changed as their linearisation has it: turn and shift, which are the head's there, go to the camera."""
    dtype, count = shape.z.dtype, shape.z.size
    z, joints, turn, shift, camera = np.split(change, np.cumsum([count, shape.joints.size, 3, 3]))
    start = np.asarray(target.rotation_start, np.float64)
    before = np.asarray(rotation_of(shape), np.float64) @ start
    after = before @ np.asarray(rotation_matrix(on_device(RIGID_UNIT * turn, dtype)), np.float64)
    scale = float(camera_at(shape, target.camera_start, target.interocular_px).scale_px_per_m)
    aside = (before @ shift)[:2] * [1.0, -1.0] * scale * INTEROCULAR_M / float(target.interocular_px)
    return Unknowns(
        z=shape.z + on_device(z, dtype),
        joints=shape.joints + on_device(joints.reshape(shape.joints.shape), dtype),
        rotation=on_device(rotation_vector(after @ start.T) / RIGID_UNIT, dtype),
        translation=shape.translation,
        camera=shape.camera + on_device(camera + np.r_[0.0, aside], dtype),
    )


@eqx.filter_jit
def _photo_fit(
    head: HeadModel,
    target: PhotoTarget,
    unknowns: Unknowns | PixelUnknowns,
    placed: _Placed,
    visible: Bool[Array, " V"],
    evidence: PictureEvidence,
    solution: Solution[Unknowns],
    steps: Int[Array, ""],
) -> PhotoFit:
    shape = unknowns.shape if isinstance(unknowns, PixelUnknowns) else unknowns
    distance = jnp.sum((placed.landmarks68_px - target.landmarks68_px) ** 2, axis=1) * target.landmarks68_weight
    rms_px = jnp.sqrt(jnp.sum(distance) / jnp.maximum(jnp.sum(target.landmarks68_weight), 1.0))
    residual_rms_mm, residual_share = residual_rms(head, shape.z, visible)
    return PhotoFit(
        unknowns=at_rest(shape),
        vertices_m=placed.vertices_m,
        held_m=placed.vertices_m,
        visible=visible,
        turn=placed.turn,
        shift_m=jnp.zeros(3, head.dtype),
        camera=placed.camera,
        landmarks68_px=placed.landmarks68_px,
        evidence=evidence,
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


def fit_photo(photo: Photo, problem: FitProblem, config: FitConfig, others: Sequence[Photo] = ()) -> PhotoFit:
    """Landmarks, those of `others` of the same person too, then pixels where the head has an albedo. Raises
    `InputError` for a head without landmarks."""
    head = problem.head
    if problem.landmarks is None:
        raise InputError(f"The head '{head.name}' carries no landmarks, so it can't be fitted to a photo; give a mesh.")
    target = photo_target(photo, problem.landmarks, config)
    solution, steps = _solve_photo(problem, problem.landmarks, target, config)
    unknowns: Unknowns | PixelUnknowns = solution.value
    shape, told = solution.value, None
    if others:
        more = [photo_target(other, problem.landmarks, config) for other in others]
        shots = [(one, _solve_photo(problem, problem.landmarks, one, config)[0].value) for one in more]
        unknowns, told = _told_together(problem, problem.landmarks, [(target, shape), *shots])
        shape = unknowns
    if problem.pixels is not None and config.weights.photometric != 0.0:
        photos, crop = _with_pixels(problem, problem.landmarks, problem.pixels, target), crop_face(photo, head.dtype)
        begin = colours_first(photos, crop, start_appearance(photos, shape), config.weights)
        unknowns = fit_pixels(photos, crop, begin, config)
        shape = unknowns.shape
    placed = _place(problem, problem.landmarks, target, shape)
    points_px = on_host(placed.camera, placed.posed_m)
    visible = facing_camera(placed.posed_m, head.faces) & vertices_outside_mask(points_px, perhaps_hidden(photo))
    evidence = _evidence(_linearised(problem.landmarks, target, shape)) if told is None else told
    return _photo_fit(head, target, unknowns, placed, on_device(visible, bool), evidence, solution, steps)
