"""What a photo asks of a head: landmarks, their weights, a starting pose, and which vertices the mask leaves."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from .._arrays import on_device
from .._errors import InputError
from ..head import HeadModel, SurfacePoints
from ..observe import IBUG68_FROM_MEDIAPIPE, Photo
from ..surface import WeakPerspective
from ._align import pose_from_landmarks
from ._costs import LandmarkHead, PhotoTarget
from ._state import subset

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


def photo_target(photo: Photo, points: LandmarkHead) -> PhotoTarget:
    """Landmarks in pixels with weights, and the closed-form pose of the mean head."""
    dense_index, sparse_index = np.asarray(points.dense_index), np.array(IBUG68_FROM_MEDIAPIPE)
    dense_px, sparse_px = photo.landmarks_px[dense_index], photo.landmarks_px[sparse_index]
    weight = photo.landmark_visible[dense_index].astype(np.float64)
    interocular = float(np.linalg.norm(sparse_px[LEFT_EYE_OUTER] - sparse_px[RIGHT_EYE_OUTER]))
    if interocular < 1.0:
        raise InputError("The face's eye corners lie less than a pixel apart; use a larger picture of the face.")
    # With nothing visible the detector's guess still places the head; it shapes nothing, since its weights stay zero.
    pose_weight = weight if weight.sum() >= 6 else np.ones_like(weight)
    turn, scale, centre = pose_from_landmarks(np.asarray(_mean_points(points), np.float64), dense_px, pose_weight)
    dtype = points.head.dtype
    return PhotoTarget(
        dense_px=on_device(dense_px, dtype),
        dense_weight=on_device(weight, dtype),
        landmarks68_px=on_device(sparse_px, dtype),
        landmarks68_weight=on_device(photo.landmark_visible[sparse_index], dtype),
        interocular_px=on_device(interocular, dtype),
        rotation_start=on_device(turn, dtype),
        camera_start=WeakPerspective(on_device(scale, dtype), on_device(centre, dtype)),
    )


@eqx.filter_jit
def _mean_points(points: LandmarkHead) -> Float[Array, "L 3"]:
    """The mean head's points in metres."""
    return points.dense(points.head.shaped(points.head.prior_mean))


def vertices_outside_mask(points_px: Float[Array, "V 2"], hidden: Bool[np.ndarray, "H W"]) -> Bool[np.ndarray, " V"]:
    """Vertices whose pixel is inside the picture and not hidden."""
    column, row = np.floor(np.asarray(points_px)).astype(int).T
    height, width = hidden.shape
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    return inside & ~hidden[row.clip(0, height - 1), column.clip(0, width - 1)]
