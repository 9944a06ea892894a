"""A head of one's own, from registered meshes to completions: python examples/07_own_head.py OUT"""

import sys
from pathlib import Path

import jax
import numpy as np
from safetensors.numpy import save_file

import diverse3d as d3
from diverse3d.head import population
from diverse3d.observe import occluded_vertices

out = Path(sys.argv[1] if len(sys.argv) > 1 else "own-head-out")
out.mkdir(exist_ok=True)

# Meshes of one topology, [people, vertices, 3] in metres, y up and the face along z. Yours go here; these are made up.
meshes = np.asarray(population.split("train", 200).vertices, np.float64)
faces = np.asarray(d3.load_head().faces)

# Their mean and principal components, each scaled to a standard deviation.
template = meshes.mean(axis=0)
spread = (meshes - template).reshape(len(meshes), -1)
_, size, directions = np.linalg.svd(spread, full_matrices=False)
count = 60
components = size[:count, None] / np.sqrt(len(meshes) - 1) * directions[:count]
arrays = {
    "template": template.astype(np.float32),
    "faces": faces.astype(np.int32),
    "identity_basis": components.reshape(count, *template.shape).astype(np.float32),
}
save_file(arrays, out / "own.safetensors", {"name": "own", "licence": "yours"})

# From here it is a head like any other: diverse3d complete … --head own.safetensors does the same. Sixty components
# never say all of a person, so what is seen may not be trusted to the tenth of a millimetre: the noise is `realistic`.
head = d3.load_head(out / "own.safetensors")
truth = np.asarray(population.split("test", 1).vertices)[0]
hidden = occluded_vertices(truth, d3.load_head(), "face-mask", key=jax.random.key(0))
seen = d3.observe_mesh(truth, head=head, hidden=hidden)
result = d3.complete(seen, head=head, n=8, method="posterior", key=jax.random.key(0), noise="realistic")
mean_mm = 1e3 * np.linalg.norm(truth - template, axis=1)[hidden].mean()
figures = result.metrics(truth=truth)
print(f"hidden part, mm off the truth: closest head {figures['cse_occluded']:.2f}, the bare mean {mean_mm:.2f}")
d3.write_mesh(out / "first.glb", result.vertices[0], head.faces)
print(f"open {out / 'first.glb'}")
