"""What hides the face, found in the photo itself: fit and segmentation take turns (Li et al. 2023)."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float
from PIL import Image

from .._arrays import on_device
from ..fit import FitConfig, FitProblem
from ..observe import Photo
from ._compare import State, begin, compare, recolour
from ._features import SIDE, Comparison, channels, grey
from ._network import Segmenter, load_segmenter

UNSURE = 0.9
"""Certainty under which a user is told."""


class FoundOccluder(eqx.Module):
    """What hides the face of a photo."""

    hidden: Bool[np.ndarray, "H W"]
    """Pixels of the head that are hidden, by its own hair and clothes too; nothing is said of pixels beside it."""
    probability: Float[np.ndarray, "H W"]
    """How likely each is hidden, 0 to 1; 0 beside the head."""
    face: Bool[np.ndarray, "H W"]
    """Pixels that the fitted face would cover."""
    face_hidden: float = eqx.field(static=True)
    """What part of the face is hidden, 0 to 1."""
    certainty: float = eqx.field(static=True)
    """Mean probability of the likelier answer over the face, 0.5 to 1."""


def find_occluder(photo: Photo, problem: FitProblem, config: FitConfig | None = None) -> FoundOccluder:
    """Pixels where something hides the head (`photo.hidden` is known beforehand and stays out of it).

    Judged twice: beside the robust start's colours, then beside those of what was found visible (Li et al. 2023).
    Raises `InputError` for a head without landmarks or albedo.
    """
    config = FitConfig() if config is None else config
    state, segmenter = begin(photo, problem, config), load_segmenter()
    state = recolour(state, 1.0 - judge(compare(state), segmenter), config.weights)
    pair = compare(state)
    return _in_photo(photo, state, pair, judge(pair, segmenter))


def judge(pair: Comparison, segmenter: Segmenter) -> Float[np.ndarray, "S S"]:
    """How likely each pixel of the head is hidden; 0 beside it.

    With and without colours, and the mean of both log odds: coloured light and graded photos mislead the one, shadows
    the other.
    """
    dull = pair._replace(seen=grey(pair.seen), expected=grey(pair.expected))
    planes = on_device(np.stack([channels(pair), channels(dull)]), jnp.float32)
    return np.where(pair.head, np.asarray(_probability(segmenter, planes)), 0.0)


@eqx.filter_jit
def _probability(segmenter: Segmenter, planes: Float[Array, "2 S S C"]) -> Float[Array, "S S"]:
    return jax.nn.sigmoid(jnp.mean(jax.vmap(segmenter)(planes), axis=0))


def _in_photo(photo: Photo, state: State, pair: Comparison, probability: Float[np.ndarray, "S S"]) -> FoundOccluder:
    """The answer on the grid, carried to the photo's pixels."""
    height, width = photo.hidden.shape
    scale, corner = float(state.around.scale), np.asarray(state.around.corner_px, np.float64)
    # Grid cells a photo pixel: the grid is coarser than the crop.
    zoom = scale * SIDE / state.around.weight.shape[0]
    matrix = (zoom, 0.0, -zoom * corner[0], 0.0, zoom, -zoom * corner[1])

    def carried(plane: np.ndarray) -> np.ndarray:
        image = Image.fromarray(plane.astype(np.float32))
        return np.asarray(
            image.transform((width, height), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR), np.float64
        )

    head, face = (carried(plane.astype(np.float32)) >= 0.5 for plane in (pair.head, pair.face))
    likelier = np.maximum(probability, 1.0 - probability)[pair.face]
    spread = np.clip(carried(probability), 0.0, 1.0)
    return FoundOccluder(
        hidden=head & (spread >= 0.5),
        probability=spread,
        face=face,
        face_hidden=float((probability >= 0.5)[pair.face].mean()) if likelier.size else 0.0,
        certainty=float(likelier.mean()) if likelier.size else 0.5,
    )
