"""What `score` reads: a folder of completions, ours or another tool's, a mesh to compare with, and what is visible."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from .._errors import InputError
from ..files import UNITS_M, Limits, lines_of, read_bytes, read_corners, read_npy, read_npz
from ..head import HeadModel
from ..observe._mesh import MESH_SUFFIXES, mesh_unit, read_mesh
from ._stored import read_completions

_UNITS = {metres: name for name, metres in UNITS_M.items()}

_SUFFIXES = (*MESH_SUFFIXES, ".stl")

_LONG_EDGES = 3.0
"""Times the head's own mean edge length: vertices in another order make edges that run all over the head."""


class Given(NamedTuple):
    """N completions, and what their folder says of them."""

    vertices: np.ndarray
    """float [N, V, 3], metres."""
    unit: str
    """Unit of the files."""
    visible: np.ndarray | None = None
    """bool [V], where the folder says it."""
    fit: np.ndarray | None = None
    """float32 [V, 3], the single best fit, in a result of ours."""
    held: np.ndarray | None = None
    """float [V, 3], what they are held to where visible, in a result of ours."""
    from_photo: bool = False
    """Whether they stand as a camera sees them."""


def read_given(folder: Path, head: HeadModel) -> Given:
    """The completions in a folder: a result's, also by its folder `meshes`, else of every mesh file in it.

    Raises `InputError` for a folder without meshes and for meshes that are damaged, not finite, in another topology
    than the head's, of no head's size, or of different units.
    """
    for result in (folder, folder.resolve().parent) if folder.resolve().name == "meshes" else (folder,):
        if (result / "completions.npz").is_file():
            return _read_result(result, head)
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES and path.is_file())
    # Of our meshes, exported or copied elsewhere, all but the fit are completions.
    if len(paths) > 1:
        paths = [path for path in paths if path.stem != "fit"]
    if not paths:
        raise InputError(f"{folder} holds no meshes: put the completions there as {', '.join(_SUFFIXES)} files.")
    limits = Limits.from_environment()
    sets: list[np.ndarray] = []
    units: dict[float, Path] = {}
    for path in paths:
        vertices = _vertices(path, head)
        vertices = vertices[None] if vertices.ndim == 2 else vertices
        if sets and vertices.ndim == 3 and vertices.shape[1:] != sets[0].shape[1:]:
            raise InputError(
                f"{path} has {vertices.shape[1]} vertices, and {paths[0]} has {sets[0].shape[1]}: all completions must "
                "be in one topology."
            )
        sets.append(_checked(vertices, path, head, units))
        if sum(part.nbytes for part in sets) > limits.result_bytes:
            raise limits.exceeded("result_bytes", f"The meshes in {folder} hold more")
    if len(units) > 1:
        (one, first), (other, second) = list(units.items())[:2]
        raise InputError(
            f"{first} is in {_UNITS[one]} and {second} in {_UNITS[other]}, by their size; give all in one unit."
        )
    return Given(np.concatenate(sets), _UNITS[next(iter(units))])


def read_head_mesh(path: Path, head: HeadModel) -> np.ndarray:
    """Vertices [V, 3] in metres of one mesh in the head's topology; raises `InputError` as `read_given` does."""
    vertices = _vertices(path, head)
    if vertices.ndim == 3 and len(vertices) != 1:
        raise InputError(f"{path} holds {len(vertices)} meshes; give one.")
    return _checked(vertices[None] if vertices.ndim == 2 else vertices, path, head, {})[0]


def read_visible(path: Path, head: HeadModel) -> np.ndarray:
    """Visible vertices, bool [V], from .npy, .npz (`visible`, or its one array) or text of their indices."""
    suffix = path.suffix.lower()
    if suffix not in (".npy", ".npz"):
        return _from_indices(path, head)
    if suffix == ".npy":
        values = read_npy(path)
    else:
        arrays = read_npz(path, limit="result_bytes")  # a result's completions.npz says it, too
        if "visible" not in arrays and len(arrays) != 1:
            raise InputError(f"{path} holds no array 'visible'.")
        values = arrays["visible"] if "visible" in arrays else next(iter(arrays.values()))
    if values.shape != (head.n_vertices,):
        raise InputError(
            f"{path} is of shape {values.shape}, but the head '{head.name}' has {head.n_vertices} vertices; give one "
            "true or false a vertex."
        )
    if not np.isin(values, (0, 1)).all():
        raise InputError(f"{path} holds values that are neither 0 nor 1; give one true or false a vertex.")
    return values.astype(bool)


