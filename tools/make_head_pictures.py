"""Draw `docs/heads.png`: sixteen heads of the test split, each from the front and from the side."""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from diverse3d.files import read_safetensors
from diverse3d.head.population import split
from diverse3d.surface import Portrait

ROOT = Path(__file__).parents[1]
FRONT = Portrait(yaw=8, size_px=240, width_m=0.325, centre_m=(0.0, -0.008, -0.02))
SIDE = FRONT._replace(yaw=55)
COLUMNS = 4
TONES = np.array([[1.0, 1.0, 1.0], [0.88, 0.84, 0.80], [0.70, 0.60, 0.53], [0.54, 0.43, 0.36]])  # of the skin


def main() -> None:
    """Render all heads with the template's colours, in complexions from light to dark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "heads.png")
    parser.add_argument("--start", type=int, default=0, help="first head of the split")
    options = parser.parse_args()
    table = read_safetensors(ROOT / "diverse3d" / "assets" / "head.safetensors").arrays
    heads = np.asarray(split("test", 16, start=options.start).vertices, np.float64)
    eyes = np.concatenate([table[f"region/{side}_eyeball/vertices"] for side in ("left", "right")])
    tiles = []
    for i, vertices in enumerate(heads):
        colours = table["colours"].astype(np.float64) * TONES[(i * 7 // 3) % 4]
        colours[eyes] = table["colours"][eyes]
        shades = colours.astype(np.uint8)
        views = [view.render(vertices, table["faces"], shades, oversampling=3) for view in (FRONT, SIDE)]
        tiles.append(np.concatenate([view[:, 28:-28] for view in views], axis=1))
    rows = [np.concatenate(tiles[i : i + COLUMNS], axis=1) for i in range(0, len(tiles), COLUMNS)]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(rows)).save(options.out, optimize=True)


if __name__ == "__main__":
    main()
