"""What experiments run on: heads whose truth is known, or a photo."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from ..head import HeadModel, sample_head
from ..head.population import split
from ..observe import Observation, observe_photo, simulate_mesh

_DRAWN_SEED = 3003


class Sight(NamedTuple):
    """A subject under an occluder."""

    seen: Observation
    """What methods are given."""
    noise: str | None
    """The noise that they are told to expect; None: what `complete` takes by itself."""
    truth_m: np.ndarray | None
    """The true head [V,3] in the observation's frame, where it is known."""


class TrueHead(NamedTuple):
    """A head whose truth is known."""

    truth_m: np.ndarray
    """Vertices [V,3] in metres, head frame."""

    def observe(self, head: HeadModel, occluder: str, setting: str, *, key: PRNGKeyArray) -> Sight:
        """A partial mesh of it; the same key gives the same occluder in every setting."""
        seen = simulate_mesh(self.truth_m, head, region=occluder, setting=setting, key=key)
        return Sight(seen, setting, self.truth_m)


class Pictured(NamedTuple):
    """A photo, behind which nobody knows the truth."""

    path: Path
    """The picture."""

    def observe(self, head: HeadModel, occluder: str, setting: str, *, key: PRNGKeyArray) -> Sight:
        """The photo with an occluder painted in."""
        del head, setting
        return Sight(observe_photo(self.path, occlude=occluder, key=key), None, None)


Subject = TrueHead | Pictured


def population_heads(count: int) -> list[Subject]:
    """The first heads of the population's test split."""
    return true_heads(np.asarray(split("test", count).vertices, np.float64))


def true_heads(truths_m: Sequence[np.ndarray] | np.ndarray) -> list[Subject]:
    """Heads [H,V,3] in metres as subjects."""
    return [TrueHead(np.asarray(truth, np.float64)) for truth in truths_m]


def drawn_heads(head: HeadModel, count: int) -> np.ndarray:
    """True heads [count,V,3] in metres from a head's own prior: nothing of them lies outside the head's span."""
    keys = [jax.random.fold_in(jax.random.key(_DRAWN_SEED), index) for index in range(count)]
    draw = jax.jit(lambda key: head(sample_head(head, key=key)))
    return np.stack([np.asarray(draw(key), np.float64) for key in keys])
