"""Closed-form poses, in double precision on the host: where every fit starts."""

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation


def pose_from_landmarks(
    points_m: Float[np.ndarray, "n 3"], points_px: Float[np.ndarray, "n 2"], weight: Float[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, "3 3"], float, Float[np.ndarray, "2"]]:
    """Rotation, scale (px/m) and centre (px) of a weak-perspective camera: affine least squares, made rigid."""
    root = np.sqrt(weight)[:, None]
    design = np.concatenate([points_m, np.ones((len(points_m), 1))], 1) * root
    upright = np.stack([points_px[:, 0], -points_px[:, 1]], 1)
    # The tiny ridge keeps a flat or small set of points (an eye region alone) from a wild third column.
    ridge = 1e-6 * np.trace(design.T @ design) * np.diag([1.0, 1.0, 1.0, 0.0])
    affine = np.linalg.solve(design.T @ design + ridge, design.T @ (upright * root)).T
    u, scales, vt = np.linalg.svd(affine[:, :3], full_matrices=False)
    rows = u @ vt
    turn = np.stack([rows[0], rows[1], np.cross(rows[0], rows[1])])
    centre = affine[:, 3] * np.array([1.0, -1.0])
    return turn, float(scales.mean()), centre


def rotation_vector(turn: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "3"]:
    """Axis-angle vector of a rotation matrix, in radians."""
    return Rotation.from_matrix(turn).as_rotvec()
