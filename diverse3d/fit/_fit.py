"""Stage 1 (Dey and Boddeti 2022, supplement, Algorithm 1): Observation → Fit."""

from typing import overload

import numpy as np

from ..head import HeadModel
from ..observe import MeshObservation, Observation, PhotoObservation
from ._config import FitConfig
from ._costs import smoothness_factor
from ._mesh import fit_mesh
from ._photo import fit_photo, landmark_head
from ._pixels import pixel_head
from ._possible import check_possible
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
    a photo is given, for a mesh that is no head in the head's own order of vertices, and where no possible head fits.
    """
    problem = prepare(problem) if isinstance(problem, HeadModel) else problem
    config = FitConfig() if config is None else config
    fitted: Fit
    if isinstance(seen, PhotoObservation):
        fitted = fit_photo(seen.photo, problem, config, [one.photo for one in seen.others])
    elif isinstance(seen, MeshObservation):
        fitted = fit_mesh(seen.mesh, problem, config, seen.source)
    else:
        raise TypeError("an observation is a photo's or a mesh's")
    check_possible(problem.head, np.asarray(fitted.vertices_m), seen.source)
    return fitted
