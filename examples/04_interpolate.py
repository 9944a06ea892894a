"""From one completion of a photo to the one farthest from it: python examples/04_interpolate.py OUT"""

import sys
from pathlib import Path

import jax
import numpy as np

import diverse3d as d3

out = Path(sys.argv[1] if len(sys.argv) > 1 else "path-out")

seen = d3.observe_photo(d3.DEMO_PHOTO, occlude="face-mask")
result = d3.complete(seen, n=8, key=jax.random.key(0))

# The two that differ most.
heads = np.asarray(result.vertices).reshape(len(result.vertices), -1)
apart = np.linalg.norm(heads[:, None] - heads[None], axis=2)
i, j = (int(index) for index in np.unravel_index(apart.argmax(), apart.shape))

path = d3.interpolate(result, i, j, frames=5)
print(f"from completion {i} to {j}")
print(f"steps of {path.step_mm.mean():.2f} mm, the largest {path.largest_step:.2f} × the mean")
print(f"the visible part strays {path.visible_drift_mm.max():.3f} mm from what the two ends have there")
path.save(out, force=True)
print(f"open {out / 'path.gif'}, or {out / 'path.glb'} in a viewer that plays animations")
