"""PLY files, text and binary: vertices in their order, their marks of visibility, and triangles."""

import itertools
import struct
from array import array
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from ._limits import Limits, read_bytes
from ._mesh import Damaged, Mesh, Polygons, first_mark, lines_of, row_of_numbers, srgb_bytes, visible_by

_TYPES = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4",
    "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4", "float32": "f4",
    "double": "f8", "float64": "f8", "int64": "i8", "uint64": "u8",
}  # fmt: skip
_COLOURS = ("red", "green", "blue")
_ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
_MOST_HEADER_BYTES = 1 << 16


class _Property(NamedTuple):
    name: str
    kind: np.dtype
    """Type of a value."""
    length: np.dtype | None
    """Type of a list's length; None for a single value."""


class _Element(NamedTuple):
    name: str
    rows: int
    properties: list[_Property]


def read_ply(path: Path, limits: Limits) -> Mesh:
    """Vertices and triangles of a PLY file."""
    data = read_bytes(path, "mesh_bytes", limits)
    text, elements, start = _header(data, path, limits)
    polygons = Polygons(path, limits)
    if not text:
        return _binary(data, start, elements, polygons)
    if len(data) > limits.text_bytes:
        raise limits.exceeded("text_bytes", f"{path} is text, and larger")
    return _text(lines_of(data[start:], path, limits), elements, polygons)


def _header(data: bytes, path: Path, limits: Limits) -> tuple[bool, list[_Element], int]:
    """Whether the file is text, its elements, and where they start."""
    stream = BytesIO(data[:_MOST_HEADER_BYTES])
    if stream.readline().strip() != b"ply":
        raise Damaged("does not start as a PLY file does")
    order = None
    elements: list[_Element] = []
    while (line := stream.readline()).endswith(b"\n"):
        match line.decode("latin-1").split():
            case ["format", name, "1.0"] if name in _ORDERS and not elements:
                order = _ORDERS[name]
            case ["element", name, count] if count.isascii() and count.isdigit() and len(count) < 19:
                if int(count) > limits.mesh_elements:
                    raise limits.exceeded("mesh_elements", f"{path} declares more vertices or triangles")
                elements.append(_Element(name, int(count), []))
            case ["property", "list", length, kind, name] if elements and order is not None:
                elements[-1].properties.append(_Property(name, _type(kind, order), _type(length, order, "iu")))
            case ["property", kind, name] if elements and order is not None:
                elements[-1].properties.append(_Property(name, _type(kind, order), None))
            case ["end_header"] if order is not None:
                _check(elements)
                return order == "", elements, stream.tell()
            case [] | ["comment", *_] | ["obj_info", *_]:
                pass
            case _:
                raise Damaged(f"has a header line that is not PLY, {line[:40]!r}")
    raise Damaged("has a header without an end")


def _type(name: str, order: str, kinds: str = "iuf") -> np.dtype:
    kind = np.dtype(order + _TYPES[name]) if name in _TYPES else None
    if kind is None or kind.kind not in kinds:
        raise Damaged(f"has a property of type {name[:40]!r}")
    return kind


def _check(elements: list[_Element]) -> None:
    if any(element.rows and not element.properties for element in elements):
        raise Damaged("has elements without properties")
    vertex = [element for element in elements if element.name == "vertex"]
    names = [column.name for column in vertex[0].properties] if vertex else []
    if len(vertex) != 1 or not {"x", "y", "z"} <= set(names) or len(set(names)) != len(names):
        raise Damaged("declares no vertices with one x, y and z")
    if any(column.length for column in vertex[0].properties):
        raise Damaged("has lists in its vertices, which are not read; save it without them")


def _text(lines: Iterator[bytes], elements: list[_Element], polygons: Polygons) -> Mesh:
    kept: dict[str, array[float]] = {}
    for element in elements:
        names = [column.name for column in element.properties]
        if element.name == "vertex":
            kept = {name: array("d") for name in _kept(names)}
            places = [(names.index(name), values) for name, values in kept.items()]
        for _ in range(element.rows):
            words = next(lines, b"").split()
            if element.name == "vertex":
                row = row_of_numbers(words, len(names))
                for place, values in places:
                    values.append(row[place])
            else:
                _text_row(words, element, polygons)
    return _mesh({name: np.array(values) for name, values in kept.items()}, polygons)


def _text_row(words: list[bytes], element: _Element, polygons: Polygons) -> None:
    """Add a row's polygon, if it has one; raise unless the row holds what its lists' lengths say."""
    place = 0
    for column in element.properties:
        place += 1
        if column.length and place <= len(words):
            word = words[place - 1]
            end = place + (int(word) if word.isdigit() and len(word) < 10 else len(words))
            if _is_polygon(element, column):
                polygons.add(words[place:end])
            place = end
    if place != len(words):
        raise Damaged(f"ends before the {element.rows} rows of {element.name[:40]!r}, or has one that is cut short")


def _is_polygon(element: _Element, column: _Property) -> bool:
    wanted = element.name == "face" and column.name in ("vertex_indices", "vertex_index")
    return wanted and column.length is not None and column.kind.kind in "iu"


