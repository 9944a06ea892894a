"""Photo → the crop beside what the intact face should look like there."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from .._arrays import on_device
from ..fit import (
    CROP_PX,
    Crop,
    FitConfig,
    FitProblem,
    PhotoProblem,
    PixelUnknowns,
    Weights,
    colours_first,
    fit_colours,
    rendered,
    start_photo,
)
from ..observe import PERSON_SIDE, Photo, person_probability
from ._features import SIDE, Comparison, halved


class State(NamedTuple):
    """One photo on its way to a mask."""

    problem: PhotoProblem
    """The head, and the photo's landmarks."""
    crop: Crop
    """The photo around the face, at full weight."""
    unknowns: PixelUnknowns
    """Shape, skin and light so far."""
    person: Float[np.ndarray, "S S"]
    """How likely each cell of the grid shows a person, 0 to 1."""


def begin(photo: Photo, problem: FitProblem, config: FitConfig) -> State:
    """The landmark fit, with skin and light that explain most of the face."""
    photos, crop, start, _, _ = start_photo(photo, problem, config)
    # A square on which the crop is as fine as the grid.
    extent = CROP_PX / float(crop.scale)
    square = person_probability(
        photo.rgb, np.asarray(crop.corner_px, np.float64) + extent / 2, extent * PERSON_SIDE / SIDE
    )
    border = (PERSON_SIDE - SIDE) // 2
    person = square[border : border + SIDE, border : border + SIDE]
    return State(photos, crop, colours_first(photos, crop, start, config.weights), person)


def compare(state: State) -> Comparison:
    """What is seen beside what is expected."""
    picture = rendered(state.problem, state.crop, state.unknowns)
    inside = np.asarray(picture.inside, np.float64)
    covered = halved(inside)
    safe = np.maximum(covered, 1e-6)[..., None]
    face = covered >= 0.5
    # Means over the covered part of each pixel only.
    expected = halved(np.asarray(picture.tone, np.float64) * inside[..., None]) / safe
    place = halved(np.asarray(picture.place, np.float64) * inside[..., None]) / safe
    facing = halved(np.asarray(picture.facing, np.float64) * inside) / safe[..., 0]
    return Comparison(
        seen=halved(np.asarray(state.crop.tone, np.float64)),
        expected=np.where(face[..., None], expected, 0.0),
        face=face & (halved(np.asarray(state.crop.weight, np.float64)) > 0.5),
        place=np.where(face[..., None], place, 0.0),
        facing=np.where(face, facing, 0.0),
        person=state.person,
    )


def recolour(state: State, probability_seen: Float[np.ndarray, "S S"], weights: Weights) -> State:
    """Skin and light by those pixels that are thought seen; the shape stays, since it is only to be compared."""
    weight = np.repeat(np.repeat(probability_seen, 2, axis=0), 2, axis=1) * np.asarray(state.crop.weight)
    weighted = Crop(state.crop.tone, on_device(weight, state.crop.weight.dtype), state.crop.scale, state.crop.corner_px)
    return state._replace(unknowns=fit_colours(state.problem, weighted, state.unknowns, weights))
