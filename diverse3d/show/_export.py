"""Heads as files for other programs: GLB, PLY, OBJ, STL or npz, with the same vertices in the same order in all."""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from .._errors import InputError
from .._names import EXPORT_FORMATS, EXPORT_RECORD_NAME, EXPORT_UNITS_M
from ..files import (
    RECORD_NAME,
    npz_bytes,
    obj_files,
    ply_bytes,
    read_json,
    read_mesh,
    read_npz,
    stl_bytes,
    whole_file,
    whole_folder,
    write_record,
)
from ..surface import boundary, pieces, texture_colours
from ._colour import CLAY, uncertainty_colours
from ._glb import Skin, glb_bytes
from ._machine import versions
from ._path import PATH_RECORD_NAME

Format = Literal["glb", "ply", "obj", "stl", "npz"]
Unit = Literal["m", "cm", "mm"]


class Shape(NamedTuple):
    """One head to be written."""

    vertices_m: Float[np.ndarray, "V 3"]
    """Metres."""
    faces: Int[np.ndarray, "F 3"]
    """Triangles."""
    colours: UInt8[np.ndarray, "V 3"] | None = None
    """sRGB; of the texture where there is one and None is given."""
    uv: Float[np.ndarray, "V 2"] | None = None
    """Place of each vertex in the texture, u to the right and v upwards, 0 to 1."""
    texture: UInt8[np.ndarray, "T T 3"] | None = None
    """sRGB, the uppermost row first."""
    uncertainty_mm: Float[np.ndarray, " V"] | None = None
    """RMS spread over the completions."""


def export(
    shapes: Iterable[tuple[str, Shape]],
    directory: str | os.PathLike[str],
    kind: Format,
    *,
    unit: Unit | None = None,
    closed: bool = False,
    force: bool = False,
    facts: Mapping[str, Any] | None = None,
) -> Path:
    """Write named heads into a folder, which appears whole or not at all, and return its path.

    `unit` None is metres, and millimetres for STL, which names none and is read so by printers' programs. `closed`
    puts a lid on each opening, behind the head's own triangles (STL alone: in the others it would add vertices).
    `facts` are for the folder's record. Raises `InputError` for an unknown format, a unit or lid that the format can't
    have, and when the folder can't be written or holds something (`force` replaces older exported heads).
    """
    scale, called = _scale(kind, unit, closed=closed)
    with whole_folder(directory, force=force, record=EXPORT_RECORD_NAME) as folder:
        names = []
        for name, shape in shapes:
            for file, content in _contents(name, shape, kind, scale, closed=closed).items():
                (folder / file).write_bytes(content)
            names.append(name)
        record = {"format": kind, "unit": called, "closed": closed, "heads": names, "versions": versions()}
        write_record(folder, {**record, **(facts or {})}, EXPORT_RECORD_NAME)
    return Path(directory)


def write_mesh(
    path: str | os.PathLike[str],
    vertices_m: Any,
    faces: Any,
    *,
    colours: UInt8[np.ndarray, "V 3"] | None = None,
    unit: Unit | None = None,
    closed: bool = False,
) -> Path:
    """Write one mesh to a file, whole or not at all, in the format that its suffix names, and return its path.

    `vertices_m` [V,3] are metres, `faces` [F,3] triangles, `colours` sRGB; `unit` and `closed` are `export`'s. STL has
    no shared vertices: each triangle holds its own corners, triangles in order. Raises `InputError` for another suffix
    than .glb, .ply, .obj, .stl and .npz, and when writing fails.
    """
    path = Path(path)
    kind = path.suffix.lower().removeprefix(".")
    if kind not in EXPORT_FORMATS:
        raise InputError(
            f"{path} names no format that is written; end it in {', '.join('.' + k for k in EXPORT_FORMATS)}."
        )
    scale, _ = _scale(kind, unit, closed=closed)
    shape = Shape(np.asarray(vertices_m, np.float32), np.asarray(faces, np.int32), colours)
    (content,) = _contents(path.stem, shape, kind, scale, closed=closed).values()
    with whole_file(path) as aside:
        aside.write_bytes(content)
    return path


def stored_shapes(folder: Path, only: tuple[int, ...] = ()) -> tuple[list[str], Iterator[tuple[str, Shape]]]:
    """The heads of a folder that `complete`, `demo`, `fit`, `register` or `interpolate` wrote: their names, then they.

    `only` names some by their numbers. Raises `InputError` for any other folder, a number that isn't there, and files
    that are damaged.
    """
    if not any((folder / name).is_file() for name in (RECORD_NAME, PATH_RECORD_NAME)):
        raise InputError(f"{folder} holds no result; give a folder that `complete`, `fit` or `register` wrote.")
    many = folder / "meshes"
    paths = sorted(many.glob("*.glb"), key=lambda path: (path.stem != "fit", len(path.stem), path.stem))
    paths = paths or [path for path in (folder / "registered.glb", folder / "fit.glb") if path.is_file()]
    if not paths:
        raise InputError(f"{folder} holds no head (meshes/*.glb, fit.glb or registered.glb); make the result again.")
    if only:
        there = {int(path.stem): path for path in paths if path.stem.isdecimal()}
        for number in only:
            if number not in there:
                raise InputError(f"{folder} holds no head number {number}; its heads are {_range(there)}.")
        paths = [there[number] for number in dict.fromkeys(only)]
    return [path.stem for path in paths], _read_shapes(paths, _uncertainty(folder))


