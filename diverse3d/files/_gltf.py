"""glTF 2.0 files (.glb, and .gltf with its data embedded): vertices in their order, placed as the scene says, with the
colours or the one embedded texture that they wear."""

import base64
import binascii
import re
from pathlib import Path
from typing import Any

import numpy as np

from .._errors import InputError
from ._images import Picture
from ._json import parse_json
from ._limits import Limits, read_bytes
from ._mesh import Damaged, Mesh, Polygons, first_mark, visible_by
from ._srgb import srgb_from_linear

_COMPONENTS = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}
_TRIANGLES = (4, 5, 6)
_EMBEDDED = re.compile(r"data:application/(?:octet-stream|gltf-buffer);base64,")
_HARMLESS = ("KHR_mesh_quantization", "KHR_materials_", "KHR_texture_", "EXT_texture_", "KHR_lights_")
"""Extensions that change nothing about where vertices lie, or that are understood."""
_LARGEST_PLACE = 1e9


def read_gltf(path: Path, limits: Limits) -> Mesh:
    """Vertices and triangles in a glTF file's scene."""
    data = read_bytes(path, "mesh_bytes", limits)
    if data.startswith(b"glTF"):
        text, embedded = _chunks(data)
        tree = parse_json(text, str(path), limits)
    elif path.suffix.lower() == ".glb" or not data.lstrip().startswith(b"{"):
        raise Damaged("does not start as a glTF file does")
    else:
        tree, embedded = parse_json(data, str(path), limits, limit="text_bytes"), None
    if not isinstance(tree, dict):
        raise Damaged("does not describe a scene")
    for extension in _list(tree, "extensionsRequired"):
        if not isinstance(extension, str) or not extension.startswith(_HARMLESS):
            raise Damaged(f"needs the extension {str(extension)[:60]!r}, which is not read; save it without")
    return _Scene(tree, embedded, path, limits).read()


def _chunks(data: bytes) -> tuple[bytes, bytes | None]:
    """The description and the data of a .glb file."""
    version, total = int.from_bytes(data[4:8], "little"), int.from_bytes(data[8:12], "little")
    if version != 2 or not 20 <= total <= len(data):
        raise Damaged("is no whole glTF 2.0 file")
    chunks: list[tuple[bytes, bytes]] = []
    start = 12
    while start < total and len(chunks) < 2:
        end = start + 8 + int.from_bytes(data[start : start + 4], "little")
        if end > total:
            raise Damaged("is shorter than it says")
        chunks.append((data[start + 4 : start + 8], data[start + 8 : end]))
        start = end
    if chunks[0][0] != b"JSON":
        raise Damaged("does not begin with its description")
    return chunks[0][1], chunks[1][1] if len(chunks) > 1 and chunks[1][0] == b"BIN\0" else None


