"""Moving heads: one GLB whose morph targets an animation plays, and a GIF; both go to the end and back."""

import io
import json
import struct
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image

from ..surface import linear_from_srgb, vertex_normals
from ._glb import MATERIAL

STEP_SECONDS = 0.25
"""Time from one head to the next in the GLB; a viewer draws what lies between."""

_HOLD_MS, _WALK_MS, _SLOWEST_MS, _FASTEST_MS = 700, 2000, 140, 40
"""Of the GIF, which shows the heads alone: each end, a whole way, and the bounds of a step."""

_FLOAT, _BYTE, _INDEX = 5126, 5121, 5125
_VERTICES, _TRIANGLES = 34962, 34963


def animated_glb_bytes(
    vertices_m: Float[np.ndarray, "n V 3"],
    faces: Int[np.ndarray, "F 3"],
    colours: UInt8[np.ndarray, "V 3"],
    *,
    step_seconds: float = STEP_SECONDS,
) -> bytes:
    """Heads as one GLB: the first as the mesh, a morph target for each other one, and an animation of their weights.

    Vertices in metres in the order given, sRGB vertex colours. At any time at most two targets are at work, so that
    successive heads blend in a straight line. The same arrays always give the same bytes.
    """
    heads = np.asarray(vertices_m, np.float32)
    count = len(heads) - 1
    normals = np.array(jax.vmap(vertex_normals, (0, None))(jnp.asarray(heads), jnp.asarray(faces, jnp.int32)))
    normals[~normals.any(axis=2)] = (0.0, 0.0, 1.0)  # glTF wants unit length, also where no triangle touches
    linear = np.round(255.0 * linear_from_srgb(colours)).astype(np.uint8)
    buffer = _Buffer()
    attributes = {
        "POSITION": buffer.add(heads[0], "VEC3", _VERTICES, bounds=True),
        "NORMAL": buffer.add(normals[0], "VEC3", _VERTICES),
        "COLOR_0": buffer.add(np.pad(linear, ((0, 0), (0, 1)), constant_values=255), "VEC4", _VERTICES),
    }
    indices = buffer.add(np.asarray(faces, np.uint32).reshape(-1), "SCALAR", _TRIANGLES)
    targets = [
        {
            "POSITION": buffer.add(heads[k] - heads[0], "VEC3", _VERTICES, bounds=True),
            "NORMAL": buffer.add(normals[k] - normals[0], "VEC3", _VERTICES),
        }
        for k in range(1, count + 1)
    ]
    shown = there_and_back(count + 1)
    times = (step_seconds * np.arange(len(shown))).astype(np.float32)
    weights = np.eye(count + 1, dtype=np.float32)[shown, 1:]
    sampler = {
        "input": buffer.add(times, "SCALAR", None, bounds=True),
        "output": buffer.add(weights.reshape(-1), "SCALAR", None),
        "interpolation": "LINEAR",
    }
    primitive = {"attributes": attributes, "indices": indices, "material": 0, "targets": targets}
    names = [f"{k:02d}" for k in range(1, count + 1)]
    tree = {
        "asset": {"version": "2.0", "generator": "diverse3d"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": "head"}],
        "meshes": [{"primitives": [primitive], "weights": [0.0] * count, "extras": {"targetNames": names}}],
        "materials": [MATERIAL],
        "animations": [
            {
                "name": "path",
                "samplers": [sampler],
                "channels": [{"sampler": 0, "target": {"node": 0, "path": "weights"}}],
            }
        ],
        "accessors": buffer.accessors,
        "bufferViews": buffer.views,
        "buffers": [{"byteLength": len(buffer.data)}],
    }
    text = json.dumps(tree, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(buffer.data), b"BIN\0")
    chunks += bytes(buffer.data)
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


class _Buffer:
    """The data of a glTF file, with the views and accessors that describe it; every array begins at a multiple of 4."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.views: list[dict[str, Any]] = []
        self.accessors: list[dict[str, Any]] = []

    def add(self, values: np.ndarray, kind: str, target: int | None, *, bounds: bool = False) -> int:
        """Append an array and return its accessor's number."""
        content = np.ascontiguousarray(values).tobytes()
        view: dict[str, Any] = {"buffer": 0, "byteOffset": len(self.data), "byteLength": len(content)}
        if target is not None:
            view["target"] = target
        self.data += content + bytes(-len(content) % 4)
        component = {"f": _FLOAT, "u": _BYTE if values.itemsize == 1 else _INDEX}[values.dtype.kind]
        accessor: dict[str, Any] = {
            "bufferView": len(self.views),
            "componentType": component,
            "count": len(values),
            "type": kind,
        }
        if component == _BYTE:
            accessor["normalized"] = True
        if bounds:
            accessor["min"] = np.atleast_1d(values.min(axis=0)).tolist()
            accessor["max"] = np.atleast_1d(values.max(axis=0)).tolist()
        self.views.append(view)
        self.accessors.append(accessor)
        return len(self.accessors) - 1


def gif_bytes(pictures: Sequence[UInt8[np.ndarray, "H W 3"]]) -> bytes:
    """Pictures as an endless GIF with one palette for all, so that what stands still does not flicker."""
    shown = [Image.fromarray(pictures[index]) for index in there_and_back(len(pictures))[:-1]]
    sample = np.concatenate([picture[::2, ::2] for picture in pictures])
    palette = Image.fromarray(sample).quantize(255, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    indexed = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in shown]
    step = 10 * round(min(max(_WALK_MS / (len(pictures) - 1), _FASTEST_MS), _SLOWEST_MS) / 10)
    durations = [_HOLD_MS if index in (0, len(pictures) - 1) else step for index in range(len(indexed))]
    content = io.BytesIO()
    indexed[0].save(
        content, "GIF", save_all=True, append_images=indexed[1:], duration=durations, loop=0, optimize=False
    )
    return content.getvalue()


def there_and_back(count: int) -> list[int]:
    """0, 1, … count - 1, … 1, 0."""
    return [*range(count), *range(count - 2, -1, -1)]
