"""Observations of heads whose truth is known, for benchmarks and for learning the noise."""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sparse
from jaxtyping import Bool, Float, PRNGKeyArray
from scipy.sparse.linalg import SuperLU, splu

from .._errors import InputError
from ..head import HeadModel
from ..surface import facing_camera, uniform_laplacian
from ._mesh import observe_mesh
from ._observation import MeshObservation
from ._occluder import inside_outline, occluder_outline

Setting = Literal["exact", "realistic"]
SETTINGS: tuple[Setting, ...] = ("exact", "realistic")
"""How a simulated mesh gives the visible part (`simulate_mesh`)."""

FIT_ERROR_MM = 1.0
"""RMS size a vertex of the simulated fit error of the `realistic` setting."""

_SMOOTHING = 300.0
"""Strength of the smoothing that correlates the error, over some fifteen rings of neighbours: fits to landmarks err in
patterns as wide as that (nine tenths of their error lie in two dozen patterns)."""


def occluded_vertices(
    vertices_m: Float[np.ndarray, "V 3"], head: HeadModel, region: str, *, key: PRNGKeyArray
) -> Bool[np.ndarray, " V"]:
    """Vertices of a head, in the head frame, that lie behind an occluder region seen from the front."""
    if head.landmarks68 is None:
        raise InputError(f"The head '{head.name}' carries no landmarks, by which occluders are placed.")
    frontal = np.stack([vertices_m[:, 0], -vertices_m[:, 1]], axis=1)
    corners, weights = np.asarray(head.landmarks68.corners), np.asarray(head.landmarks68.barycentric)
    landmarks = (frontal[corners] * weights[:, :, None]).sum(1)
    return inside_outline(occluder_outline(region, landmarks, key=key), frontal)


def correlated_error(head: HeadModel, *, key: PRNGKeyArray) -> Float[np.ndarray, "V 3"]:
    """A smooth random error field over the head, `FIT_ERROR_MM` RMS a vertex, in metres."""
    solver, scale = _smoother(np.asarray(head.faces, np.int32).tobytes(), head.n_vertices)
    white = np.asarray(jax.random.normal(key, (head.n_vertices, 3), np.float32), np.float64)
    return 1e-3 * FIT_ERROR_MM / np.sqrt(3.0) * solver.solve(white) / scale[:, None]


@functools.lru_cache(maxsize=2)
def _smoother(faces: bytes, count: int) -> tuple[SuperLU, Float[np.ndarray, " V"]]:
    """Solver of (I - s·Laplacian) x = white noise, and the standard deviation of x a vertex."""
    laplacian = uniform_laplacian(np.frombuffer(faces, np.int32).reshape(-1, 3), count)
    solver = splu(sparse.csc_matrix(sparse.identity(count) - _SMOOTHING * laplacian))
    probes = solver.solve(np.random.default_rng(0).standard_normal((count, 400)))
    return solver, np.sqrt((probes**2).mean(1))


def simulate_mesh(
    truth_m: Float[np.ndarray, "V 3"], head: HeadModel, *, region: str, setting: str, key: PRNGKeyArray
) -> MeshObservation:
    """A partial mesh of a known head (head frame, metres).

    `exact`: every vertex outside the occluder's outline is given, without error. `realistic`: only vertices that also
    face the camera are given, with a spatially correlated error of 1 mm.
    """
    region_key, error_key = jax.random.split(key)
    visible = ~occluded_vertices(truth_m, head, region, key=region_key)
    vertices = np.asarray(truth_m, np.float64)
    if setting == "realistic":
        visible &= facing_camera(jnp.asarray(truth_m, head.dtype), head.faces)
        vertices = vertices + correlated_error(head, key=error_key)
    return observe_mesh(vertices, head=head, hidden=~visible)