class _Scene:
    """Reads a scene's vertices; every index, count and length of the description is checked on the way."""

    def __init__(self, tree: dict[str, Any], embedded: bytes | None, path: Path, limits: Limits) -> None:
        self._tree, self._path, self._limits = tree, path, limits
        self._buffers = {} if embedded is None else {0: embedded}
        self._parts: list[tuple[np.ndarray, int, int | None, str]] = []
        self._looks: list[tuple[dict[str, Any], Any]] = []
        self._count, self._polygons = 0, Polygons(path, limits)

    def read(self) -> Mesh:
        """All vertices, one after another, node by node in the scene's order."""
        pending, seen = [(root, np.eye(4)) for root in reversed(self._roots())], set()
        while pending:
            index, parent = pending.pop()
            node = self._item("nodes", index)
            if index in seen:
                raise Damaged("has a node that is its own parent or has two")
            seen.add(index)
            place = parent @ _matrix(node)
            if not np.abs(place).max() < _LARGEST_PLACE:
                raise Damaged("places its meshes impossibly far away")
            if "mesh" in node:
                self._add(self._item("meshes", node["mesh"]), place)
            pending += [(child, place) for child in reversed(_list(node, "children"))]
        # Only now, when all that is declared has been counted, are numbers read.
        vertices, visible = np.zeros((self._count, 3)), np.ones(self._count)
        end, marked = 0, 0
        for place, position, mark, name in self._parts:
            with np.errstate(all="ignore"):  # what is not finite marks a vertex as hidden
                points = self._values(position, 3) @ place[:3, :3].T + place[None, :3, 3]
            start, end = end, end + len(points)
            vertices[start:end] = points
            if mark is not None:
                values, marked = self._values(mark, 1)[:, 0], marked + 1
                if len(values) != len(points):
                    raise Damaged("does not mark every vertex as visible or hidden")
                visible[start:end] = visible_by(name, values)
        marks = visible if marked and marked == len(self._parts) else None
        colours, uv, picture = self._look()
        return Mesh(vertices, self._polygons.triangles(self._count), marks, colours, uv, picture)

    def _look(self) -> tuple[np.ndarray | None, np.ndarray | None, Picture | None]:
        """Colours, or places in the one embedded texture, of all vertices; a damaged look leaves the shape sound."""
        colours, places, pictures = [], [], []
        try:
            for (attributes, material), (_, position, _, _) in zip(self._looks, self._parts, strict=True):
                count = len(self._table(position, 3))
                if "COLOR_0" in attributes:
                    width = 4 if self._item("accessors", attributes["COLOR_0"]).get("type") == "VEC4" else 3
                    colours.append(self._worn(attributes["COLOR_0"], width, count)[:, :3])
                found = self._texture(material)
                if found is not None and f"TEXCOORD_{found[1]}" in attributes:
                    places.append(self._worn(attributes[f"TEXCOORD_{found[1]}"], 2, count))
                    pictures.append(found[0])
        except Damaged:
            return None, None, None
        parts = len(self._parts)
        if parts and len(places) == parts and len({*pictures}) == 1:
            uv = np.concatenate(places)
            data = self._picture(pictures[0]) if np.isfinite(uv).all() else None
            if data is not None:
                uv[:, 1] = 1.0 - uv[:, 1]
                return None, uv, Picture(data, self._path)
        if parts and len(colours) == parts:
            linear = np.concatenate(colours)
            return srgb_from_linear(linear) if np.isfinite(linear).all() else None, None, None
        return None, None, None

    def _worn(self, index: Any, width: int, count: int) -> np.ndarray:
        """Numbers of vertices; raises `Damaged` unless there are as many."""
        values = self._values(index, width)
        if len(values) != count:
            raise Damaged("does not colour every vertex")
        return values

    def _texture(self, material: Any) -> tuple[int, int] | None:
        """Number of the picture that a material shows, and of the places in it."""
        if material is None:
            return None
        surface = self._item("materials", material).get("pbrMetallicRoughness")
        shown = surface.get("baseColorTexture") if isinstance(surface, dict) else None
        if not isinstance(shown, dict):
            return None
        source, places = self._item("textures", shown.get("index")).get("source"), shown.get("texCoord", 0)
        return (source, places) if isinstance(source, int) and isinstance(places, int) else None

    def _picture(self, index: int) -> bytes | None:
        """Content of a picture that lies in the file's own data."""
        try:
            view = self._item("bufferViews", self._item("images", index).get("bufferView"))
            buffer, start, length = (
                self._buffer(view.get("buffer")),
                _whole(view, "byteOffset", 0),
                _whole(view, "byteLength"),
            )
        except Damaged:
            return None
        return buffer[start : start + length] if start + length <= len(buffer) else None

    def _roots(self) -> list[Any]:
        if _list(self._tree, "scenes"):
            return _list(self._item("scenes", self._tree.get("scene", 0)), "nodes")
        return list(range(len(_list(self._tree, "nodes"))))

    def _add(self, mesh: dict[str, Any], place: np.ndarray) -> None:
        """Count a mesh's vertices and note where they lie; parts of it that share theirs count once."""
        added: dict[Any, int] = {}
        for part in _list(mesh, "primitives"):
            attributes = part.get("attributes") if isinstance(part, dict) else None
            if not isinstance(attributes, dict):
                raise Damaged("has a mesh without attributes")
            mode = part.get("mode", 4)
            if mode not in _TRIANGLES or "POSITION" not in attributes:
                continue
            position = attributes["POSITION"]
            corners = self._table(part["indices"], 1)[:, 0] if "indices" in part else None
            count = len(self._table(position, 3))
            if position not in added:
                added[position] = self._count
                self._count += count
                if self._count > self._limits.mesh_elements:
                    raise self._too_many()
                name = first_mark(attributes)
                self._parts.append((place, position, None if name is None else attributes[name], name or ""))
                self._looks.append((attributes, part.get("material")))
            corners = np.arange(count) if corners is None else corners
            if len(corners) > 3 * self._limits.mesh_elements:
                raise self._too_many()
            if corners.dtype.kind == "f" or corners.min() < 0 or corners.max() >= count:
                raise Damaged("has a triangle whose corners are not among its vertices")
            triangles = _triangles(corners.astype(np.int32), mode) + np.int32(added[position])
            # A mirrored part would show its inside.
            self._polygons.add_table(triangles[:, ::-1] if np.linalg.det(place[:3, :3]) < 0 else triangles)

    def _too_many(self) -> InputError:
        return self._limits.exceeded("mesh_elements", f"{self._path} declares more vertices or triangles")

    def _values(self, index: Any, width: int) -> np.ndarray:
        """An accessor's numbers, float64 [count, width]."""
        table = self._table(index, width)
        values = table.astype(np.float64)
        if table.dtype.kind != "f" and self._item("accessors", index).get("normalized") is True:
            values = np.maximum(values / np.iinfo(table.dtype).max, -1.0)
        return values

    def _table(self, index: Any, width: int) -> np.ndarray:
        """An accessor's numbers where they lie, once they are known to lie within their buffer."""
        accessor = self._item("accessors", index)
        kind = accessor.get("componentType")
        if "sparse" in accessor or "bufferView" not in accessor:
            raise Damaged("stores numbers sparsely, which is not read; save it plainly")
        if not isinstance(kind, int) or kind not in _COMPONENTS or _WIDTHS.get(str(accessor.get("type"))) != width:
            raise Damaged("has numbers of a type that glTF does not know there")
        dtype, count = np.dtype(_COMPONENTS[kind]), _whole(accessor, "count")
        view = self._item("bufferViews", accessor["bufferView"])
        buffer = self._buffer(view.get("buffer"))
        row = width * dtype.itemsize
        stride, start = _whole(view, "byteStride", row), _whole(view, "byteOffset", 0)
        offset, length = _whole(accessor, "byteOffset", 0), _whole(view, "byteLength")
        if stride < row or offset + (count - 1) * stride + row > length or start + length > len(buffer):
            raise Damaged("declares more numbers than it holds")
        return np.ndarray((count, width), dtype, buffer, start + offset, (stride, dtype.itemsize))

    def _buffer(self, index: Any) -> bytes:
        described = self._item("buffers", index)
        if index not in self._buffers:
            uri = described.get("uri")
            uri = uri if isinstance(uri, str) else ""
            found = _EMBEDDED.match(uri)
            if found is None:
                raise Damaged(f"keeps its data in another file ({uri[:60]!r}), which is not opened; save it as .glb")
            try:
                self._buffers[index] = base64.b64decode(uri[found.end() :], validate=True)
            except (binascii.Error, ValueError):
                raise Damaged("has embedded data that is not base64") from None
        return self._buffers[index]

    def _item(self, name: str, index: Any) -> dict[str, Any]:
        items = _list(self._tree, name)
        whole = isinstance(index, int) and not isinstance(index, bool)
        if not whole or not 0 <= index < len(items) or not isinstance(items[index], dict):
            raise Damaged(f"refers to an entry of '{name}' that is not there")
        return items[index]


