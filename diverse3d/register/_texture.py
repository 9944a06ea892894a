"""A scan's texture as colours of its vertices: one that its file holds, or pictures that lie beside an OBJ file."""

import re
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from .._errors import InputError
from ..files import Limits, Mesh, Picture, lines_of, read_bytes
from ..surface import texture_colours

_GREY = 200
_MOST_PICTURES = 64
_OPTION = re.compile(r"-(?:[a-z_]+)((?:\s+(?:-?[\d.eE+]+|on|off|[rgbmlz]))*)\s+", re.IGNORECASE)
"""An option of a texture in an .mtl file, with what it is given."""


def coloured(mesh: Mesh, notes: list[str], path: Path | None = None) -> Mesh:
    """A scan with its texture's colours at its vertices; a texture that can't be read is left out, and said.

    `path` is the scan's file. Of an OBJ file's materials, pictures in its own folder or below it are read and nothing
    else is opened.
    """
    try:
        if mesh.picture is not None and mesh.uv is not None:
            return mesh._replace(colours=texture_colours(mesh.picture.pixels(), mesh.uv))
        if path is not None and path.suffix.lower() == ".obj" and mesh.colours is None:
            return mesh._replace(colours=_painted(path, len(mesh.vertices)))
    except InputError as error:
        notes.append(f"Its texture was left out. {error}")
    return mesh


class _Worn(NamedTuple):
    """What an OBJ file says of the materials of its vertices."""

    libraries: list[str]
    materials: list[str]
    of_vertex: Int[np.ndarray, " V"]
    """Number of each vertex's material, -1 for none."""
    uv: Float[np.ndarray, "V 2"]
    """Place in its texture, the first that a polygon gives it."""


def _painted(path: Path, count: int) -> UInt8[np.ndarray, "V 3"] | None:
    """Colours of an OBJ file's vertices; None where no picture is named."""
    limits = Limits.from_environment()
    worn = _worn(path, count, limits)
    pictures: dict[str, str] = {}
    for library in worn.libraries:
        pictures |= _pictures(_beside(path, library), limits)
    named = [pictures.get(name) for name in worn.materials]
    chosen = {name for name in named if name is not None}
    if not chosen:
        return None
    if len(chosen) > _MOST_PICTURES:
        raise InputError(f"{path} wears {len(chosen)} pictures; {_MOST_PICTURES} at most are read.")
    colours = np.full((count, 3), _GREY, np.uint8)
    for name in sorted(chosen):
        place = _beside(path, name)
        texture = Picture(read_bytes(place, "image_bytes", limits), place).pixels()
        numbers = [number for number, own in enumerate(named) if own == name]
        at = np.isin(worn.of_vertex, numbers)
        colours[at] = texture_colours(texture, worn.uv[at])
    return colours


def _worn(path: Path, count: int, limits: Limits) -> _Worn:
    libraries: list[str] = []
    numbers: dict[str, int] = {}
    of_vertex, uv, places = np.full(count, -1), np.zeros((count, 2)), []
    material, known = -1, 0
    for line in lines_of(read_bytes(path, "text_bytes", limits), path, limits):
        word, _, rest = line.partition(b" ")
        if word == b"v":
            known += 1
        elif word == b"vt":
            places.append(_place(rest))
        elif word == b"mtllib":
            libraries.append(rest.decode("utf-8", "replace").strip())
        elif word == b"usemtl":
            name = rest.decode("utf-8", "replace").strip()
            material = numbers.setdefault(name, len(numbers))
        elif word == b"f" and material >= 0:
            for corner in rest.split():
                parts = corner.split(b"/")
                vertex, place = _counted(parts[0], known), _counted(parts[1], len(places)) if len(parts) > 1 else -1
                if 0 <= vertex < count and of_vertex[vertex] < 0 and 0 <= place < len(places):
                    of_vertex[vertex], uv[vertex] = material, places[place]
    return _Worn(libraries, list(numbers), of_vertex, uv)


def _counted(word: bytes, count: int) -> int:
    """A place counted from one, or backwards from the last, counted from zero; -1 where it is none."""
    try:
        number = int(word)
    except ValueError:
        return -1
    return count + number if number < 0 else number - 1


def _place(rest: bytes) -> tuple[float, float]:
    try:
        u, v = (float(word) for word in rest.split()[:2])
    except ValueError:
        return 0.0, 0.0
    return (u, v) if np.isfinite([u, v]).all() else (0.0, 0.0)


def _pictures(library: Path, limits: Limits) -> dict[str, str]:
    """The picture of each material in an .mtl file that has one."""
    found: dict[str, str] = {}
    name = ""
    for line in lines_of(read_bytes(library, "text_bytes", limits), library, limits):
        word, _, rest = line.decode("utf-8", "replace").replace("\t", " ").partition(" ")
        if word == "newmtl":
            name = rest.strip()
        elif word.lower() == "map_kd":
            text = rest.strip()
            while option := _OPTION.match(text):
                text = text[option.end() :]
            found[name] = text
    return found


def _beside(path: Path, name: str) -> Path:
    """A file that another names, in its folder or below; raises `InputError` for one anywhere else."""
    own = PurePosixPath(name.replace("\\", "/"))
    place = path.parent / own
    folder = path.parent.resolve()
    apart = own.is_absolute() or PureWindowsPath(name).drive or ".." in own.parts or not own.parts
    if apart or "\0" in name or not place.resolve().is_relative_to(folder):
        raise InputError(f"{path} names {name[:80]!r}, which is not in its own folder; put the picture beside it.")
    return place
