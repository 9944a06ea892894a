"""What hides the face, found in the photo itself: fit and segmentation take turns (Li et al. 2023)."""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float
from PIL import Image

from .._arrays import on_device
from ..fit import FitConfig, FitProblem
from ..observe import Photo
from ._compare import State, begin, compare, recolour
from ._cut import smooth_cut
from ._features import Comparison, features
from ._network import Segmenter, load_segmenter

ROUNDS = ("first", "again")
"""Which weights judge in each round: on the robust start, then on the fit to what was found visible."""

UNSURE = 0.9
"""Certainty under which a user is told."""

_STRENGTH, _CONTRAST = 1.5, 0.1

_LEAST_PERSON = 0.01
"""However sure the person network is, this much is left for its being wrong."""
_SUREST = 30.0
"""Log odds beyond which nothing changes."""


class FoundOccluder(eqx.Module):
    """What hides the face of a photo."""

    hidden: Bool[np.ndarray, "H W"]
    """Pixels of the face that are hidden; nothing is said of pixels beside it."""
    probability: Float[np.ndarray, "H W"]
    """How likely each is hidden, 0 to 1; 0 beside the face."""
    face: Bool[np.ndarray, "H W"]
    """Pixels that the fitted face would cover."""
    certainty: float = eqx.field(static=True)
    """Mean probability of the likelier answer over the face, 0.5 to 1."""


class Judgement(NamedTuple):
    """One round's answer on the grid."""

    pair: Comparison
    """What was compared."""
    odds: Float[np.ndarray, "S S"]
    """Log odds of being hidden."""
    hidden: Bool[np.ndarray, "S S"]
    """The hard mask."""

    @property
    def probability(self) -> Float[np.ndarray, "S S"]:
        """How likely each pixel of the face is hidden."""
        return 1.0 / (1.0 + np.exp(-self.odds))


def find_occluder(photo: Photo, problem: FitProblem, config: FitConfig | None = None) -> FoundOccluder:
    """Pixels where something hides the face (`photo.hidden` is known beforehand and stays out of it).

    Raises `InputError` for a head without landmarks or albedo.
    """
    config = FitConfig() if config is None else config
    state = begin(photo, problem, config)
    first, *others = ROUNDS
    answer = judge(compare(state), None, load_segmenter(first))
    for name in others:
        state = recolour(state, 1.0 - answer.probability, config.weights)
        answer = judge(compare(state), answer.probability, load_segmenter(name))
    return _in_photo(photo, state, answer)


def judge(pair: Comparison, hidden: Float[np.ndarray, "S S"] | None, segmenter: Segmenter) -> Judgement:
    """Log odds of every pixel of a comparison, and the hard mask; `hidden` is how likely each was so far."""
    rows = features(pair, hidden)
    # Padded to the whole grid, so that faces of every size run through one compiled program.
    padded = np.zeros((pair.face.size, rows.shape[1]), np.float32)
    padded[: len(rows)] = rows
    odds = np.zeros(pair.face.shape)
    odds[pair.face] = np.asarray(_odds(segmenter, on_device(padded, jnp.float32)), np.float64)[: len(rows)]
    odds[pair.face] = without_background(odds[pair.face], pair.person[pair.face])
    return Judgement(pair, odds, smooth_cut(odds, pair.seen, pair.face, strength=_STRENGTH, contrast=_CONTRAST))


def without_background(odds: Float[np.ndarray, " n"], person: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Log odds of the face's pixels being hidden once more: to be seen, one must be neither covered nor background.

    Where a face was detected there is a person: a network that sees none over most of it isn't asked.
    """
    if not len(person) or np.median(person) < 0.5:
        return odds
    seen = np.clip(person, _LEAST_PERSON, 1.0) / (1.0 + np.exp(np.clip(odds, -_SUREST, _SUREST)))
    return np.log1p(-seen) - np.log(seen)


@eqx.filter_jit
def _odds(segmenter: Segmenter, rows: Float[Array, "n F"]) -> Float[Array, " n"]:
    return segmenter(rows)


def _in_photo(photo: Photo, state: State, answer: Judgement) -> FoundOccluder:
    """The answer on the grid, carried to the photo's pixels."""
    height, width = photo.hidden.shape
    side = answer.hidden.shape[0]
    scale, corner = float(state.crop.scale), np.asarray(state.crop.corner_px, np.float64)
    # Grid cells a photo pixel: the grid is coarser than the crop.
    zoom = scale * side / state.crop.weight.shape[0]
    matrix = (zoom, 0.0, -zoom * corner[0], 0.0, zoom, -zoom * corner[1])

    def carried(plane: np.ndarray) -> np.ndarray:
        image = Image.fromarray(plane.astype(np.float32))
        return np.asarray(
            image.transform((width, height), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR), np.float64
        )

    face = carried(answer.pair.face.astype(np.float32)) >= 0.5
    probability = np.where(answer.pair.face, answer.probability, 0.0)
    likelier = np.maximum(probability, 1.0 - probability)[answer.pair.face]
    return FoundOccluder(
        hidden=face & (carried(answer.hidden) >= 0.5),
        probability=np.clip(carried(probability), 0.0, 1.0),
        face=face,
        certainty=float(likelier.mean()) if likelier.size else 0.5,
    )
