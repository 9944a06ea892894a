"""What a user should know before trusting a result, in words."""

import numpy as np

from .._optimise import RESULT_TEXT
from ..diversify import SAMPLE_TEXT, Completions
from ..fit import PICTURE_NOISE, Fit
from ..fit._order import tells_pose
from ..observe import MeshObservation, Observation, Photo, PhotoObservation
from ..register import Registration, ScanObservation
from ..segment import UNSURE

_MOSTLY_HIDDEN = 0.75
_UNSURE_LANDMARKS = 0.5
_WORTH_SAYING = 1.05
_PROFILE_DEG = 50.0
_SOME = 5


def warnings_of(seen: Observation, fit: Fit, result: Completions | None = None) -> list[str]:
    """What a user should know before trusting a result, one sentence each."""
    notes = list(seen.notes)
    notes += _photo_notes(seen.photo, fit) if isinstance(seen, PhotoObservation) else _mesh_notes(seen, fit)
    if isinstance(seen, ScanObservation):
        notes += scan_notes(seen.registration)
    visible = np.asarray(fit.visible)
    if not visible.any():
        notes.append("Nothing is visible: the completions are samples of the prior.")
    elif visible.all():
        notes.append("Nothing is hidden: the completions differ by noise alone.")
    if RESULT_TEXT[int(fit.report.result)].startswith("diverged"):
        notes.append("The fit diverged; its start was kept.")
    if result is not None:
        notes += _unusual(result)
        if result.pin is not None:
            what = ", ".join(result.pin.regions) or f"{int(result.pin.vertices.sum())} vertices"
            notes.append(f"Pinned in every head: {what} of completion {result.pin.index} of an earlier result.")
        codes = np.asarray(result.results)
        for code in np.unique(codes[codes != 0]):
            count = int((codes == code).sum())
            notes.append(f"{count} of {len(codes)} completions: {SAMPLE_TEXT[int(code)]}.")
    return notes


def scan_notes(registration: Registration) -> list[str]:
    """What to know of a registered scan."""
    notes = list(registration.notes)
    if registration.verdict != "registered":
        notes.append(f"The registration is doubtful: {'; '.join(registration.reasons)}. Look at it before you use it.")
    return notes


def _photo_notes(photo: Photo, fit: Fit) -> list[str]:
    """What a photo makes doubtful."""
    notes = []
    if photo.faces_found > 1:
        found, which = f"The picture shows {photo.faces_found} faces", f"number {photo.face} from the left, was taken"
        notes.append(
            f"{found}; the one asked for, {which} (see faces.png)."
            if photo.face_chosen
            else f"{found}; the largest, {which}: faces.png shows which is which, and --face N takes another."
        )
    if photo.certainty is not None and photo.hidden_probability is not None:
        part = 0.0 if photo.face_hidden is None else photo.face_hidden
        if photo.certainty < UNSURE:
            notes.append(
                f"What hides the face was found with little certainty ({100 * photo.certainty:.0f} %); look at "
                "occluder.png, and give --mask PNG if it is wrong."
            )
        if part > _MOSTLY_HIDDEN:
            notes.append(f"Some {100 * part:.0f} % of the face seems hidden; the fit rests on little.")
    if photo.landmark_certainty < _UNSURE_LANDMARKS:
        notes.append(
            f"The landmarks were found with little certainty ({100 * photo.landmark_certainty:.0f} %), so even "
            "the pose may be wrong: the face may be turned too far or hidden too much. Look at the contact sheet."
        )
    elif (turned := _turned_deg(fit)) > _PROFILE_DEG:
        notes.append(
            f"The face is turned by some {turned:.0f} degrees or more; of its far side, landmarks are guesses."
        )
    return notes


def _mesh_notes(seen: Observation, fit: Fit) -> list[str]:
    """What of a partial mesh was not believed."""
    if not isinstance(seen, MeshObservation):
        return []
    notes, visible = [], np.asarray(fit.visible)
    if len(left_out := np.flatnonzero(seen.mesh.visible & ~visible)):
        off_m = seen.mesh.vertices_m[left_out] - np.asarray(fit.to_world(fit.vertices_m), np.float64)[left_out]
        some = ", ".join(map(str, left_out[:_SOME])) + (", …" if len(left_out) > _SOME else "")
        notes.append(
            f"{len(left_out)} visible vertices lie up to {1e3 * np.linalg.norm(off_m, axis=1).max():.0f} mm from any "
            f"head that fits the others and were left out: {some}."
        )
    if visible.any() and not tells_pose(np.asarray(fit.vertices_m), visible):
        notes.append(
            "The visible vertices are too few, or too near a line or a spot, to tell how the head is turned: it stands "
            "upright in the mesh's own axes."
        )
    return notes


def _unusual(result: Completions) -> list[str]:
    """What the closed form found unlikely."""
    notes = []
    if result.prior_widening > _WORTH_SAYING:
        notes.append(
            f"The visible part is unusual: {result.prior_widening:.1f} times as far from the mean head as nearly all "
            "people are by the head's statistics; the completions vary that much more, and a trained model counts for "
            "less."
        )
    if result.noise_widening > _WORTH_SAYING and result.noise == PICTURE_NOISE:
        notes.append(
            f"The photo's landmarks lie {result.noise_widening:.1f} times as far from any likely head as the detector "
            "errs, so the completions follow them less firmly; is it one face, a grown person's, not too near the lens?"
        )
    elif result.noise_widening > _WORTH_SAYING:
        notes.append(
            f"The head misses the visible part by {result.noise_widening:.1f} times what the noise '{result.noise}' "
            "allows, so the completions are held to it less firmly; is it a head, in the head's own vertex order?"
        )
    return notes


def _turned_deg(fit: Fit) -> float:
    """How far the fitted face looks past the camera to one side."""
    forward = np.asarray(fit.turn, np.float64)[:, 2]
    return float(np.degrees(np.arctan2(abs(forward[0]), forward[2])))
