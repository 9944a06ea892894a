"""Settings of stage 1."""

from typing import Literal

import equinox as eqx

from ._costs import Weights
from ._landmarks import LandmarkNoiseName

Solver = Literal["lm", "sgd"]


class FitConfig(eqx.Module):
    """How stage 1 runs."""

    solver: Solver = eqx.field(static=True, default="lm")
    """`lm`: Levenberg–Marquardt. `sgd`: the paper's gradient descent (lr 5e-3, half for eyeball components), over
    landmarks or vertices and then over pixels; the colours that those start from are found by `lm` either way."""
    steps: int = eqx.field(static=True, default=60)
    """Budget of the solver. The rigid stage before it has a fifth as many, and so has, by gradient descent, each of the
    four rounds over pixels after it; by `lm` those are a few fixed steps. The paper's SGD runs 2000 in all."""
    tolerance: float = eqx.field(static=True, default=1e-2)
    """Relative change of unknowns and loss under which the solver stops."""
    vertex_sigma_mm: float = eqx.field(static=True, default=0.3)
    """Noise assumed on a partial mesh's visible vertices, in millimetres a coordinate."""
    landmark_noise: LandmarkNoiseName = eqx.field(static=True, default="learnt")
    """What a photo's landmarks are trusted by: `learnt`, errors as the detector makes them, shared by many points; or
    `independent`, each point for itself by `Weights.landmarks`, as published."""
    shape_from_pixels: bool = eqx.field(static=True, default=False)
    """Whether a photo's pixels move the shape too, as published, or tell skin and light alone. Seen face vertices of
    rendered scan-model people lie 2.05 instead of 2.10 mm off by it (ICT), for over six times the time."""
    weights: Weights = Weights()
    """Weights of the loss terms."""

    @property
    def part_steps(self) -> int:
        """Steps of the rigid stage, and of each of gradient descent's rounds over pixels."""
        return self.steps // 5
