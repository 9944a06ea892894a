"""What is known of each pixel around a face: the photo, the expected head, and whether a person is there.

Li et al. 2023 let a network see the photo and the reconstructed intact face; so does this one.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32

SIDE = 144
"""Side of the grid on which the mask is found."""
CHANNELS = 13
"""Planes that the network sees."""

_COLOURLESS = 0.02
_LUMA = np.array([0.2126, 0.7152, 0.0722])


class Comparison(NamedTuple):
    """A crop and what the fitted head should look like there, on the tone scale, from 0 to 1."""

    seen: Float[np.ndarray, "H W 3"]
    """The photo."""
    expected: Float[np.ndarray, "H W 3"]
    """The intact head; zero outside."""
    head: Bool[np.ndarray, "H W"]
    """Pixels of the photo that the intact head would cover."""
    face: Bool[np.ndarray, "H W"]
    """Those of them that its face would."""
    place: Float[np.ndarray, "H W 3"]
    """Where on the mean head each pixel lies, in inter-ocular distances from its origin; zero outside."""
    facing: Float[np.ndarray, "H W"]
    """How much the surface faces the camera, 0 to 1."""
    person: Float[np.ndarray, "H W"]
    """How likely each pixel shows a person at all, 0 to 1."""


def halved(image: Float[np.ndarray, "_ _ *c"]) -> Float[np.ndarray, "_ _ *c"]:
    """Means of two by two pixels."""
    height, width = (side // 2 * 2 for side in image.shape[:2])
    return image[:height, :width].reshape(height // 2, 2, width // 2, 2, *image.shape[2:]).mean(axis=(1, 3))


def colourless(seen: Float[np.ndarray, "H W 3"]) -> bool:
    """Whether a picture is grey, or tinted all alike: its colours lie on one curve from black to white.

    Each pixel's colour is compared with the mean colour of those as bright.
    """
    flat = seen.reshape(-1, 3)
    level = np.clip(flat @ _LUMA * 32, 0, 31).astype(int)
    count = np.maximum(np.bincount(level, minlength=32), 1)
    curve = np.stack([np.bincount(level, flat[:, k], 32) / count for k in range(3)], axis=1)
    left = flat - curve[level]
    # Differences of brightness within a level are no colour.
    left -= left.mean(axis=1, keepdims=True)
    return bool(np.sqrt((left**2).mean()) < _COLOURLESS / 3)


def grey(colours: Float[np.ndarray, "H W 3"]) -> Float[np.ndarray, "H W 3"]:
    """The same brightness without colour."""
    return np.repeat((colours @ _LUMA)[..., None], 3, axis=2)


def channels(pair: Comparison) -> Float32[np.ndarray, "H W C"]:
    """The `CHANNELS` planes of a comparison; a colourless picture is compared without colours."""
    seen, expected = pair.seen, pair.expected
    if colourless(seen):
        seen, expected = grey(seen), grey(expected)
    flags = (pair.head, pair.face, pair.facing, pair.person)
    return np.concatenate([seen, expected, pair.place, np.stack(flags, axis=2)], axis=2).astype(np.float32)
