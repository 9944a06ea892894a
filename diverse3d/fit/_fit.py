"""Stage 1 (Dey and Boddeti 2022, supplement, Algorithm 1): Observation → Fit."""

from typing import overload

from ..head import HeadModel
from ..observe import MeshObservation, Observation, PhotoObservation
from ._config import FitConfig
from ._costs import smoothness_factor
from ._mesh import fit_mesh
from ._photo import fit_photo, landmark_head
from ._pixels import pixel_head
from ._types import Fit, FitProblem, MeshFit, PhotoFit


def prepare(head: HeadModel) -> FitProblem:
    """Precompute what every fit of a head needs."""
    return FitProblem(
        head=head, landmarks=landmark_head(head), smoothness=smoothness_factor(head), pixels=pixel_head(head)
    )


@overload
def fit(seen: PhotoObservation, problem: FitProblem | HeadModel, config: FitConfig | None = None) -> PhotoFit: ...
@overload
def fit(seen: MeshObservation, problem: FitProblem | HeadModel, config: FitConfig | None = None) -> MeshFit: ...
@overload
def fit(seen: Observation, problem: FitProblem | HeadModel, config: FitConfig | None = None) -> Fit: ...
def fit(seen: Observation, problem: FitProblem | HeadModel, config: FitConfig | None = None) -> Fit:
    """Fit a head to an observation (Dey and Boddeti 2022, supplement, Algorithm 1).

    A rigid stage comes first, then everything together. Raises `InputError` when the head carries no landmarks and
    a photo is given.
    """
    problem = prepare(problem) if isinstance(problem, HeadModel) else problem
    config = FitConfig() if config is None else config
    if isinstance(seen, PhotoObservation):
        return fit_photo(seen.photo, problem, config)
    if isinstance(seen, MeshObservation):
        return fit_mesh(seen.mesh, problem, config)
    raise TypeError("an observation is a photo's or a mesh's")
