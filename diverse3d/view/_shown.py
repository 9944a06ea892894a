"""What is looked at: heads and their skins, of a folder at once, or of a result in memory."""

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int

from .._errors import InputError
from ..files import Limits, read_bytes

if TYPE_CHECKING:
    from .._api import Result

Skins = Callable[[int | None], bytes | None]
"""A head by its number as GLB with the photo's skin, the fit by None; None where there is no skin."""


@dataclasses.dataclass(frozen=True, eq=False)
class Shown:
    """Heads to be looked at."""

    source: str
    """Name of the input."""
    method: str
    """How they were made."""
    vertices: Float[np.ndarray, "N V 3"]
    """Heads in metres, world frame."""
    faces: Int[np.ndarray, "F 3"]
    """Their triangles."""
    visible: Bool[np.ndarray, " V"]
    """Vertices that are seen."""
    fit: Float[np.ndarray, "V 3"]
    """The fit, metres."""
    spread_mm: Float[np.ndarray, " V"]
    """RMS spread of each vertex."""
    order: Int[np.ndarray, " N"]
    """Heads from the most central to the most unusual."""
    turn: Float[np.ndarray, "3 3"]
    """Rotation from the head's frame to the world."""
    shift_m: Float[np.ndarray, " 3"]
    """Translation likewise."""
    skins: Skins
    """The heads with their skins."""
    notes: tuple[str, ...]
    """What to know of them."""

    @classmethod
    def of(cls, result: "Result") -> "Shown":
        """A result in memory."""
        from ..show import Skin, glb_bytes, uncertainty_colours, warnings_of

        skins = result.textures()
        vertices, fitted = (np.asarray(part, np.float32) for part in (result.vertices, result.fit_vertices))
        faces, spread = np.asarray(result.faces, np.int32), result.uncertainty
        colours = uncertainty_colours(spread)

        def skin(index: int | None) -> bytes | None:
            if skins is None:
                return None
            head, picture = (fitted, skins.fit) if index is None else (vertices[index], skins.heads[index])
            return glb_bytes(head, faces, colours, skin=Skin(skins.uv, picture, spread), draft=True)

        return cls(
            source=result.seen.source,
            method=result.method,
            vertices=vertices,
            faces=faces,
            visible=np.asarray(result.visible),
            fit=fitted,
            spread_mm=spread.astype(np.float32),
            order=result.order,
            turn=np.asarray(result.fit.turn, np.float64),
            shift_m=np.asarray(result.fit.shift_m, np.float64),
            skins=skin,
            notes=tuple(warnings_of(result.seen, result.fit, result)),
        )


def read_shown(folder: Path, record: dict[str, Any], arrays: dict[str, np.ndarray]) -> Shown:
    """What a result's folder holds, without making anything again (`read_record`, `read_completions`).

    Raises `InputError` where a file is not as the record says it was written.
    """
    written = record.get("files")
    written = written if isinstance(written, dict) else {}
    limits = Limits.from_environment()

    def sound(name: str) -> bytes:
        content = read_bytes(folder / name, "result_bytes", limits)
        if hashlib.sha256(content).hexdigest() != written.get(name):
            raise InputError(
                f"{folder / name} is not as it was written: it is damaged or was changed; make the result again."
            )
        return content

    sound("completions.npz")
    faces, spread, order = (arrays.get(name, np.zeros(0)) for name in ("faces", "uncertainty", "order"))
    count, size = arrays["vertices"].shape[:2]
    try:
        pose = record["pose"]
        turn = np.asarray(pose["rotation_world_head"], np.float64).reshape(3, 3)
        shift = np.asarray(pose["translation_m"], np.float64).reshape(3)
        right = faces.ndim == 2 and faces.shape[1] == 3 and faces.dtype.kind == "i"
        right = right and faces.min() >= 0 and faces.max() < size and spread.shape == (size,)
        if not (right and sorted(order.tolist()) == list(range(count)) and np.isfinite([*turn.flat, *shift]).all()):
            raise ValueError
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{folder} does not hold the arrays of a result; make the result again.") from None
    notes = record.get("warnings")
    source = record.get("input")
    textured = (folder / "input.png").is_file()

    def skin(index: int | None) -> bytes | None:
        name = "meshes/fit.glb" if index is None else f"meshes/{index:02d}.glb"
        return sound(name) if textured and name in written else None

    return Shown(
        source=str(source.get("name", folder.name)) if isinstance(source, dict) else folder.name,
        method=str(record["configuration"]["method"]),
        vertices=arrays["vertices"].astype(np.float32),
        faces=faces.astype(np.int32),
        visible=arrays["visible"],
        fit=arrays["fit"].astype(np.float32),
        spread_mm=spread.astype(np.float32),
        order=order.astype(np.int32),
        turn=turn,
        shift_m=shift,
        skins=skin,
        notes=tuple(str(note) for note in notes) if isinstance(notes, list) else (),
    )
