"""A raw scan of a face, turned anyhow, to whole heads: python examples/06_raw_scan.py OUT"""

import sys
from pathlib import Path

import jax
import numpy as np
import trimesh

import diverse3d as d3
from diverse3d.head import population

out = Path(sys.argv[1] if len(sys.argv) > 1 else "scan-out")
out.mkdir(exist_ok=True)

# A scanner in front of a test head: 15,000 points of what faces it, 0.2 mm of noise, in millimetres, anywhere.
head = d3.load_head()
truth = np.asarray(population.split("test", 3).vertices)[2]
mesh = trimesh.Trimesh(truth, head.faces, process=False)
mesh.update_faces(mesh.face_normals[:, 2] > 0.1)
points, _ = trimesh.sample.sample_surface(mesh, 15_000, seed=0)
points = 1e3 * points + 0.2 * np.random.default_rng(0).normal(size=points.shape)
turn = trimesh.transformations.euler_matrix(0.3, 1.9, -0.4)
turn[:3, 3] = 500.0, 0.0, 200.0
trimesh.PointCloud(trimesh.transform_points(points, turn)).export(out / "scan.ply")

# Your own scan goes in from here: any topology or none, PLY, OBJ, OFF, STL, GLB or glTF.
seen = d3.observe_scan(out / "scan.ply")
found = seen.registration
print(f"{found.verdict}: unit {found.unit}, {found.figures.residual_mm:.2f} mm off the registered head")

result = d3.complete(seen, n=8, method="posterior-support", key=jax.random.key(0))
print(f"{len(result.vertices)} heads; they differ by up to {result.uncertainty.max():.1f} mm where nothing was scanned")
result.export(out / "heads", "ply", force=True)
print(f"open {out / 'heads' / '00.ply'} beside {out / 'scan.ply'}: they lie in one place")
