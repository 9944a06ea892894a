"""PLY, OBJ and STL files: one mesh out, its vertices in their order and to the last bit of single precision."""

import io
from collections.abc import Mapping

import numpy as np
from PIL import Image

from ._images import QUICK
from ._obj import STL_TRIANGLE


def ply_bytes(
    vertices: np.ndarray, faces: np.ndarray, colours: np.ndarray | None, values: Mapping[str, np.ndarray]
) -> bytes:
    """Binary PLY: vertices [V,3] as float32, triangles [F,3], sRGB colours [V,3], and further numbers a vertex."""
    fields: list[tuple[str, str]] = [(axis, "<f4") for axis in "xyz"]
    columns: list[np.ndarray] = list(vertices.T)
    if colours is not None:
        fields += [(name, "u1") for name in ("red", "green", "blue")]
        columns += list(colours.T)
    fields += [(name, "<f4") for name in values]
    columns += list(values.values())
    table = np.empty(len(vertices), fields)
    for (name, _), column in zip(fields, columns, strict=True):
        table[name] = column
    polygons = np.empty(len(faces), [("count", "u1"), ("corners", "<i4", 3)])
    polygons["count"], polygons["corners"] = 3, faces
    kinds = {"<f4": "float", "u1": "uchar"}
    header = [
        "ply",
        "format binary_little_endian 1.0",
        f"element vertex {len(vertices)}",
        *(f"property {kinds[kind]} {name}" for name, kind in fields),
        f"element face {len(faces)}",
        "property list uchar int vertex_indices",
        "end_header",
        "",
    ]
    return "\n".join(header).encode() + table.tobytes() + polygons.tobytes()


def obj_files(
    name: str,
    vertices: np.ndarray,
    faces: np.ndarray,
    colours: np.ndarray | None,
    uv: np.ndarray | None,
    texture: np.ndarray | None,
) -> dict[str, bytes]:
    """`name.obj`, and with a texture (sRGB [T,T,3], the uppermost row first) `name.mtl` and `name.png`, by name.

    `uv` [V,2] runs to the right and upwards. Without a texture, colours stand behind the coordinates, as scanners and
    MeshLab write them.
    """
    lines = [f"mtllib {name}.mtl", f"o {name}"] if texture is not None else [f"o {name}"]
    if colours is not None and texture is None:
        lines += [
            "v {:.9g} {:.9g} {:.9g} {:.4f} {:.4f} {:.4f}".format(*row)
            for row in np.column_stack([vertices, colours / 255.0]).tolist()
        ]
    else:
        lines += ["v {:.9g} {:.9g} {:.9g}".format(*row) for row in vertices.tolist()]
    if uv is not None:
        lines += ["vt {:.6f} {:.6f}".format(*row) for row in uv.tolist()]
    corner = "{0}/{0}" if uv is not None else "{0}"
    if texture is not None:
        lines.append("usemtl skin")
    face = " ".join(["f", *(corner.replace("0", str(i)) for i in range(3))])
    lines += [face.format(*row) for row in (faces + 1).tolist()]
    written = {f"{name}.obj": ("\n".join(lines) + "\n").encode()}
    if texture is not None:
        material = f"newmtl skin\nKa 0 0 0\nKd 1 1 1\nKs 0 0 0\nillum 1\nmap_Kd {name}.png\n"
        picture = io.BytesIO()
        Image.fromarray(texture).save(picture, "PNG", compress_level=QUICK)
        written |= {f"{name}.mtl": material.encode(), f"{name}.png": picture.getvalue()}
    return written


def stl_bytes(vertices: np.ndarray, faces: np.ndarray) -> bytes:
    """Binary STL: the triangles [F,3] in their order, each with corners of its own, as the format wants it."""
    corners = vertices.astype(np.float32)[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    table = np.zeros(len(faces), STL_TRIANGLE)
    table["normal"] = np.divide(normals, length, out=np.zeros_like(normals), where=length > 0)
    table["corners"] = corners
    return bytes(80) + np.uint32(len(faces)).tobytes() + table.tobytes()
