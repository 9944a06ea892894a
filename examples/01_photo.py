"""Twenty heads for a photo whose lower face is covered: python examples/01_photo.py OUT"""

import sys
from pathlib import Path

import jax

import diverse3d as d3

out = Path(sys.argv[1] if len(sys.argv) > 1 else "photo-out")

# The bundled photo; an occluder is painted over mouth and nose. For your own photo with a real occluder, leave
# `occlude` out, and it is looked for; or give a picture whose white hides: d3.observe_photo("me.jpg", mask="mask.png").
seen = d3.observe_photo(d3.DEMO_PHOTO, occlude="face-mask")

result = d3.complete(seen, n=20, key=jax.random.key(0))
print({name: round(value, 2) for name, value in result.metrics().items()})
result.save(out, force=True)
print(f"open {out / 'report.html'} and the meshes beside it")
