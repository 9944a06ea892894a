"""A picture for the docs: what was found to hide the bundled photo's face and rendered ones', tinted and outlined.

python -m tools.draw_occluders --out docs/occluders.jpg
"""

import argparse
from pathlib import Path

import jax
import numpy as np
from PIL import Image

import diverse3d as d3
from diverse3d.observe import IBUG68_FROM_MEDIAPIPE, Photo, observe_photo, paint_occluder
from diverse3d.show import occluder_overlay
from scenes import WORN, put_on, scenes

REGIONS = (None, "glasses", "face-mask", "mouth", "eyes", "random")
TILE = 220
SCENES = 12


def tile(photo: Photo) -> np.ndarray:
    """The overlay, cut to the face."""
    low, high = photo.landmarks_px.min(0), photo.landmarks_px.max(0)
    reach, (x, y) = 0.85 * float((high - low).max()), (low + high) / 2
    overlay = Image.fromarray(occluder_overlay(photo))
    box = (int(x - reach), int(y - 1.1 * reach), int(x + reach), int(y + 0.9 * reach))
    return np.asarray(overlay.crop(box).resize((TILE, TILE), Image.Resampling.LANCZOS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    problem = d3.prepare(d3.load_head())
    clean = observe_photo(d3.DEMO_PHOTO).photo
    points = clean.landmarks_px[list(IBUG68_FROM_MEDIAPIPE)]
    pictures = [
        clean.rgb if region is None else paint_occluder(clean.rgb, points, region, key=jax.random.key(1))[0]
        for region in REGIONS
    ]
    fitted = d3.fit(d3.observe_photo(clean.rgb, head=problem), problem)
    for occluder in WORN:
        pictures.append(put_on(clean.rgb, fitted, problem.head, occluder, key=jax.random.key(5))[0])
    for scene in scenes("test", SCENES, head=problem.head):
        pictures.append(scene.rgb)
    tiles = []
    for picture in pictures:
        try:
            seen = d3.observe_photo(picture, head=problem)
        except d3.InputError:
            continue
        tiles.append(tile(seen.photo))
    columns = len(REGIONS)
    tiles = tiles[: len(tiles) // columns * columns]
    rows = [np.concatenate(tiles[i : i + columns], axis=1) for i in range(0, len(tiles), columns)]
    Image.fromarray(np.concatenate(rows)).save(arguments.out, quality=88)


if __name__ == "__main__":
    main()
