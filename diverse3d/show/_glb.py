"""Meshes as GLB (glTF 2.0 binary), vertex for vertex, with colours and normals."""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import trimesh
from jaxtyping import Float, Int, UInt8
from trimesh.exchange.gltf import export_glb

from ..raster import vertex_normals
from ._colour import linear_from_srgb

MATERIAL = {
    "name": "skin",
    "pbrMetallicRoughness": {"metallicFactor": 0.0, "roughnessFactor": 0.8},
    "doubleSided": True,
}
"""A matt material: the format's default is bare metal, which looks black without surroundings to mirror."""


def glb_bytes(
    vertices_m: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"], colours: UInt8[np.ndarray, "V 3"]
) -> bytes:
    """One mesh as GLB: vertices in metres in the order given, unit normals, sRGB vertex colours.

    The same arrays always give the same bytes.
    """
    vertices = np.asarray(vertices_m, np.float32)
    normals = np.array(vertex_normals(jnp.asarray(vertices), jnp.asarray(faces, jnp.int32)))
    normals[~normals.any(axis=1)] = (0.0, 0.0, 1.0)  # glTF wants unit length, also where no triangle touches
    # glTF's vertex colours are linear light, unlike its textures.
    linear = np.round(255.0 * linear_from_srgb(colours)).astype(np.uint8)
    mesh = trimesh.Trimesh(
        vertices=vertices, faces=np.asarray(faces), vertex_normals=normals, vertex_colors=linear, process=False
    )
    return export_glb(trimesh.Scene(mesh), include_normals=True, tree_postprocessor=_as_skin)


def write_glb(
    path: Path, vertices_m: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"], colours: UInt8[np.ndarray, "V 3"]
) -> None:
    """Write `glb_bytes` to a file."""
    Path(path).write_bytes(glb_bytes(vertices_m, faces, colours))


def _as_skin(tree: dict[str, Any]) -> None:
    tree["materials"] = [MATERIAL]
    for mesh in tree["meshes"]:
        for primitive in mesh["primitives"]:
            primitive["material"] = 0
