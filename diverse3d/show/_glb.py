"""Meshes as GLB (glTF 2.0 binary), vertex for vertex, with normals, and colours or a texture."""

import io
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image

from ..files import QUICK, GlbWriter
from ..surface import compiled_normals, linear_from_srgb

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
    camera: dict[str, Any] | None = None,
    draft: bool = False,
) -> bytes:
    """One mesh as GLB: vertices in metres in the order given, unit normals, sRGB vertex colours.

    With a `skin` the texture stands in the colours' place, since glTF multiplies the two; how uncertain the surface is
    goes into the vertex attribute `UNCERTAINTY`. `camera` is what it was photographed by, as `gltf_camera` says it. A
    `draft` is to be looked at once: its texture is a JPEG, made in a tenth of the time. The same arrays always give the
    same bytes.
    """
    vertices = np.asarray(vertices_m, np.float32)
    file = GlbWriter()
    primitive = add_surface(file, vertices, unit_normals(vertices, faces), faces, None if skin else colours)
    material = MATERIAL
    extra: dict[str, Any] = {}
    if skin is not None:
        uv = np.stack([skin.uv[:, 0], 1.0 - skin.uv[:, 1]], axis=1).astype(np.float32)  # the format's v runs downwards
        primitive["attributes"]["TEXCOORD_0"] = file.add(uv, "vertices")
        primitive["attributes"][UNCERTAINTY] = file.add(np.asarray(skin.uncertainty_mm, np.float32), "vertices")
        picture = io.BytesIO()
        kind = "JPEG" if draft else "PNG"
        Image.fromarray(skin.texture).save(picture, kind, quality=92, compress_level=QUICK)
        image = {"mimeType": f"image/{kind.lower()}", "bufferView": file.add_bytes(picture.getvalue(), {})}
        extra = {"images": [image], "textures": [{"source": 0}]}
        material = MATERIAL | {
            "pbrMetallicRoughness": MATERIAL["pbrMetallicRoughness"] | {"baseColorTexture": {"index": 0}}
        }
    nodes: list[dict[str, Any]] = [{"mesh": 0, "name": "head"}]
    if camera is not None:
        nodes.append(camera["node"])
        extra |= {"cameras": [camera["camera"]], "scenes": [{"nodes": [0, 1]}]}
    meshes = [{"primitives": [primitive]}]
    return file.content({"nodes": nodes, "meshes": meshes, "materials": [material], **extra})


def unit_normals(vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]) -> Float[np.ndarray, "V 3"]:
    """Vertex normals in single precision, of unit length also where no triangle touches, as the format wants."""
    normals = np.array(compiled_normals(vertices, np.asarray(faces, np.int32)), np.float32)
    normals[~normals.any(axis=1)] = (0.0, 0.0, 1.0)
    return normals


def add_surface(
    file: GlbWriter,
    vertices: Float[np.ndarray, "V 3"],
    normals: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    colours: UInt8[np.ndarray, "V 3"] | None,
) -> dict[str, Any]:
    """Add a mesh's arrays and return the primitive that is made of them; its colours are sRGB."""
    attributes = {
        "POSITION": file.add(vertices, "vertices", bounds=True),
        "NORMAL": file.add(normals, "vertices"),
    }
    if colours is not None:
        # glTF's vertex colours are linear light, unlike its textures.
        linear = np.round(255.0 * linear_from_srgb(colours)).astype(np.uint8)
        attributes["COLOR_0"] = file.add(np.pad(linear, ((0, 0), (0, 1)), constant_values=255), "vertices")
    indices = file.add(np.asarray(faces, np.uint32).reshape(-1), "triangles")
    return {"attributes": attributes, "indices": indices, "material": 0}


def write_glb(
    path: Path,
    vertices_m: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    colours: UInt8[np.ndarray, "V 3"],
    *,
    skin: Skin | None = None,
    camera: dict[str, Any] | None = None,
) -> None:
    """Write `glb_bytes` to a file."""
    Path(path).write_bytes(glb_bytes(vertices_m, faces, colours, skin=skin, camera=camera))
