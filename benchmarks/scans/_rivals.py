"""Registrations that the product is compared with: trimesh's, and the relaxation of paper 002 as it is published."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np
import scipy.sparse as sparse
import trimesh
from scipy.sparse.linalg import splu

from diverse3d.head import HeadModel
from diverse3d.register._relax import relax
from diverse3d.surface import host_normals, nearest_places, uniform_laplacian
from scenes import RawScan

_MARKS = (36, 45, 30, 48, 54, 33, 8)
"""Landmarks that the outside registration is given, 2 mm off."""
_POINT, _PLANE = 0.1, 1.0
_STIFFNESS = 64.0
_HALVINGS = 7
_WITHIN_M, _ALIKE = 1e-3, np.cos(np.radians(5.0))


def amberg(scan: RawScan, head: HeadModel, random: np.random.Generator) -> np.ndarray:
    """Vertices [V, 3] by trimesh's non-rigid registration (Amberg et al. 2007), its defaults, given seven landmarks
    2 mm off and the whole noise-free mesh in place of the scan; needs rtree."""
    points = head.landmarks68
    assert points is not None
    corners, shares = np.asarray(points.corners)[list(_MARKS)], np.asarray(points.barycentric)[list(_MARKS)]
    own = np.asarray(head.template_m, np.float64)
    true = (scan.surface_m[corners] * shares[:, :, None]).sum(axis=1)
    target = true + 0.002 * random.standard_normal(true.shape) / np.sqrt(3)
    faces = np.asarray(head.faces)
    moved, _, _ = trimesh.registration.procrustes((own[corners] * shares[:, :, None]).sum(axis=1), target)
    start = own @ moved[:3, :3].T + moved[:3, 3]
    template, aim = (trimesh.Trimesh(one, faces, process=False) for one in (start, scan.surface_m))
    face = nearest_places((own[corners] * shares[:, :, None]).sum(axis=1), own, faces).face
    found = trimesh.registration.nricp_amberg(template, aim, source_landmarks=(face, shares), target_positions=target)
    return np.asarray(found, np.float64)


@contextmanager
def statistical_stage() -> Iterator[list[Any]]:
    """What the product's own relaxation makes while this lasts, then what it is given: matcher, vertices, faces, two
    noises."""
    taken: list[Any] = []

    def noted(*arguments: Any) -> np.ndarray:
        relaxed = relax(*arguments)
        taken[:] = relaxed, *arguments
        return relaxed

    with mock.patch("diverse3d.register._register.relax", noted):
        yield taken


def literal(match: Any, vertices_m: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Vertices [V, 3] by the relaxation of Sela et al. 2017 (equation 8) from the same statistical stage: the nearest
    point within 1 mm and 5 degrees, 0.1 · point to point + point to plane + biharmonic stiffness, halved seven times.

    The stiffness's unit isn't published; this one begins at nearly rigid, and acts on displacements.
    """
    count = len(vertices_m)
    bending = uniform_laplacian(faces, count)
    stiff = sparse.kron(bending.T @ bending, sparse.identity(3), format="csc")
    now, moved = vertices_m, np.zeros(3 * count)
    for halving in range(_HALVINGS + 1):
        pairs = match.of_vertices(now, _WITHIN_M)
        alike = (pairs.normal * host_normals(now, faces)).sum(axis=1) > _ALIKE
        weight = (pairs.accepted & alike).astype(np.float64)
        blocks = weight[:, None, None] * (
            _POINT * np.eye(3) + _PLANE * pairs.normal[:, :, None] * pairs.normal[:, None, :]
        )
        data = sparse.bsr_matrix((blocks, np.arange(count), np.arange(count + 1)), shape=(3 * count, 3 * count))
        pull = np.einsum("vab,vb->va", blocks, pairs.target_m - vertices_m).reshape(-1)
        system = data + _STIFFNESS / 2**halving * stiff + 1e-6 * sparse.identity(3 * count)
        moved = splu(system.tocsc()).solve(pull)
        now = vertices_m + moved.reshape(-1, 3)
    return now
