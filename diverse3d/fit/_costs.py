"""The terms of Algorithm 1 (Dey and Boddeti 2022, supplement §2) as residuals: the loss is the sum of their squares.

Lengths are counted in inter-ocular distances, so that one set of weights serves photos and meshes of any size.
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .._arrays import on_device
from ..head import HeadModel, SurfacePoints
from ..observe import EYE_CLOSURE_PAIRS, MOUTH_CLOSURE_PAIRS
from ..surface import WeakPerspective, uniform_laplacian
from ._landmarks import Whitening
from ._state import INTEROCULAR_M, Unknowns, camera_at, canonical, rotation_of


class Weights(eqx.Module):
    """Weights of Algorithm 1 (facts of the release)."""

    landmarks: float = eqx.field(static=True, default=5.0)
    """λ1, on squared landmark distances summed over 68 landmarks' worth of points; used where every point counts for
    itself (`FitConfig.landmark_noise`)."""
    photometric: float = eqx.field(static=True, default=16.0)
    """λ2, on the mean squared difference of colours, robustly, on a tone scale from 0 to 1; 0 leaves pixels out."""
    prior: float = eqx.field(static=True, default=1e-3)
    """λ3, on squared standardised coefficients."""
    closure: float = eqx.field(static=True, default=0.5)
    """On the opening of mouth and eyes, as seen in the picture."""
    smoothness: float = eqx.field(static=True, default=0.1)
    """On the mesh Laplacian of the offsets from the template."""


class PhotoTarget(eqx.Module):
    """What a photo asks of the head."""

    dense_px: Float[Array, "L 2"]
    """Detected points that the head carries."""
    whitening: Whitening
    """What makes their errors independent, and those of hidden ones nothing."""
    landmarks68_px: Float[Array, "68 2"]
    """The 68 iBUG landmarks of the picture."""
    landmarks68_weight: Float[Array, " 68"]
    """Their weights; zero where hidden."""
    interocular_px: Float[Array, ""]
    """Distance between the outer eye corners."""
    rotation_start: Float[Array, "3 3"]
    """Rotation of the head that the closed-form pose found."""
    camera_start: WeakPerspective
    """Camera that the closed-form pose found."""


class LandmarkHead(eqx.Module):
    """The few hundred vertices that carry landmarks, as a head of their own."""

    head: HeadModel
    """The head restricted to those vertices."""
    dense: SurfacePoints
    """Mediapipe's points on it (the 68 landmarks where a head has no dense ones)."""
    dense_index: Int[Array, " L"]
    """Which of mediapipe's 468 points these are."""
    landmarks68: SurfacePoints
    """The 68 landmarks on it."""


def landmark_points(points: LandmarkHead, unknowns: Unknowns) -> tuple[Float[Array, "L 3"], Float[Array, "68 3"]]:
    """Dense and 68 landmarks in metres, in the starting pose's frame before rotation."""
    vertices = canonical(points.head, unknowns)
    return points.dense(vertices), points.landmarks68(vertices)


def project_landmarks(
    points: LandmarkHead, target: PhotoTarget, unknowns: Unknowns
) -> tuple[Float[Array, "L 2"], Float[Array, "68 2"]]:
    """Dense and 68 landmarks of the head in pixels."""
    camera = camera_at(unknowns, target.camera_start, target.interocular_px)
    dense, sparse = landmark_points(points, unknowns)
    # No translation: the camera's centre carries it, and only one of the two may.
    turn = rotation_of(unknowns) @ target.rotation_start
    return camera.project(dense @ turn.T), camera.project(sparse @ turn.T)


def landmark_cost(projected_px: Array, target: PhotoTarget, weights: Weights) -> Float[Array, "L 2"]:
    """λ3 times minus twice the log density of the points' errors; λ1 · Σ w‖p - p̂‖² where each counts for itself."""
    return float(np.sqrt(weights.prior)) * target.whitening((projected_px - target.dense_px) / target.interocular_px)


def closure_cost(projected68_px: Array, target: PhotoTarget, weights: Weights) -> Float[Array, "p 2"]:
    """How far lips and lids stand apart, against the picture."""
    pairs = np.array(MOUTH_CLOSURE_PAIRS + EYE_CLOSURE_PAIRS)
    upper, lower = (on_device(column, jnp.int32) for column in pairs.T)
    gap = projected68_px[upper] - projected68_px[lower]
    seen = target.landmarks68_px[upper] - target.landmarks68_px[lower]
    weight = target.landmarks68_weight[upper] * target.landmarks68_weight[lower]
    return jnp.sqrt(weights.closure * weight)[:, None] * (gap - seen) / target.interocular_px


def prior_cost(unknowns: Unknowns, weights: Weights) -> list[Array]:
    """λ3 · Σ z², with just enough on the rigid unknowns to keep unused ones at rest."""
    root = float(np.sqrt(weights.prior))
    free = [unknowns.rotation, unknowns.translation, unknowns.camera]
    return [root * unknowns.z, root * unknowns.joints, *[1e-2 * root * part for part in free]]


def smoothness_cost(unknowns: Unknowns, factor: Float[Array, "K K"], weights: Weights) -> Float[Array, " K"]:
    """0.1 · ‖Laplacian of the offsets‖², through its K×K factor (see `smoothness_factor`)."""
    return float(np.sqrt(weights.smoothness)) / INTEROCULAR_M * (factor @ unknowns.z)


def vertex_cost(
    vertices_m: Float[Array, "V 3"],
    held_m: Float[Array, "V 3"],
    visible: Float[Array, " V"],
    sigma_m: Float[Array, ""],
    weights: Weights,
) -> Float[Array, "V 3"]:
    """Visible vertices against the input's, with the noise `sigma_m` in metres; on the same scale as the prior."""
    root = float(np.sqrt(weights.prior)) / sigma_m
    return (root * visible)[:, None] * (vertices_m - held_m)


def smoothness_factor(head: HeadModel) -> Float[Array, "K K"]:
    """Factor S with ‖S z‖² = ‖Laplacian of B z‖²: the smoothness term without touching a vertex.

    The Laplacian is the uniform one (neighbour mean less the vertex); a vertex without triangles has none.
    """
    laplacian = uniform_laplacian(np.asarray(head.faces), head.n_vertices)
    basis = np.asarray(head.components_m, np.float64).reshape(head.n_components, -1, 3)
    smoothed = np.stack([laplacian @ basis[:, :, axis].T for axis in range(3)]).reshape(-1, head.n_components)
    values, vectors = np.linalg.eigh(smoothed.T @ smoothed)
    return on_device(np.sqrt(np.clip(values, 0, None))[:, None] * vectors.T, head.dtype)
