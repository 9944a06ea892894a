"""A photo → Observation."""

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Bool, Float, PRNGKeyArray, UInt8

from .._errors import InputError, spelt_out
from .._names import REGIONS
from .._suggest import nearest
from ..files import read_mask, read_photo
from ._detector import Which, observe_face
from ._landmarks68 import IBUG68_FROM_MEDIAPIPE
from ._mesh import refuse_other_meshes
from ._observation import Photo, PhotoObservation
from ._occluder import paint_occluder


def observe_photo(
    photo: str | Path | UInt8[np.ndarray, "H W 3"],
    *,
    mask: str | Path | Bool[np.ndarray, "H W"] | None = None,
    occlude: str = "none",
    key: PRNGKeyArray | None = None,
    face: Which | None = None,
) -> PhotoObservation:
    """Observation from a photo: its largest face, or `face`, 468 landmarks, and what hides them.

    `mask` (a picture whose white hides, or bool [H,W]) says where something already hides the face; `occlude` names a
    region of `REGIONS` over which an opaque occluder is painted first. Only that occluder's outline comes from the
    clean photo: everything else is detected anew on the painted one, as if it had been taken so. `key` draws the
    occluder (default: seed 0). Raises `InputError` for unreadable pictures, no face, or an unknown region.
    """
    source = spelt_out(Path(photo).name) if isinstance(photo, str | Path) else "photo"
    if isinstance(photo, str | Path):
        refuse_other_meshes(Path(photo))
    rgb = read_photo(photo) if isinstance(photo, str | Path) else np.asarray(photo)
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
        raise InputError(f"The picture has shape {rgb.shape} and type {rgb.dtype}; uint8 [height, width, 3] is needed.")
    hidden = np.zeros(rgb.shape[:2], bool)
    if mask is not None:
        hidden = (
            read_mask(mask, (rgb.shape[0], rgb.shape[1])) if isinstance(mask, str | Path) else np.asarray(mask, bool)
        )
        if hidden.shape != rgb.shape[:2]:
            raise InputError(f"The mask has shape {hidden.shape}, the picture {rgb.shape[:2]}; they must agree.")
    check_region(occlude)
    if occlude == "auto":
        raise InputError("Finding the occluder needs a fitted head; call `diverse3d.observe_photo`.")
    if occlude != "none":
        key = jax.random.key(0) if key is None else key
        clean = observe_face(rgb, face)
        clean68 = clean.landmarks.points_px[list(IBUG68_FROM_MEDIAPIPE)]
        rgb, painted = paint_occluder(rgb, clean68, occlude, key=key)
        hidden = hidden | painted
        if face is not None:  # where it was: with its face painted over, it may have another number
            left, top, right, bottom = clean.detection.box_px.tolist()
            face = ((left + right) / 2, (top + bottom) / 2)
    found = observe_face(rgb, face)
    seen = Photo(
        rgb=rgb,
        hidden=np.zeros_like(hidden),
        landmarks_px=found.landmarks.points_px,
        landmark_visible=np.ones(len(found.landmarks.points_px), bool),
        faces_found=found.faces_found,
        landmark_certainty=found.landmarks.score,
        boxes_px=found.boxes_px,
        face=found.number,
        face_chosen=face is not None,
    )
    notes = _mask_notes(hidden) if mask is not None and occlude == "none" else ()
    return with_mask(PhotoObservation(photo=seen, source=source, sha256="", notes=notes), hidden)


def _mask_notes(hidden: Bool[np.ndarray, "H W"]) -> tuple[str, ...]:
    """What to know of a mask that was given."""
    if not hidden.any():
        return ("The mask hides nothing: it is white that hides (or paint on a transparent picture).",)
    return ("The mask hides the whole picture.",) if hidden.all() else ()


def with_mask(
    seen: PhotoObservation,
    hidden: Bool[np.ndarray, "H W"],
    *,
    probability: Float[np.ndarray, "H W"] | None = None,
    certainty: float | None = None,
    face_hidden: float | None = None,
) -> PhotoObservation:
    """The observation of a photo with another mask; `probability`, `certainty` and `face_hidden` tell of one that was
    found in it."""
    column, row = np.floor(seen.photo.landmarks_px).astype(int).T
    height, width = hidden.shape
    # The detector guesses the landmarks of a face that the picture cuts off: nothing was seen where there is no pixel.
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    under = hidden[row.clip(0, height - 1), column.clip(0, width - 1)]
    photo = dataclasses.replace(
        seen.photo, hidden=hidden, landmark_visible=inside & ~under, hidden_probability=probability,
        certainty=certainty, face_hidden=face_hidden,
    )  # fmt: skip
    pixels = hashlib.sha256(photo.rgb.tobytes() + hidden.tobytes()).hexdigest()
    return dataclasses.replace(seen, photo=photo, sha256=pixels)


def together(seen: PhotoObservation, others: Sequence[PhotoObservation]) -> PhotoObservation:
    """A photo with others of the same person beside it."""
    hashes = "".join(one.sha256 for one in (seen, *others))
    notes = [f"{one.source}: {note}" for one in others for note in one.notes]
    return dataclasses.replace(
        seen, others=tuple(others), notes=(*seen.notes, *notes), sha256=hashlib.sha256(hashes.encode()).hexdigest()
    )


def check_region(occlude: str) -> None:
    """Raise `InputError` unless `occlude` is a region of `REGIONS`, `auto` or `none`."""
    if occlude not in (*REGIONS, "auto", "none"):
        raise InputError(f"There is no region '{occlude}'{nearest(occlude, (*REGIONS, 'auto', 'none'))}.")
