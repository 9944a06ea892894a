"""What speaks for a registration and what against it."""

import dataclasses
from typing import Literal

Word = Literal["registered", "doubtful", "refused"]


@dataclasses.dataclass(frozen=True)
class Figures:
    """What a verdict rests on."""

    points: int
    """Points of the scan that were used."""
    residual_mm: float
    """How far they lie from the registered head, along the normal: a standard deviation, unmoved by outliers."""
    noise_mm: float
    """The scan's own noise, by how far points lie from their neighbours' plane."""
    explained_percent: float
    """Share of the scan's points about the face that lie on the registered head."""
    face_percent: float
    """Share of the face that the scan shows."""
    visible_vertices: int
    """Vertices with a partner."""
    landmarks_mm: float
    """Median distance of the landmarks from where the registered head has them."""
    surprise: float
    """How unusual the head is: mean square of what is known of its shape, 1 for the head's own people."""
    starts_mm: float
    """How far two registrations from different starts lie apart in the face."""
    misfit_mm: float
    """What no head follows, a standard deviation."""
    certainty: float
    """The face detector's, 0 to 1."""


_LIMITS = {
    "residual_mm": (1.0, 3.0, "the scan lies {:.1f} mm off the best head"),
    "landmarks_mm": (9.0, 20.0, "its landmarks lie {:.0f} mm off the best head's"),
    "surprise": (2.5, 9.0, "the best head is an impossible one ({:.1f} times as unusual as people are)"),
    "starts_mm": (2.0, 12.0, "two starts end {:.1f} mm apart"),
}
"""Above which each figure makes a registration doubtful, or refused."""

_LEAST_FACE = (25.0, 8.0)
_LEAST_EXPLAINED = (50.0, 20.0)


def judge(figures: Figures) -> tuple[Word, list[str]]:
    """The verdict, and what is wrong in words."""
    reasons, word = [], 0
    for name, (doubtful, refused, text) in _LIMITS.items():
        value = getattr(figures, name)
        if value > doubtful:
            reasons.append(text.format(value))
            word = max(word, 2 if value > refused else 1)
    if figures.face_percent < _LEAST_FACE[0]:
        reasons.append(f"it shows {figures.face_percent:.0f} % of the face")
        word = max(word, 2 if figures.face_percent < _LEAST_FACE[1] else 1)
    if figures.explained_percent < _LEAST_EXPLAINED[0]:
        reasons.append(f"{100 - figures.explained_percent:.0f} % of its points about the face lie on no head")
        word = max(word, 2 if figures.explained_percent < _LEAST_EXPLAINED[1] else 1)
    words: tuple[Word, Word, Word] = ("registered", "doubtful", "refused")
    return words[word], reasons
