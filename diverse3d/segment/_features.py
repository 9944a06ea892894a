"""What is known of each pixel of a face crop: the photo, the expected face, and how they differ nearby and around.

Li et al. 2023 let a network see the photo and the reconstructed intact face; here the comparison is made for it, so
that very few weights do.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import uniform_filter

SIDE = 112
"""Side of the grid on which the mask is found."""

_NEIGHBOURHOOD = 5
_CONTEXTS = (7, 17, 37)
_BINS = 12
_EMPTY = 1e-3


class Comparison(NamedTuple):
    """A face crop and what the fitted face should look like there, on the tone scale, from 0 to 1."""

    seen: Float[np.ndarray, "H W 3"]
    """The photo."""
    expected: Float[np.ndarray, "H W 3"]
    """The intact face; zero outside."""
    face: Bool[np.ndarray, "H W"]
    """Pixels that the intact face would cover."""
    place: Float[np.ndarray, "H W 3"]
    """Where on the mean head each pixel lies, in inter-ocular distances from its origin; zero outside."""
    facing: Float[np.ndarray, "H W"]
    """How much the surface faces the camera, 0 to 1."""
    person: Float[np.ndarray, "H W"]
    """How likely each pixel shows a person at all, 0 to 1: where none is, no face is seen."""


def halved(image: Float[np.ndarray, "_ _ *c"]) -> Float[np.ndarray, "_ _ *c"]:
    """Means of two by two pixels."""
    height, width = (side // 2 * 2 for side in image.shape[:2])
    return image[:height, :width].reshape(height // 2, 2, width // 2, 2, *image.shape[2:]).mean(axis=(1, 3))


def tolerant_difference(
    seen: Float[np.ndarray, "H W 3"], expected: Float[np.ndarray, "H W 3"], face: Bool[np.ndarray, "H W"]
) -> Float[np.ndarray, "H W"]:
    """Least difference from expected colours around (Li et al. 2023, eq. 1): a little misplaced is not different."""
    reach = _NEIGHBOURHOOD // 2
    padded = np.pad(np.where(face[..., None], expected, np.inf), ((reach, reach), (reach, reach), (0, 0)), mode="edge")
    best = np.full(face.shape, np.inf)
    for down in range(_NEIGHBOURHOOD):
        for right in range(_NEIGHBOURHOOD):
            moved = padded[down : down + face.shape[0], right : right + face.shape[1]]
            best = np.minimum(best, ((seen - moved) ** 2).sum(axis=2))
    return np.sqrt(np.where(face & np.isfinite(best), best, 0.0))


def colour_odds(
    seen: Float[np.ndarray, "H W 3"], hidden: Float[np.ndarray, "H W"], face: Bool[np.ndarray, "H W"]
) -> Float[np.ndarray, "H W"]:
    """Log odds of each pixel's colour being that of what hides the face, by smoothed histograms.

    `hidden` is how likely each pixel is hidden, 0 to 1.
    """
    index = np.clip((seen * _BINS).astype(int), 0, _BINS - 1)
    flat = np.ravel_multi_index(tuple(np.moveaxis(index, 2, 0)), (_BINS,) * 3)

    def histogram(weight: np.ndarray) -> np.ndarray:
        counts = np.bincount(flat[face], weight[face], minlength=_BINS**3).reshape((_BINS,) * 3)
        smooth = uniform_filter(counts, 3, mode="constant")
        return (smooth + _EMPTY) / (smooth.sum() + _EMPTY * _BINS**3)

    odds = np.log(histogram(hidden) / histogram(1.0 - hidden)).reshape(-1)[flat]
    return np.where(face, np.clip(odds, -6.0, 6.0), 0.0)


def features(pair: Comparison, hidden: Float[np.ndarray, "H W"] | None = None) -> Float[np.ndarray, "n F"]:
    """A row of features for every pixel of `pair.face`; `hidden` is how likely each was hidden so far."""
    face, inside = pair.face, pair.face[..., None]
    difference = np.where(inside, pair.seen - pair.expected, 0.0)
    apart = np.sqrt((difference**2).sum(axis=2))
    tolerant = tolerant_difference(pair.seen, pair.expected, face)
    if hidden is None:
        # A first guess by the likelihood of the difference alone (Li et al. 2023, eq. 8-9).
        hidden = 1.0 / (1.0 + np.exp(-(tolerant - 0.15) / 0.03))
    odds = colour_odds(pair.seen, np.where(face, hidden, 0.0), face)
    grey = pair.seen.mean(axis=2)
    texture = np.sqrt(np.maximum(_around(grey**2, face, 5) - _around(grey, face, 5) ** 2, 0.0))
    expected_grey = pair.expected.mean(axis=2)
    detail = np.sqrt(np.maximum(_around(expected_grey**2, face, 5) - _around(expected_grey, face, 5) ** 2, 0.0))
    local = [
        *np.moveaxis(pair.seen, 2, 0), *np.moveaxis(pair.expected, 2, 0), *np.moveaxis(difference, 2, 0),
        apart, tolerant, odds, texture, detail, pair.facing, *np.moveaxis(pair.place, 2, 0),
        np.abs(pair.place[..., 0]),
    ]  # fmt: skip
    told = [*np.moveaxis(difference, 2, 0), apart, tolerant, odds, texture, hidden, *np.moveaxis(pair.seen, 2, 0)]
    context = [_around(plane, face, size) for size in _CONTEXTS for plane in told]
    whole = [np.full(face.shape, plane[face].mean() if face.any() else 0.0) for plane in (tolerant, odds, hidden, grey)]
    return np.stack([plane[face] for plane in (*local, *context, *whole)], axis=1).astype(np.float32)


def _around(plane: Float[np.ndarray, "H W"], face: Bool[np.ndarray, "H W"], size: int) -> Float[np.ndarray, "H W"]:
    """Mean over the part of a square around each pixel that lies in the face."""
    total = uniform_filter(face.astype(np.float64), size, mode="constant")
    return uniform_filter(np.where(face, plane, 0.0), size, mode="constant") / np.maximum(total, 1e-6)
