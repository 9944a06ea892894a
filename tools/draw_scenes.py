"""Draw a contact sheet of rendered scenes, plain and with their masks: what `scenes` makes."""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from scenes import OCCLUDERS, Scene, scenes


def overlaid(scene: Scene) -> np.ndarray:
    """The photo with the face tinted green, what hides red, and the landmarks dotted."""
    picture = scene.rgb.astype(np.float64)
    for mask, colour in ((scene.face & ~scene.hidden, (60, 220, 90)), (scene.hidden, (230, 60, 50))):
        picture[mask] = 0.6 * picture[mask] + 0.4 * np.array(colour)
    last = np.array(scene.hidden.shape[::-1]) - 2
    for column, row in np.floor(scene.landmarks68_px).astype(int).clip(0, last):
        picture[row : row + 2, column : column + 2] = (255, 255, 0)
    return picture.astype(np.uint8)


def main() -> None:
    """Two blocks of tiles, the second with masks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--start", type=int, default=0, help="first scene of the split")
    parser.add_argument("--split", default="train")
    parser.add_argument("--columns", type=int, default=6)
    parser.add_argument("--occluder", action="append", choices=OCCLUDERS, help="only these")
    parser.add_argument("--background", type=Path, action="append", default=[], help="photos to stand before")
    options = parser.parse_args()
    photos = [np.asarray(Image.open(path).convert("RGB")) for path in options.background]
    drawn = list(
        scenes(options.split, options.count, options.start, backgrounds=photos,
               occluders=tuple(options.occluder or OCCLUDERS))
    )  # fmt: skip
    for suffix, tiles in (("", [s.rgb for s in drawn]), ("-masks", [overlaid(s) for s in drawn])):
        tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % options.columns)
        rows = [np.concatenate(tiles[i : i + options.columns], 1) for i in range(0, len(tiles), options.columns)]
        Image.fromarray(np.concatenate(rows)).save(options.out.with_stem(options.out.stem + suffix))


if __name__ == "__main__":
    main()
