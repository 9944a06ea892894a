"""What no head of the model has: a smooth displacement along the normals, the correspondence held where it is."""

import numpy as np
import scipy.sparse as sparse
from jaxtyping import Float, Int
from scipy.sparse.linalg import splu

from ..surface import host_normals, uniform_laplacian
from ._icp import REACH_M, Matcher, spread

_STIFFNESS_M = (1e-4, 2e-3)
"""Displacement's mean curvature over neighbouring vertices, as a standard deviation: first and last."""
_ROUNDS = 6
_SIZE_M = 5e-3


def relax(
    match: Matcher, vertices_m: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"], sigma_m: float, noise_m: float
) -> Float[np.ndarray, "V 3"]:
    """Vertices moved along their normals until the scan's points lie on the surface as nearly as its noise allows.

    Stiffness acts on displacements, so what is no misfit moves nothing, and falls from round to round until the points'
    distance no longer falls or reaches the scan's own noise.
    """
    normals = host_normals(vertices_m, faces)
    laplacian = uniform_laplacian(faces, len(vertices_m))
    stiff = (laplacian.T @ laplacian).tocsc()
    moved, now, last = np.zeros(len(vertices_m)), vertices_m, sigma_m
    rows = match.of_points(now, REACH_M)
    for number in range(_ROUNDS):
        if last <= 1.02 * noise_m:
            break
        curvature = _STIFFNESS_M[0] * (_STIFFNESS_M[1] / _STIFFNESS_M[0]) ** (number / (_ROUNDS - 1))
        root = rows.root / last / (1.0 + (rows.off_m / (3.0 * last)) ** 2)
        share = rows.shares * np.einsum("rcx,rx->rc", normals[rows.corners], rows.direction) * root[:, None]
        place = np.broadcast_to(np.arange(len(root))[:, None], share.shape)
        matrix = sparse.csr_matrix((share.ravel(), (place.ravel(), rows.corners.ravel())), (len(root), len(moved)))
        precision = matrix.T @ matrix + stiff / curvature**2 + sparse.identity(len(moved)) / _SIZE_M**2
        moved = splu(precision.tocsc()).solve(matrix.T @ (root * rows.off_m + matrix @ moved))
        now = vertices_m + moved[:, None] * normals
        rows = match.of_points(now, REACH_M)
        now_spread = spread(rows.off_m[rows.root > 0])
        if number and now_spread > 0.99 * last:
            break
        last = min(now_spread, last)
    return now
