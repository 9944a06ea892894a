"""The same face by several methods of the table: python examples/03_compare_methods.py"""

import jax
import numpy as np

import diverse3d as d3
from diverse3d.head import population
from diverse3d.observe import simulate_mesh

head = d3.load_head()
truth = np.asarray(population.split("test", 2).vertices)[1]

# What a fit to a photo gives: front-facing, unhidden vertices, a millimetre off in smooth patches.
seen = simulate_mesh(truth, head, region="face-mask", setting="realistic", key=jax.random.key(0))

print(f"{'method':>17} {'ASD-O':>7} {'CSE-O':>7} {'energy':>7} {'visible':>7}  mm")
# The published method, vae-dpp, takes most of a minute.
METHODS = ("map", "posterior", "posterior-dpp", "posterior-support", "hybrid-dpp", "hybrid-support", "vae")
for method in METHODS:
    result = d3.complete(seen, head=head, n=16, method=method, noise="realistic", key=jax.random.key(1))
    m = result.metrics(truth=truth)
    figures = (m["asd_o"], m["cse_occluded"], m["energy_score"], m["visible_error"])
    print(f"{method:>17} " + " ".join(f"{figure:7.2f}" for figure in figures))
