"""Smooth curves through points."""

import numpy as np
from jaxtyping import Float


def catmull_rom(corners: Float[np.ndarray, "k d"], steps: int, *, closed: bool = False) -> Float[np.ndarray, "s d"]:
    """`steps` points along the curve of Catmull and Rom (1974) through the corners, evenly in its parameter; a closed
    one returns to the first corner, which isn't repeated."""
    p = np.asarray(corners, np.float64)
    if closed:
        p = np.concatenate([p[-1:], p, p[:2]])
        at = np.linspace(0, len(p) - 3, steps, endpoint=False)
    else:
        p = np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
        at = np.linspace(0, len(p) - 3, steps)
    i = np.minimum(at.astype(int), len(p) - 4)
    t = (at - i)[:, None]
    a, b, c, d = (p[i + k] for k in range(4))
    return b + t * ((c - a) / 2 + t * (a - 2.5 * b + 2 * c - d / 2 + t * (d - a + 3 * (b - c)) / 2))
