"""Meshes as GLB (glTF 2.0 binary), vertex for vertex, with normals, and colours or a texture."""

from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import trimesh
from jaxtyping import Float, Int, UInt8
from PIL import Image
from trimesh.exchange.gltf import export_glb
from trimesh.visual import ColorVisuals, TextureVisuals
from trimesh.visual.material import PBRMaterial

from ..surface import linear_from_srgb, vertex_normals

MATERIAL: dict[str, Any] = {
    "name": "skin",
    "pbrMetallicRoughness": {"metallicFactor": 0.0, "roughnessFactor": 0.8},
    "doubleSided": True,
}
"""A matt material: the format's default is bare metal, which looks black without surroundings to mirror."""


UNCERTAINTY = "_UNCERTAINTY"
"""Name of a textured mesh's vertex attribute that holds how uncertain the surface is, float32, millimetres."""


class Skin(NamedTuple):
    """What a textured mesh carries besides its shape."""

    uv: Float[np.ndarray, "V 2"]
    """Place of each vertex in the texture, u to the right and v upwards, 0 to 1."""
    texture: UInt8[np.ndarray, "T T 3"]
    """sRGB, the uppermost row first."""
    uncertainty_mm: Float[np.ndarray, " V"]
    """RMS spread of each vertex over the completions."""


def glb_bytes(
    vertices_m: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    colours: UInt8[np.ndarray, "V 3"],
    *,
    skin: Skin | None = None,
) -> bytes:
    """One mesh as GLB: vertices in metres in the order given, unit normals, sRGB vertex colours.

    With a `skin` the texture stands in the colours' place, since glTF multiplies the two; how uncertain the surface is
    goes into the vertex attribute `UNCERTAINTY`. The same arrays always give the same bytes.
    """
    vertices = np.asarray(vertices_m, np.float32)
    normals = np.array(vertex_normals(jnp.asarray(vertices), jnp.asarray(faces, jnp.int32)))
    normals[~normals.any(axis=1)] = (0.0, 0.0, 1.0)  # glTF wants unit length, also where no triangle touches
    mesh = trimesh.Trimesh(vertices=vertices, faces=np.asarray(faces), vertex_normals=normals, process=False)
    if skin is None:
        # glTF's vertex colours are linear light, unlike its textures.
        linear = np.round(255.0 * linear_from_srgb(colours)).astype(np.uint8)
        mesh.visual = ColorVisuals(mesh, vertex_colors=linear)
    else:
        picture = PBRMaterial(name=MATERIAL["name"], baseColorTexture=Image.fromarray(skin.texture))
        mesh.visual = TextureVisuals(uv=np.asarray(skin.uv, np.float64), material=picture)
        mesh.vertex_attributes[UNCERTAINTY] = np.asarray(skin.uncertainty_mm, np.float32)
    return export_glb(trimesh.Scene(mesh), include_normals=True, tree_postprocessor=_as_skin)


def write_glb(
    path: Path,
    vertices_m: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    colours: UInt8[np.ndarray, "V 3"],
    *,
    skin: Skin | None = None,
) -> None:
    """Write `glb_bytes` to a file."""
    Path(path).write_bytes(glb_bytes(vertices_m, faces, colours, skin=skin))


def _as_skin(tree: dict[str, Any]) -> None:
    surface = dict(MATERIAL["pbrMetallicRoughness"])
    if tree.get("textures"):
        surface["baseColorTexture"] = {"index": 0}
    tree["materials"] = [MATERIAL | {"pbrMetallicRoughness": surface}]
    for mesh in tree["meshes"]:
        for primitive in mesh["primitives"]:
            primitive["material"] = 0
