"""A partial mesh in the head's topology → Observation."""

import hashlib
import warnings
from array import array
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from jaxtyping import Bool

from .. import files
from .._errors import InputError, spelt_out
from ..files import Limits, first_mark, lines_of, read_bytes, read_npy, read_npz, unit_by_size, visible_by
from ..head import HeadModel, load_head
from ._observation import MeshObservation, PartialMesh, SurfaceNoise

MESH_SUFFIXES = (".ply", ".obj", ".off", ".glb", ".gltf", ".npz")
"""Mesh files that keep the order of vertices; `.npz` holds `vertices` [V,3] and perhaps `visible` [V]."""

_OTHER_SUFFIXES = (".stl", ".3mf", ".3ds", ".dae", ".fbx", ".blend", ".usdz", ".usd", ".vtk", ".vtp", ".wrl", ".x3d")
_LARGEST = 1e12

_FEWEST_MISSING, _APART_M = 3, 0.005
_FARTHEST_M = 1000.0


def observe_mesh(
    mesh: Any,
    *,
    head: HeadModel | None = None,
    hidden: np.ndarray | str | Path | None = None,
    visible: np.ndarray | None = None,
    hidden_file: str | Path | None = None,
) -> MeshObservation:
    """Observation from a partial mesh in the head's topology.

    `mesh` is a path (one of `MESH_SUFFIXES`: files that keep the order of vertices), a `trimesh.Trimesh`, or an array
    of vertices [V,3]; `head` is the embedded one if none is given.
    Hidden vertices are marked by `hidden`, an array or a file (.npy, .npz or text) with one 0/1 a vertex, 1 hides, as
    for `--mask`; by a vertex attribute called visible, hidden, occluded or mask; or by NaN coordinates. Vertices that
    all lie in one spot, as programs write those that they lack, count as hidden, which `notes` says. Units from metres
    to millimetres are recognised by size. `visible` (the opposite sense) and `hidden_file` are former names, still
    taken with a warning.

    Raises `InputError` for another vertex count, no faces, marks other than 0 and 1, NaN in a visible vertex, a size
    that is no head's, more than a kilometre from the origin, and files that are damaged or beyond the limits
    (docs/limits.md).
    """
    head = load_head() if head is None else head
    hidden = _former_names(hidden, visible, hidden_file)
    source = "mesh"
    marks: np.ndarray | None = None
    arrays: dict[str, np.ndarray] = {}
    if isinstance(mesh, str | Path) and Path(mesh).suffix.lower() == ".npz":
        source = spelt_out(Path(mesh).name)
        arrays = read_npz(Path(mesh))
        vertices, marks = _of_arrays(arrays, Path(mesh))
    elif isinstance(mesh, str | Path):
        source = spelt_out(Path(mesh).name)
        vertices, marks = read_mesh(Path(mesh))
    elif isinstance(mesh, trimesh.Trimesh):
        vertices, marks = _from_trimesh(mesh, source)
    else:
        vertices = _numbers(mesh, source)
    if vertices.ndim != 2 or vertices.shape[1] != 3:
        raise InputError(f"{source} has vertices of shape {vertices.shape}; [{head.n_vertices}, 3] is needed.")
    if vertices.shape[0] != head.n_vertices:
        raise InputError(
            f"{source} has {vertices.shape[0]} vertices, but the head '{head.name}' has {head.n_vertices}, and a mesh "
            "is completed in its head's own topology, vertex for vertex: name the head that it is made of with --head "
            "FILE, or register it as a scan: diverse3d register FILE (a second object in the file counts too)."
        )
    if hidden is not None:
        marks = ~_flags(*_given(hidden), head.n_vertices)
    elif marks is not None:
        marks = _flags(marks, f"the visibility in {source}", head.n_vertices)
    finite = np.isfinite(vertices).all(1)
    if marks is None:
        marks = finite
    elif not finite[marks].all():
        count = int((~finite[marks]).sum())
        raise InputError(
            f"{source} has {count} vertices marked visible that are not finite; mark them hidden or mend them."
        )
    template_m, notes = np.asarray(head.template_m, np.float64), []
    missing = marks & _in_one_spot(vertices, marks, template_m)
    if missing.any():
        marks = marks & ~missing
        x, y, z = vertices[missing][0]
        notes.append(
            f"{missing.sum()} vertices all lie at ({x:.6g}, {y:.6g}, {z:.6g}): they count as missing, and so as hidden."
        )
    kept = np.where(marks[:, None], vertices, 0.0)
    noise = _noise_in(arrays, str(mesh), head.n_vertices) if arrays else None
    unit_m = mesh_unit(kept, marks, template_m, source)
    check_place(unit_m * kept[marks], source)
    digest = hashlib.sha256(kept.tobytes() + marks.tobytes()).hexdigest()
    return MeshObservation(
        mesh=PartialMesh(vertices_m=kept * unit_m, visible=marks, unit_m=unit_m, noise=noise),
        source=source,
        sha256=digest,
        notes=tuple(notes),
    )


