"""GLB files (glTF 2.0 binary), array by array."""

import json
import struct
from typing import Any, Literal

import numpy as np

_COMPONENTS = {"float32": 5126, "uint8": 5121, "uint32": 5125}
_TARGETS = {"vertices": 34962, "triangles": 34963}
_KINDS = ("SCALAR", "VEC2", "VEC3", "VEC4")


class GlbWriter:
    """The data of a file, with the views and accessors that describe it; every array begins at a multiple of 4."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._views: list[dict[str, Any]] = []
        self._accessors: list[dict[str, Any]] = []

    def add(
        self, values: np.ndarray, target: Literal["vertices", "triangles"] | None = None, *, bounds: bool = False
    ) -> int:
        """Append rows of numbers (float32, uint32, or uint8 for 0 to 1) and return their accessor's number."""
        self.add_bytes(np.ascontiguousarray(values).tobytes(), {} if target is None else {"target": _TARGETS[target]})
        kind = _KINDS[values.shape[1] - 1] if values.ndim == 2 else "SCALAR"
        component = _COMPONENTS[values.dtype.name]
        accessor = {"bufferView": len(self._views) - 1, "componentType": component, "count": len(values), "type": kind}
        if values.dtype == np.uint8:
            accessor["normalized"] = True
        if bounds:
            accessor["min"] = np.atleast_1d(values.min(axis=0)).tolist()
            accessor["max"] = np.atleast_1d(values.max(axis=0)).tolist()
        self._accessors.append(accessor)
        return len(self._accessors) - 1

    def add_bytes(self, content: bytes, view: dict[str, Any]) -> int:
        """Append anything, such as a picture's file, and return its view's number."""
        self._views.append({"buffer": 0, "byteOffset": len(self._data), "byteLength": len(content), **view})
        self._data += content + bytes(-len(content) % 4)
        return len(self._views) - 1

    def content(self, tree: dict[str, Any]) -> bytes:
        """The whole file, for a description of meshes, materials and so on; the same always gives the same bytes."""
        tree = {
            "asset": {"version": "2.0", "generator": "diverse3d"},
            "scene": 0,
            "scenes": [{"nodes": [0]}],
            **tree,
            "accessors": self._accessors,
            "bufferViews": self._views,
            "buffers": [{"byteLength": len(self._data)}],
        }
        text = json.dumps(tree, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 4)
        chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(self._data), b"BIN\0")
        return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks) + len(self._data)) + chunks + bytes(self._data)
