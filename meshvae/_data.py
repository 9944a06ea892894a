"""Training examples: from arrays of registered meshes, from a sampler that never ends, or from a folder."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import trimesh
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from ._errors import InputError
from ._loss import Corrector
from ._masks import draw_hidden

MESH_SUFFIXES = (".npz", ".npy", ".ply", ".obj")
MAX_FILE_BYTES = 2 << 30
"""Larger mesh files are refused."""


class Examples(eqx.Module):
    """A batch. Offsets are (vertices - template) / scale."""

    target: Float[Array, "B V 3"]
    """What is to be decoded: whole meshes; or what the truth has beyond `base`, in a unit of its own."""
    visible: Bool[Array, "B V"]
    """What is seen of each."""
    base: Float[Array, "B V 3"] | None = None
    """Residual model: offsets of the completions in closed form."""
    correction: Any = None
    """Residual model: what the source's `corrector` needs of each example, stacked."""


@runtime_checkable
class Source(Protocol):
    """Where examples come from; a pure function of the key, so that a run that was stopped goes on bit for bit."""

    @property
    def corrector(self) -> Corrector | None:
        """Residual model: what makes a residual agree with the visible part; None for whole meshes."""
        ...

    def examples(self, count: int, *, progress: float, key: PRNGKeyArray) -> Any:
        """A training batch, `Examples` for the mesh models; `progress` in 0 … 1 is how far training is."""
        ...

    def validation(self) -> list[Any]:
        """Fixed batches of one size, never trained on."""
        ...