def _binary(data: bytes, start: int, elements: list[_Element], polygons: Polygons) -> Mesh:
    columns: dict[str, np.ndarray] = {}
    for element in elements:
        if element.name == "vertex":
            row = np.dtype([(column.name, column.kind) for column in element.properties])
            if element.rows * row.itemsize > len(data) - start:
                raise Damaged(f"is too short for the {element.rows} vertices that it declares")
            table = np.frombuffer(data, row, element.rows, start)
            columns = {name: table[name].astype(np.float64) for name in _kept(list(row.names or ()))}
            start += element.rows * row.itemsize
        elif element.rows:
            start = _rows(data, start, element, polygons)
    return _mesh(columns, polygons)


def _rows(data: bytes, start: int, element: _Element, polygons: Polygons) -> int:
    """Where an element's rows end; their polygons are added."""
    drawn = [i for i, column in enumerate(element.properties) if _is_polygon(element, column)]
    walk = _walk(data, start, element)
    first, _ = next(walk)
    row = _row(element, first)
    # Most often all rows are as long as the first (nothing but triangles): then they form a table.
    if element.rows * row.itemsize <= len(data) - start:
        table = np.frombuffer(data, row, element.rows, start)
        lengths = [table[name] for name in row.names or () if name.startswith("length")]
        if all((length == length[0]).all() for length in lengths):
            for i in drawn:
                polygons.add_table(table[f"values {i}"])
            return start + element.rows * row.itemsize
    layouts: dict[tuple[int, ...], tuple[struct.Struct, list[slice]]] = {}
    for counts, end in itertools.chain([next(_walk(data, start, element))], walk):
        if counts not in layouts:
            layouts[counts] = _layout(element, counts, drawn)
        layout, corners = layouts[counts]
        values = layout.unpack_from(data, start)
        for part in corners:
            polygons.add(values[part])
        start = end
    return start


def _walk(data: bytes, start: int, element: _Element) -> Iterator[tuple[tuple[int, ...], int]]:
    """Of each row how many values its properties have, and where it ends."""
    # A loop of plain numbers: there may be millions of rows.
    plan = [
        (
            column.length.itemsize if column.length else 0,
            column.length is not None and column.length.kind == "i",
            column.kind.itemsize,
        )
        for column in element.properties
    ]
    order: Literal["big", "little"] = "big" if _order(element) == ">" else "little"
    for _ in range(element.rows):
        counts = []
        for size, signed, width in plan:
            count = int.from_bytes(data[start : start + size], order, signed=signed) if size else 1
            start += size + count * width
            if count < 0 or start > len(data):
                raise Damaged(f"is too short for the {element.rows} rows of {element.name[:40]!r} that it declares")
            counts.append(count)
        yield tuple(counts), start


def _row(element: _Element, counts: tuple[int, ...]) -> np.dtype:
    """The type of a row whose properties have so many values."""
    fields: list[tuple[str, np.dtype, tuple[int, ...]]] = []
    for number, (column, count) in enumerate(zip(element.properties, counts, strict=True)):
        if column.length:
            fields.append((f"length {number}", column.length, ()))
        fields.append((f"values {number}", column.kind, (count,)))
    return np.dtype(fields)


def _layout(element: _Element, counts: tuple[int, ...], drawn: list[int]) -> tuple[struct.Struct, list[slice]]:
    """The same for `struct`, which is faster for a single row, and where in it polygons are."""
    text, at, corners = _order(element), 0, []
    for number, (column, count) in enumerate(zip(element.properties, counts, strict=True)):
        text += column.length.char if column.length else ""
        at += 1 if column.length else 0
        text += f"{count}{column.kind.char}"
        if number in drawn:
            corners.append(slice(at, at + count))
        at += count
    return struct.Struct(text.replace("l", "q").replace("L", "Q")), corners


def _order(element: _Element) -> str:
    """The file's order of bytes, as far as it matters here."""
    kinds = [kind for column in element.properties for kind in (column.kind, column.length) if kind is not None]
    return ">" if any(kind.str[0] == ">" for kind in kinds) else "<"


def _kept(names: list[str]) -> list[str]:
    """The properties of a vertex that are of use: its place, its colour, and one that marks it visible or hidden."""
    mark = first_mark(names)
    colours = [*_COLOURS] if set(_COLOURS) <= set(names) else []
    return [*"xyz", *colours, *([] if mark is None else [mark])]


def _mesh(columns: dict[str, np.ndarray], polygons: Polygons) -> Mesh:
    vertices = np.stack([columns.pop(axis) for axis in "xyz"], axis=1)
    colours = None
    if set(_COLOURS) <= set(columns):
        colours = srgb_bytes(np.stack([columns.pop(name) for name in _COLOURS], axis=1))
    visible = [visible_by(name, values) for name, values in columns.items()]
    return Mesh(vertices, polygons.triangles(len(vertices)), visible[0] if visible else None, colours)
