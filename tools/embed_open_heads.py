"""Find where mediapipe's 468 points lie on an open head, for the tables that `head import` takes landmarks from.

`gnm` needs any head file that was imported from GNM Head 3, `ict` one from ICT-FaceKit Light; run this after the finder
or the painted colours have changed.
"""

import argparse
import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from diverse3d.embed import Shown, drawn_heads, find_landmarks, surface_of
from diverse3d.files import read_safetensors
from diverse3d.head import load_head, triangles_sha256, view_centre

from .embed_landmarks import TABLE, TONES, rows

OPENING = {"ict": ("jawOpen", 0.35), "gnm": None}


def main() -> None:
    """Show the head's template and heads drawn from it, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=sorted(OPENING))
    parser.add_argument("head", type=Path, help="head file with 68 landmarks, regions and colours")
    parser.add_argument("--heads", type=int, default=8)
    options = parser.parse_args()
    arrays, texts, _ = read_safetensors(options.head)
    names = texts.get("expression_names", "").split(", ")
    opening = None
    if OPENING[options.name] is not None:
        word, amount = OPENING[options.name]
        row = names.index(word)
        full = arrays["expression_basis"][row].astype(np.float64) * arrays["expression_scale"][row]
        opening = amount / 0.2 * full  # components are a fifth of the full activation
    mesh = surface_of(arrays, arrays["colours"], opening)
    shown = []
    for i, vertices in enumerate(drawn_heads(arrays, options.heads)):
        bright = (mesh.colours.max(axis=1) > 225)[:, None]
        colours = np.where(bright, mesh.colours, mesh.colours * TONES[i % len(TONES)]).astype(np.uint8)
        shown.append(Shown(vertices, colours, opening))
    points = np.asarray(load_head(options.head).landmarks68(jnp.asarray(arrays["template"])))
    found = find_landmarks(mesh, shown, centre_m=view_centre(points), progress=lambda text: print(text, flush=True))
    dense = [[int(i), *row] for i, row in zip(found.points, rows(found.corners, found.weights), strict=True)]
    text = ",\n".join(json.dumps(row) for row in dense), ",\n".join(json.dumps(row) for row in rows(*found.ibug68))
    out = TABLE.with_name(f"{options.name}-landmarks.json")
    out.write_text(
        f'{{"triangles_sha256": "{triangles_sha256(arrays["faces"])}",\n'
        f'"dense": [\n{text[0]}\n],\n"ibug68": [\n{text[1]}\n]}}\n',
        encoding="utf-8",
    )
    own = (mesh.template[found.ibug68[0]] * found.ibug68[1][:, :, None]).sum(axis=1)
    apart = 1e3 * np.linalg.norm(own - points, axis=1)
    print(
        f"{len(found.points)} points kept, spread median {1e3 * np.median(found.spread_m):.2f} mm; from the head's own "
        f"68: jaw {apart[:17].mean():.1f}, brows {apart[17:27].mean():.1f}, others {apart[27:].mean():.1f} mm"
    )


if __name__ == "__main__":
    main()
