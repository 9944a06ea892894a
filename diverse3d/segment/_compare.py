"""Photo → the crop beside what the intact head should look like there."""

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
    PixelHead,
    PixelUnknowns,
    Weights,
    colours_first,
    crop_face,
    fit_colours,
    pixel_head,
    rendered,
    start_photo,
)
from ..observe import PERSON_SIDE, Photo, person_probability
from ._features import SIDE, Comparison, halved


class State(NamedTuple):
    """One photo on its way to a mask."""

    problem: PhotoProblem
    """The face, and the photo's landmarks."""
    whole: PixelHead
    """The head."""
    crop: Crop
    """The photo around the face."""
    around: Crop
    """More of the photo, equally fine."""
    unknowns: PixelUnknowns
    """Shape, skin and light so far."""
    person: Float[np.ndarray, "S S"]
    """How likely each cell of the grid shows a person, 0 to 1."""


def begin(photo: Photo, problem: FitProblem, config: FitConfig) -> State:
    """The landmark fit, with skin and light that explain most of the face."""
    photos, crop, start = start_photo(photo, problem, config)
    around, whole = crop_face(photo, problem.head.dtype, 2 * SIDE), pixel_head(problem.head, whole=True)
    assert whole is not None  # start_photo refuses a head without albedo
    extent = 2 * SIDE / float(around.scale)
    square = person_probability(
        photo.rgb, np.asarray(around.corner_px, np.float64) + extent / 2, extent * PERSON_SIDE / SIDE
    )
    border = (PERSON_SIDE - SIDE) // 2
    person = square[border : border + SIDE, border : border + SIDE]
    return State(photos, whole, crop, around, colours_first(photos, crop, start, config.weights), person)


def compare(state: State) -> Comparison:
    """What is seen beside what is expected."""
    picture = rendered(state.problem._replace(pixels=state.whole), state.around, state.unknowns)
    inside = np.asarray(picture.inside, np.float64)
    covered = halved(inside)
    safe = np.maximum(covered, 1e-6)[..., None]
    head = (covered >= 0.5) & (halved(np.asarray(state.around.weight, np.float64)) > 0.5)

    def expected(plane: np.ndarray) -> np.ndarray:
        """Means over the covered part of each pixel only."""
        return np.where((covered >= 0.5)[..., None], halved(plane * inside[..., None]) / safe, 0.0)

    told = (picture.facing[..., None], picture.face[..., None])
    facing, face = (expected(np.asarray(plane, np.float64))[..., 0] for plane in told)
    return Comparison(
        seen=halved(np.asarray(state.around.tone, np.float64)),
        expected=expected(np.asarray(picture.tone, np.float64)),
        head=head,
        face=head & (face >= 0.5),
        place=expected(np.asarray(picture.place, np.float64)),
        facing=facing,
        person=state.person,
    )


def recolour(state: State, probability_seen: Float[np.ndarray, "S S"], weights: Weights) -> State:
    """Skin and light by those pixels that are thought seen; the shape stays, since it is only to be compared."""
    fine = np.repeat(np.repeat(probability_seen, 2, axis=0), 2, axis=1)
    # The crop's place among what is around it, to the nearest pixel.
    row, column = np.rint(float(state.crop.scale) * np.asarray(state.crop.corner_px - state.around.corner_px))[
        ::-1
    ].astype(int)
    weight = fine[row : row + CROP_PX, column : column + CROP_PX] * np.asarray(state.crop.weight)
    weighted = Crop(state.crop.tone, on_device(weight, state.crop.weight.dtype), state.crop.scale, state.crop.corner_px)
    return state._replace(unknowns=fit_colours(state.problem, weighted, state.unknowns, weights))
