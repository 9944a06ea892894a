"""PLY files, text and binary: vertices in their order, with the properties that mark them visible or hidden."""

from array import array
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ._limits import Limits, read_bytes
from ._mesh_file import Damaged, MeshFile, first_mark, lines_of, row_of_numbers, visible_by

_TYPES = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4",
    "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4", "float32": "f4",
    "double": "f8", "float64": "f8", "int64": "i8", "uint64": "u8",
}  # fmt: skip
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


def read_ply(path: Path, limits: Limits) -> MeshFile:
    """Vertices of a PLY file."""
    data = read_bytes(path, "mesh_bytes", limits)
    text, elements, start = _header(data, path, limits)
    if not text:
        return _binary(data, start, elements)
    if len(data) > limits.text_bytes:
        raise limits.exceeded("text_bytes", f"{path} is text, and larger")
    return _text(lines_of(data[start:], path, limits), elements)


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


def _text(lines: Iterator[bytes], elements: list[_Element]) -> MeshFile:
    kept: dict[str, array[float]] = {}
    for element in elements:
        names = [column.name for column in element.properties]
        places = {names.index(name): array("d") for name in _kept(names) if element.name == "vertex"}
        for _ in range(element.rows):
            words = next(lines, b"").split()
            if element.name != "vertex":
                _check_row(words, element)
                continue
            values = row_of_numbers(words, len(names))
            for place, kept_values in places.items():
                kept_values.append(values[place])
        if element.name == "vertex":
            kept = {names[place]: kept_values for place, kept_values in places.items()}
    return _mesh({name: np.array(values) for name, values in kept.items()}, elements)


def _check_row(words: list[bytes], element: _Element) -> None:
    """Raise unless a row of text holds what its lists' lengths say."""
    place = 0
    for column in element.properties:
        place += 1
        if column.length and place <= len(words):
            word = words[place - 1]
            place += int(word) if word.isdigit() and len(word) < 10 else len(words)
    if place != len(words):
        raise Damaged(f"ends before the {element.rows} rows of {element.name[:40]!r}, or has one that is cut short")


def _binary(data: bytes, start: int, elements: list[_Element]) -> MeshFile:
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
            start = _pass_over(data, start, element)
    return _mesh(columns, elements)


def _pass_over(data: bytes, start: int, element: _Element) -> int:
    """Where an element's rows end."""
    lengths, end = _row(data, start, element)
    size = end - start
    # Most often all rows are as long as the first (nothing but triangles): then they form a table.
    if element.rows * size <= len(data) - start:
        table = np.frombuffer(data, np.uint8, element.rows * size, start).reshape(element.rows, size)
        if all((table[:, part] == table[0, part]).all() for part in lengths):
            return start + element.rows * size
    for _ in range(element.rows):
        start = _row(data, start, element)[1]
    return start


def _row(data: bytes, start: int, element: _Element) -> tuple[list[slice], int]:
    """Where in a row its lists' lengths stand, and where it ends."""
    at, lengths = start, []
    for column in element.properties:
        count = 1
        if column.length:
            lengths.append(slice(at - start, at - start + column.length.itemsize))
            word = data[at : at + column.length.itemsize]
            count = int.from_bytes(
                word, "big" if column.length.str[0] == ">" else "little", signed=column.length.kind == "i"
            )
            at += column.length.itemsize
        at += count * column.kind.itemsize
        if count < 0 or at > len(data):
            raise Damaged(f"is too short for the {element.rows} rows of {element.name[:40]!r} that it declares")
    return lengths, at


def _kept(names: list[str]) -> list[str]:
    """The properties of a vertex that are of use: its place, and one that marks it visible or hidden."""
    mark = first_mark(names)
    return ["x", "y", "z"] if mark is None else ["x", "y", "z", mark]


def _mesh(columns: dict[str, np.ndarray], elements: list[_Element]) -> MeshFile:
    vertices = np.stack([columns.pop(axis) for axis in "xyz"], axis=1)
    visible = [visible_by(name, values) for name, values in columns.items()]
    faces = sum(element.rows for element in elements if element.name == "face")
    return MeshFile(vertices, visible[0] if visible else None, faces)
