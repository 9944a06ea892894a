"""Vertex normals, on the device and on the host."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


def vertex_normals(vertices: Float[Array, "V 3"], faces: Int[Array, "F 3"]) -> Float[Array, "V 3"]:
    """Unit normals, area-weighted over the triangles around each vertex; zero for a vertex without triangles."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    face_normals = jnp.cross(b - a, c - a)
    total = jnp.zeros_like(vertices)
    for i in range(3):
        total = total.at[faces[:, i]].add(face_normals)
    length = jnp.linalg.norm(total, axis=1, keepdims=True)
    return total / jnp.where(length > 0, length, jnp.ones_like(length))


compiled_normals = jax.jit(vertex_normals)
"""The same as one program, for callers that compile nothing themselves; takes arrays of the host too."""


def host_normals(vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]) -> Float[np.ndarray, "V 3"]:
    """The same on the host, summed in double precision: nothing is compiled for a mesh that is seen once."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    face_normals = np.cross(b - a, c - a)
    corner = faces.T.ravel()
    total = np.stack([np.bincount(corner, np.tile(column, 3), len(vertices)) for column in face_normals.T], axis=1)
    return total / np.linalg.norm(total, axis=1, keepdims=True).clip(1e-12)