def mesh_unit(vertices: np.ndarray, visible: np.ndarray, template_m: np.ndarray, source: str) -> float:
    """Metres a unit, by comparing the visible part's size with the template's: medians, which outliers can't move."""
    if visible.sum() < 2:
        return 1.0
    size = _spread(vertices[visible])
    if not 0 < size < _LARGEST:
        if visible.sum() < 4:  # two or three in one spot say where the head is, and nothing of its unit
            return 1.0
        where = "in one point" if size == 0 else "impossibly far apart"
        raise InputError(f"{source}: all visible vertices lie {where}; give a mesh of a head.")
    size_m = _spread(template_m[visible])
    # The distance of two neighbours varies more among people than the size of a head.
    unit = unit_by_size(size, size_m, within=2.0 if visible.sum() >= 4 else 3.0)
    if unit is None:
        raise InputError(
            f"{source}: the visible part is {size / size_m:.3g} times the size of a head in metres; "
            "give it in metres, decimetres, centimetres or millimetres, and at its true size."
        )
    return unit[1]


def _noise_in(arrays: dict[str, np.ndarray], path: str, count: int) -> SurfaceNoise | None:
    """The noise that `register` stores beside a registered head's vertices; None where a file holds none."""
    shapes = {"normals": (count, 3), "along_m": (count,), "across_m": (count,)}
    if not set(shapes) <= set(arrays):
        return None
    parts = {name: _numbers(arrays[name], f"{path} ({name})") for name in shapes}
    for name, part in parts.items():
        if part.shape != shapes[name] or not np.isfinite(part).all() or (name != "normals" and not (part > 0).all()):
            raise InputError(f"{path} holds '{name}' that is no noise of {count} vertices; register the scan again.")
    length = np.linalg.norm(parts["normals"], axis=1)
    if not (np.abs(length - 1.0) < 1e-3).all():
        raise InputError(f"{path} holds 'normals' that are no unit vectors; register the scan again.")
    return SurfaceNoise(parts["normals"], parts["along_m"], parts["across_m"])


def _spread(points: np.ndarray) -> float:
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.median(np.sqrt(((points - np.median(points, 0)) ** 2).sum(1))))


def check_place(vertices_m: np.ndarray, source: str) -> None:
    """Raise `InputError` where single precision, in which results are stored, would round away what is seen."""
    far_m = float(np.abs(np.median(vertices_m, axis=0)).max()) if len(vertices_m) else 0.0
    if far_m > _FARTHEST_M:
        raise InputError(
            f"{source} lies {far_m:.3g} m from the origin, where single precision is coarser than a tenth of a "
            "millimetre; move it to the origin."
        )


def _in_one_spot(vertices: np.ndarray, marks: np.ndarray, template_m: np.ndarray) -> np.ndarray:
    """Visible vertices in the very same place though they lie apart on the head: a program's value for a missing one.

    Not where all of them do so, which is no partial mesh.
    """
    index = np.flatnonzero(marks)
    _, group, count = np.unique(vertices[index], axis=0, return_inverse=True, return_counts=True)
    missing = np.zeros(len(vertices), bool)
    for number in np.flatnonzero((count >= _FEWEST_MISSING) & (count < len(index))):
        alike = index[group.reshape(-1) == number]
        if _spread(template_m[alike]) > _APART_M:
            missing[alike] = True
    return missing


def _former_names(
    hidden: np.ndarray | str | Path | None, visible: np.ndarray | None, hidden_file: str | Path | None
) -> np.ndarray | str | Path | None:
    """`hidden`, also where it was given under a former name, of which a warning says so."""
    if (hidden is not None) + (visible is not None) + (hidden_file is not None) > 1:
        raise InputError("Hidden vertices were given more than once; give them by hidden= alone.")
    if visible is not None:
        text = "observe_mesh(visible=...) marks the opposite of a mask; give hidden=..., true where hidden"
        warnings.warn(text, DeprecationWarning, stacklevel=3)
        return ~_flags(visible, "the visibility given", np.size(visible))
    if hidden_file is not None:
        warnings.warn("observe_mesh(hidden_file=...) is now hidden=...", DeprecationWarning, stacklevel=3)
        return hidden_file
    return hidden