def source_facts(folder: Path) -> dict[str, Any]:
    """Which result exported heads are of, for their record."""
    record = folder / (RECORD_NAME if (folder / RECORD_NAME).is_file() else PATH_RECORD_NAME)
    content = read_json(record)
    table = content if isinstance(content, dict) else {}
    return {"of": {name: table.get(name) for name in ("input", "head", "seed")}}


def _read_shapes(paths: list[Path], uncertainty: np.ndarray | None) -> Iterator[tuple[str, Shape]]:
    for path in paths:
        mesh = read_mesh(path)
        texture = None if mesh.picture is None else mesh.picture.pixels()
        mine = uncertainty if uncertainty is not None and len(uncertainty) == len(mesh.vertices) else None
        colours = mesh.colours
        if texture is None and mine is not None:
            colours = uncertainty_colours(mine)  # as they are, where glTF's linear bytes have rounded them
        uv = None if texture is None else mesh.uv
        yield path.stem, Shape(mesh.vertices.astype(np.float32), mesh.faces, colours, uv, texture, mine)


def _uncertainty(folder: Path) -> np.ndarray | None:
    """The spread of a result's completions [V], mm, where its folder says it."""
    path = folder / "completions.npz"
    values = read_npz(path, limit="result_bytes").get("uncertainty") if path.is_file() else None
    sound = values is not None and values.ndim == 1 and values.dtype.kind == "f" and np.isfinite(values).all()
    return values if sound else None


def _range(there: Mapping[int, Path]) -> str:
    return f"{min(there)} to {max(there)}" if there else "not numbered"


def _scale(kind: str, unit: str | None, *, closed: bool) -> tuple[float, str]:
    if kind not in EXPORT_FORMATS:
        raise InputError(f"There is no format '{kind}'; take one of {', '.join(EXPORT_FORMATS)}.")
    if closed and kind != "stl":
        raise InputError(f"Only STL is written closed: lids would add vertices to .{kind} files; leave --closed out.")
    unit = unit or ("mm" if kind == "stl" else "m")
    if unit not in EXPORT_UNITS_M:
        raise InputError(f"There is no unit '{unit}'; take one of {', '.join(EXPORT_UNITS_M)}.")
    if kind == "glb" and unit != "m":
        raise InputError("GLB files are in metres by their format; leave the unit out, or take another format.")
    return 1.0 / EXPORT_UNITS_M[unit], unit


def _contents(name: str, shape: Shape, kind: str, scale: float, *, closed: bool) -> dict[str, bytes]:
    """The files of one head, by name."""
    vertices, faces = (scale * shape.vertices_m.astype(np.float64)).astype(np.float32), shape.faces
    colours = shape.colours
    if colours is None and shape.texture is not None and shape.uv is not None:
        colours = texture_colours(shape.texture, shape.uv)
    spread = {} if shape.uncertainty_mm is None else {"uncertainty": shape.uncertainty_mm.astype(np.float32)}
    if kind == "stl":
        return {f"{name}.stl": stl_bytes(*(lidded(vertices, faces) if closed else (vertices, faces)))}
    if kind == "ply":
        return {f"{name}.ply": ply_bytes(vertices, faces, colours, spread)}
    if kind == "obj":
        return obj_files(name, vertices, faces, colours, shape.uv, shape.texture)
    if kind == "npz":
        arrays = {"vertices": vertices, "faces": faces.astype(np.int32)}
        arrays |= {} if colours is None else {"colours": colours}
        arrays |= {} if shape.uv is None else {"uv": shape.uv.astype(np.float32)}
        arrays |= {} if shape.texture is None else {"texture": shape.texture}
        return {f"{name}.npz": npz_bytes(arrays | spread)}
    skin = None
    if shape.texture is not None and shape.uv is not None:
        none = np.zeros(len(vertices), np.float32)
        skin = Skin(shape.uv, shape.texture, none if shape.uncertainty_mm is None else shape.uncertainty_mm)
    colours = np.broadcast_to(CLAY, vertices.shape) if colours is None else colours
    return {f"{name}.glb": glb_bytes(vertices, faces, colours, skin=skin)}


def lidded(
    vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]
) -> tuple[Float[np.ndarray, "W 3"], Int[np.ndarray, "G 3"]]:
    """A mesh without openings: each closed by a fan about its middle, behind the vertices and triangles there are."""
    rim = boundary(faces)
    if not len(rim):
        return vertices, faces
    used, place = np.unique(rim, return_inverse=True)
    place = place.reshape(rim.shape)
    opening = pieces(np.column_stack([place, place[:, 1]]), len(used))
    middle = [vertices[used[opening == number]].mean(axis=0) for number in range(opening.max() + 1)]
    lids = np.column_stack([rim[:, ::-1], len(vertices) + opening[place[:, 0]]])
    return np.concatenate([vertices, middle]).astype(vertices.dtype), np.concatenate([faces, lids]).astype(faces.dtype)