class MeshSource(eqx.Module):
    """Masked examples of whole meshes, drawn from a sampler or from an array."""

    draw: Callable[[int, PRNGKeyArray], Float[Array, "B V 3"]]
    """(count, key) → offsets."""
    held_back: Float[np.ndarray, "S V 3"]
    """Offsets of the validation meshes."""
    template: Float[Array, "V 3"]
    """Template in units of the scale; where masks are drawn."""
    pool: Bool[Array, "M V"] = eqx.field(converter=jnp.asarray)
    """Hidden vertices of named masks; may be empty."""
    pool_share: float = 0.5
    """How often a named mask is used instead of a drawn shape."""
    batch: int = 16
    """Size of the validation batches."""

    @property
    def corrector(self) -> None:
        """Whole meshes need none."""
        return None

    def examples(self, count: int, *, progress: float, key: PRNGKeyArray) -> Examples:
        """Meshes from the sampler, each behind a mask of its own."""
        draw_key, mask_key = jax.random.split(key)
        offsets = self.draw(count, draw_key)
        at = jnp.asarray(progress, offsets.dtype)  # an array: a number would compile anew at every step
        return _masked(offsets, self.template, self.pool, at, self.pool_share, mask_key)

    def validation(self) -> list[Examples]:
        """The held-back meshes behind fixed masks of full size; what does not fill a batch is left out."""
        batches = []
        for number in range(len(self.held_back) // self.batch):
            rows = self.held_back[number * self.batch : (number + 1) * self.batch]
            offsets, key = jnp.asarray(rows, self.template.dtype), jax.random.fold_in(jax.random.key(0), number)
            at = jnp.ones((), offsets.dtype)
            batches.append(_masked(offsets, self.template, self.pool, at, self.pool_share, key))
        return batches


@eqx.filter_jit
def _masked(
    offsets: Float[Array, "B V 3"],
    template: Float[Array, "V 3"],
    pool: Bool[Array, "M V"],
    progress: Float[Array, ""],
    pool_share: float,
    key: PRNGKeyArray,
) -> Examples:
    def hidden(one: Float[Array, "V 3"], key: PRNGKeyArray) -> Bool[Array, " V"]:
        return draw_hidden(template + one, pool, progress=progress, pool_share=pool_share, key=key)

    return Examples(offsets, ~jax.vmap(hidden)(offsets, jax.random.split(key, len(offsets))))


def from_array(offsets: Float[np.ndarray, "S V 3"]) -> Callable[[int, PRNGKeyArray], Float[Array, "B V 3"]]:
    """A sampler that draws from an array with replacement."""

    def draw(count: int, key: PRNGKeyArray) -> Float[Array, "B V 3"]:
        return jnp.asarray(offsets[np.asarray(jax.random.randint(key, (count,), 0, len(offsets)))])

    return draw


def read_meshes(folder: Path, n_vertices: int) -> tuple[Float[np.ndarray, "S V 3"], list[str], list[str]]:
    """Registered meshes under a folder, with the subject and the expression of each.

    A file holds one mesh (.ply, .obj, or .npy / .npz `vertices` [V,3]) or many (.npy / .npz [S,V,3]). In CoMA's layout,
    `subject/expression/frame.ply`, the first two folders name subject and expression; elsewhere each file is a subject
    of its own. Raises `InputError` for an empty folder, another number of vertices, or values that are not finite.
    """
    folder = Path(folder)
    paths = (
        sorted(path for path in folder.rglob("*") if path.suffix.lower() in MESH_SUFFIXES) if folder.is_dir() else []
    )
    if not paths:
        raise InputError(f"{folder} holds no mesh ({', '.join(MESH_SUFFIXES)}); name a folder of registered meshes.")
    meshes, subjects, expressions = [], [], []
    for path in paths:
        vertices = _read_vertices(path)
        if vertices.ndim != 3 or vertices.shape[1:] != (n_vertices, 3):
            raise InputError(
                f"{path} holds {'×'.join(map(str, vertices.shape[-2:]))} numbers where a mesh of {n_vertices} vertices "
                "is expected; use meshes in the template's topology."
            )
        if not np.isfinite(vertices).all():
            raise InputError(f"{path} holds vertices that are not finite; remove the file or repair it.")
        parts = path.relative_to(folder).parts
        meshes.append(vertices)
        subjects += [parts[0] if len(parts) > 1 else path.stem] * len(vertices)
        expressions += [parts[1] if len(parts) > 2 else ""] * len(vertices)
    return np.concatenate(meshes), subjects, expressions


def _read_vertices(path: Path) -> Float[np.ndarray, "S V 3"] | np.ndarray:
    if path.stat().st_size > MAX_FILE_BYTES:
        raise InputError(f"{path} is larger than {MAX_FILE_BYTES >> 20} MB; split it into smaller files.")
    try:
        if path.suffix.lower() == ".npy":
            array = np.load(path, allow_pickle=False)
        elif path.suffix.lower() == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                if "vertices" not in arrays:
                    raise InputError(f"{path} holds no array named 'vertices'.")
                array = arrays["vertices"]
        else:
            array = read_mesh(path)[0]
    except InputError:
        raise
    except Exception as error:  # three parsers on files from anywhere: whatever they raise, the file is at fault
        raise InputError(
            f"{path} can't be read as a mesh ({type(error).__name__}); remove the file or repair it."
        ) from error
    if array.dtype.kind not in "fiu":
        raise InputError(f"{path} holds {array.dtype} where numbers are expected.")
    return (array[None] if array.ndim == 2 else array).astype(np.float32)


def read_mesh(path: Path) -> tuple[Float[np.ndarray, "V 3"], Int[np.ndarray, "F 3"]]:
    """Vertices and triangles of one mesh file, in the file's order; nothing that the file refers to is opened.

    Raises `InputError` when it can't be read.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; name a mesh.")
    try:
        kind = path.suffix.lower().removeprefix(".")
        mesh = trimesh.load_mesh(io.BytesIO(path.read_bytes()), file_type=kind, process=False, maintain_order=True)
        return np.asarray(mesh.vertices, np.float64), np.asarray(mesh.faces, np.int32)
    except Exception as error:  # a parser on a file from anywhere: whatever it raises, the file is at fault
        raise InputError(f"{path} can't be read as a mesh ({type(error).__name__}); repair or replace it.") from error


def split_by_subject(
    subjects: list[str], expressions: list[str], *, share: float = 0.1, by: str = "subject", seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Indices to train on and to hold back, such that no subject (or no expression) is in both.

    Raises `InputError` when there is only one.
    """
    if by not in ("subject", "expression"):
        raise InputError(f"Meshes can't be split by '{by}'; use 'subject' or 'expression'.")
    names = subjects if by == "subject" else expressions
    known = sorted(set(names))
    if len(known) < 2:
        raise InputError(f"All meshes are of one {by}, so none can be held back; add another, or split otherwise.")
    order = np.random.default_rng(seed).permutation(len(known))
    held = {known[i] for i in order[: max(1, round(share * len(known)))]}
    back = np.array([name in held for name in names])
    return np.flatnonzero(~back), np.flatnonzero(back)