def refuse_other_meshes(path: Path) -> None:
    """Raise `InputError` for a mesh in a format that is not read."""
    if path.suffix.lower() in _OTHER_SUFFIXES:
        raise InputError(
            f"{path} is a mesh in a format that is not read: {', '.join(MESH_SUFFIXES)} are, since they keep the order "
            "of vertices; save it as one of them, its vertices in the head's order."
        )


def read_mesh(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Vertices of a mesh file, and which are visible if it says so."""
    limits, suffix = Limits.from_environment(), path.suffix.lower()
    if suffix == ".npz":
        return _of_arrays(read_npz(path, limits), path)
    refuse_other_meshes(path)
    if suffix not in MESH_SUFFIXES:
        raise InputError(f"{path} can't be read as a mesh by its name: give a {', '.join(MESH_SUFFIXES)} file.")
    mesh = files.read_mesh(path, limits)
    if not len(mesh.faces):
        raise InputError(f"{path} holds no faces; a mesh in the head's topology is needed.")
    return mesh.vertices, mesh.visible


def _of_arrays(arrays: dict[str, np.ndarray], path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    if "vertices" not in arrays:
        raise InputError(f"{path} holds no array 'vertices'.")
    return _numbers(arrays["vertices"], str(path)), arrays.get("visible")


def _numbers(values: Any, what: str) -> np.ndarray:
    try:
        with np.errstate(invalid="ignore"):
            return np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{what} holds values that are no numbers.") from None


def _given(hidden: Any) -> tuple[Any, str]:
    """Marks of hidden vertices, and what they are in messages."""
    if isinstance(hidden, str | Path):
        return _read_marks(Path(hidden)), str(hidden)
    return hidden, "what is given as hidden"


def _flags(values: Any, what: str, count: int) -> np.ndarray:
    """One 0/1 a vertex as booleans."""
    numbers = _numbers(values, what)
    if numbers.shape != (count,):
        raise InputError(
            f"{what} has {numbers.size} values of shape {numbers.shape}, but the head has {count} vertices; "
            "one 0/1 a vertex is needed."
        )
    wrong = numbers[(numbers != 0) & (numbers != 1)]
    if len(wrong):
        raise InputError(
            f"{what} holds {len(wrong)} values that are neither 0 nor 1, {wrong[0]:g} the first of them; give one "
            "0/1 a vertex."
        )
    return numbers == 1


def _from_trimesh(mesh: trimesh.Trimesh, source: str) -> tuple[np.ndarray, np.ndarray | None]:
    if len(mesh.faces) == 0:
        raise InputError(f"{source} holds no faces; a mesh in the head's topology is needed.")
    attributes: dict[str, Any] = dict(mesh.vertex_attributes)
    # Of a PLY file trimesh keeps what it doesn't know aside: a record array if binary, a dictionary if text.
    raw = mesh.metadata.get("_ply_raw", {}).get("vertex", {}).get("data", {})
    attributes.update({name: raw[name] for name in (raw if isinstance(raw, dict) else raw.dtype.names or ())})
    vertices = np.asarray(mesh.vertices, np.float64)
    mark = first_mark(name for name, values in attributes.items() if np.size(values) == len(vertices))
    return vertices, None if mark is None else visible_by(mark, np.asarray(attributes[mark]).reshape(-1))


def read_marks(path: Path, count: int) -> Bool[np.ndarray, " V"]:
    """A file of one 0/1 a vertex (.npy, .npz or text); raises `InputError` for any other."""
    return _flags(_read_marks(path), str(path), count)


def _read_marks(path: Path) -> np.ndarray:
    """The values of a mask file."""
    if not path.is_file():
        raise InputError(f"There is no mask file {path}.")
    limits, suffix = Limits.from_environment(), path.suffix.lower()
    if suffix == ".npy":
        return read_npy(path, limits)
    if suffix == ".npz":
        arrays = read_npz(path, limits)
        if len(arrays) != 1:
            raise InputError(f"{path} holds {len(arrays)} arrays; one array of 0/1 a vertex is needed.")
        return next(iter(arrays.values()))
    values = array("d")
    for line in lines_of(read_bytes(path, "text_bytes", limits), path, limits):
        try:
            values.extend(float(word) for word in line.split(b"#")[0].split())
        except ValueError:
            raise InputError(f"{path} can't be read as one 0/1 a vertex: it has the line {line[:40]!r}.") from None
        if len(values) > limits.mesh_elements:
            raise limits.exceeded("mesh_elements", f"{path} holds more values")
    return np.array(values)
