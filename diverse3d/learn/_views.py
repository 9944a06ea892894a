"""What training hides of heads: the occluder regions as they fall on heads of the population."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, PRNGKeyArray

from ..head import HeadModel
from ..observe import REGIONS, occluded_vertices
from ..surface import facing_camera

RANDOM_SHARE = 0.4
"""Share of the views that hide a random region: the only one whose shape differs from view to view."""


def region_masks(
    head: HeadModel, heads_m: Float[np.ndarray, "S V 3"], count: int, *, front: bool = False, key: PRNGKeyArray
) -> tuple[Bool[np.ndarray, "M V"], list[str]]:
    """Hidden vertices of `count` views of random heads (metres) behind occluder regions in turn, with their names.

    `front` also hides what does not face the camera. No views for a head without landmarks, by which occluders are
    placed.
    """
    if head.landmarks68 is None:
        return np.zeros((0, head.n_vertices), bool), []
    named = [region for region in REGIONS if region != "random"]
    every = max(1, round(1.0 / RANDOM_SHARE))
    masks, names = [], []
    for number in range(count):
        turn, rest = divmod(number, every)
        region = "random" if rest == 0 else named[(turn * (every - 1) + rest - 1) % len(named)]
        pick_key, region_key = jax.random.split(jax.random.fold_in(key, number))
        vertices = np.asarray(heads_m[int(jax.random.randint(pick_key, (), 0, len(heads_m)))], np.float64)
        hidden = occluded_vertices(vertices, head, region, key=region_key)
        if front:
            hidden = hidden | ~np.asarray(facing_camera(jnp.asarray(vertices, head.dtype), head.faces))
        masks.append(hidden)
        names.append(region)
    return np.stack(masks), names