def _from_indices(path: Path, head: HeadModel) -> np.ndarray:
    limits = Limits.from_environment()
    visible = np.zeros(head.n_vertices, bool)
    for line in lines_of(read_bytes(path, "text_bytes", limits), path, limits):
        for word in line.split(b"#")[0].split():
            if not word.isdigit() or len(word) > 9 or int(word) >= head.n_vertices:
                raise InputError(
                    f"{path} holds {word.decode('latin-1')[:20]!r}, which is no index of a vertex from 0 to "
                    f"{head.n_vertices - 1}; give the indices of the visible ones."
                )
            if visible[int(word)]:
                raise InputError(
                    f"{path} names vertex {int(word)} twice; give the index of each visible vertex once, or one 0/1 a "
                    "vertex as .npy."
                )
            visible[int(word)] = True
    return visible


def _vertices(path: Path, head: HeadModel) -> np.ndarray:
    """Vertices as a file orders them; of STL, which has none but corners, by the head's triangles in their order."""
    if path.suffix.lower() != ".stl":
        return read_mesh(path)[0]
    corners, faces = read_corners(path), np.asarray(head.faces)
    vertices = np.full((head.n_vertices, 3), np.nan)
    if len(corners) >= len(faces):  # lids come after the head's own
        corners = corners[: len(faces)]
        vertices[faces] = corners
        if np.array_equal(vertices[faces], corners):
            return vertices
    raise InputError(
        f"{path} is no STL file of the head '{head.name}' with its {len(faces)} triangles in their order, and an STL "
        "file says no other order of vertices; give .ply, .obj, .glb or .npz."
    )


def _read_result(folder: Path, head: HeadModel) -> Given:
    """A result of ours, its arrays as they are stored, so that its figures are the record's to the last digit."""
    arrays = read_completions(folder)
    path = folder / "completions.npz"
    _check_topology(arrays["vertices"].shape[1], path, head)
    held = arrays["fit"]
    if (folder / "input.npz").is_file():
        given = read_npz(folder / "input.npz")
        # Results of older versions lack what they were held to; the input is that, but for rounding.
        held = given.get("held", given.get("vertices", np.zeros(0)))
        if held.shape != arrays["fit"].shape or held.dtype.kind != "f" or not np.isfinite(held).all():
            raise InputError(f"{folder / 'input.npz'} does not belong to the completions beside it.")
    return Given(
        vertices=arrays["vertices"],
        unit="metres",
        visible=arrays["visible"],
        fit=arrays["fit"],
        held=held,
        from_photo=(folder / "input.png").is_file(),
    )


def _check_topology(count: int, path: Path, head: HeadModel) -> None:
    if count != head.n_vertices:
        raise InputError(
            f"{path} has {count} vertices, but the head '{head.name}' has {head.n_vertices}: meshes must be in the "
            "head's topology, vertex for vertex; name another head with --head."
        )


def _checked(vertices: np.ndarray, path: Path, head: HeadModel, units: dict[float, Path]) -> np.ndarray:
    """Meshes [n, V, 3] in metres, found sound; the unit that they came in is noted."""
    if vertices.ndim != 3 or vertices.shape[2] != 3 or not len(vertices):
        raise InputError(f"{path} has vertices of shape {vertices.shape}; [meshes, {head.n_vertices}, 3] is needed.")
    _check_topology(vertices.shape[1], path, head)
    wrong = int((~np.isfinite(vertices)).any(2).sum())
    if wrong:
        raise InputError(f"{path} has {wrong} vertices that are not finite; a completion must be whole.")
    template, faces = np.asarray(head.template_m, np.float64), np.asarray(head.faces)
    every = np.ones(len(template), bool)
    longest = _LONG_EDGES * _mean_edge(template, faces)
    scaled = []
    for mesh in vertices:
        unit_m = mesh_unit(mesh, every, template, str(path))
        units.setdefault(unit_m, path)
        scaled.append(mesh * unit_m)
        if _mean_edge(scaled[-1], faces) > longest:
            raise InputError(
                f"The vertices of {path} are not in the order of the head '{head.name}': its triangles make no surface "
                "of them; give them in the head's order."
            )
    return np.stack(scaled)


def _mean_edge(vertices: np.ndarray, faces: np.ndarray) -> float:
    edges = vertices[faces] - vertices[np.roll(faces, 1, axis=1)]
    return float(np.linalg.norm(edges, axis=2).mean())
