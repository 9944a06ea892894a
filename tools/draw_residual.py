"""Draw `docs/residual.png`: mean head, a draw of identity, the same with the smooth residual, and how strong that is.

The last panel's colour is the residual's standard deviation, all three directions together, from white (0) to red.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from diverse3d.head import load_head
from diverse3d.surface import Portrait

ROOT = Path(__file__).parents[1]
VIEW = Portrait(yaw=25, size_px=300, width_m=0.33, centre_m=(0.0, -0.008, -0.02))
WEAK, STRONG = np.array([235.0, 235.0, 240.0]), np.array([190.0, 30.0, 30.0])


def main() -> None:
    """Render the four panels side by side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "residual.png")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    head = load_head(dtype=np.float32)
    mean, faces, colours = np.asarray(head.template_m), np.asarray(head.faces), np.asarray(head.colours)
    components = np.asarray(head.components_m).reshape(head.n_components, -1, 3)
    first = head.n_identity + head.n_expression
    rest = components[first : first + head.n_residual]
    drawn = np.random.default_rng(options.seed).standard_normal(head.n_components).astype(np.float32)
    person = mean + np.tensordot(drawn[: head.n_identity], components[: head.n_identity], 1)
    whole = person + np.tensordot(drawn[first : first + head.n_residual], rest, 1)
    deviation_mm = 1e3 * np.sqrt((rest**2).sum(axis=(0, 2)))
    share = (deviation_mm / np.percentile(deviation_mm, 99)).clip(0, 1)[:, None]
    heat = (WEAK + share * (STRONG - WEAK)).astype(np.uint8)
    panels = [VIEW.render(head_m, faces, colours, oversampling=3) for head_m in (mean, person, whole)]
    panels.append(VIEW.render(mean, faces, heat, oversampling=3, gloss=0.0))
    Image.fromarray(np.concatenate([panel[:, 10:-10] for panel in panels], axis=1)).save(options.out, optimize=True)
    face = np.asarray(head.regions["face"])
    spread = [deviation_mm[face].min(), np.median(deviation_mm[face]), deviation_mm[face].max()]
    print("residual's standard deviation on the face (least, median, most):", np.round(spread, 1), "mm")


if __name__ == "__main__":
    main()
