"""Random numbers by name, and noise in space that a surface can be cut out of."""

import jax
import numpy as np
from jaxtyping import Float32, PRNGKeyArray
from scipy.ndimage import map_coordinates

_SIDE = 32
_STREAMS = ("setting", "light", "person", "hair", "occluder", "backdrop", "sensor")


def stream(key: PRNGKeyArray, name: str) -> np.random.Generator:
    """The generator of one aspect of a scene: what one aspect draws never shifts another."""
    words = np.asarray(jax.random.key_data(key)).ravel()
    return np.random.default_rng([_STREAMS.index(name), *(int(word) for word in words)])


class Noise:
    """Smooth noise of unit variance at its lattice points, periodic in space."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._lattice = rng.standard_normal((_SIDE,) * 3, dtype=np.float32)

    def __call__(self, points: Float32[np.ndarray, "n 3"], grain: float) -> Float32[np.ndarray, " n"]:
        """Values at points; lumps are `grain` wide, in the points' unit."""
        # The offset keeps different grains from sharing a zero.
        at = points.T.astype(np.float32) / np.float32(grain) + np.float32(7.3 * grain % 1.0)
        return map_coordinates(self._lattice, at, order=1, mode="grid-wrap", output=np.float32)


def blurred_noise(rng: np.random.Generator, shape_hw: tuple[int, int], grain_px: float) -> Float32[np.ndarray, "h w"]:
    """A picture of smooth noise of about unit size."""
    from PIL import Image

    height, width = shape_hw
    rows, columns = int(height / grain_px) + 3, int(width / grain_px) + 3
    coarse = Image.fromarray(rng.standard_normal((rows, columns), dtype=np.float32))
    box = (0.5, 0.5, 0.5 + width / grain_px, 0.5 + height / grain_px)
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC, box), np.float32)
