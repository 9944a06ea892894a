"""Complete a partial mesh whose truth is known, and score the completions: python examples/02_partial_mesh.py"""

import jax
import numpy as np

import diverse3d as d3
from diverse3d.head import population
from diverse3d.observe import occluded_vertices

head = d3.load_head()
truth = np.asarray(population.split("test", 1).vertices)[0]

# Hide what lies behind a pair of glasses, seen from the front. NaN marks a vertex as missing.
hidden = occluded_vertices(truth, head, "glasses", key=jax.random.key(0))
partial = np.where(hidden[:, None], np.nan, truth)

result = d3.complete(d3.observe_mesh(partial, head=head), head=head, n=16, key=jax.random.key(1))
for name, value in result.metrics(truth=truth).items():
    print(f"{name:>14} {value:8.3f}")
print(f"the least certain vertex varies by {result.uncertainty.max():.1f} mm")
