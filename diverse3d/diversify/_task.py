"""What a method works on."""

import math
from typing import NamedTuple

import equinox as eqx
from jaxtyping import Array, Float

from ..fit import Fit, SeenPixels
from ..head import HeadModel
from ._gaussian import Posterior
from ._hold import Hold
from ._learned import Learned


class Task(NamedTuple):
    """A fitted face and what is known of it; methods take from it what they need."""

    head: HeadModel
    """The head that the method works on."""
    fit: Fit
    """Stage 1's result with that head."""
    belief: Posterior | None
    """The closed-form posterior around the fit; None for methods that hold to the fit alone."""
    learned: Learned | None = None
    """The trained model, for methods that have one."""
    hold: Hold | None = None
    """What holds samples together where visible; None where the closed form's own agreement does."""
    pixels: SeenPixels | None = None
    """What a photo shows of the fit, for methods whose loss has the photometric term; None for a mesh."""


def latent_size(task: Task) -> int:
    """Numbers in a latent of the task's trained model; a residual model's has the posterior's noise beside it."""
    assert task.learned is not None, "the method needs a trained model"
    size = math.prod(task.learned.model.latent_shape)
    return size if task.belief is None or task.learned.is_masked else size + task.belief.mean.size


class Samples(eqx.Module):
    """What a method makes: heads in the fit's head frame, with their latents."""

    vertices_m: Float[Array, "N V 3"]
    """Vertices in metres, head frame."""
    latents: Float[Array, "N K"]
    """What the method varies: coefficients less their population mean, or a model's latents."""