def _triangles(corners: np.ndarray, mode: int) -> np.ndarray:
    """Corners as a list of triangles, a strip (every second triangle turned over) or a fan → [F, 3]."""
    if mode == 4:
        return corners[: len(corners) // 3 * 3].reshape(-1, 3)
    if mode == 6:
        return np.stack([np.broadcast_to(corners[0], max(len(corners) - 2, 0)), corners[1:-1], corners[2:]], axis=1)
    strip = np.stack([corners[:-2], corners[1:-1], corners[2:]], axis=1)
    strip[1::2] = strip[1::2, ::-1]
    return strip


def _list(table: dict[str, Any], name: str) -> list[Any]:
    value = table.get(name, [])
    if not isinstance(value, list):
        raise Damaged(f"has '{name}' that is no list")
    return value


def _whole(table: dict[str, Any], name: str, default: int | None = None) -> int:
    value = table.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < (0 if name == "byteOffset" else 1):
        raise Damaged(f"has '{name}' that is no positive whole number")
    return value


def _matrix(node: dict[str, Any]) -> np.ndarray:
    """4 × 4 matrix of a node: its matrix, or translation · rotation · scale."""
    if "matrix" in node:
        return _numbers(node, "matrix", np.eye(4).reshape(-1)).reshape(4, 4).T
    x, y, z, w = _numbers(node, "rotation", np.array([0.0, 0.0, 0.0, 1.0]))
    turn = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    matrix = np.eye(4)
    matrix[:3, :3] = turn * _numbers(node, "scale", np.ones(3))[None, :]
    matrix[:3, 3] = _numbers(node, "translation", np.zeros(3))
    return matrix


def _numbers(node: dict[str, Any], name: str, default: np.ndarray) -> np.ndarray:
    values = node.get(name)
    if values is None:
        return default
    if not isinstance(values, list) or len(values) != len(default):
        raise Damaged(f"has a node whose '{name}' is not {len(default)} numbers")
    if not all(isinstance(value, int | float) and abs(value) < _LARGEST_PLACE for value in values):
        raise Damaged(f"has a node whose '{name}' is out of range")
    return np.array(values, np.float64)
