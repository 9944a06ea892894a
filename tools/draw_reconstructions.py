"""Draw `docs/reconstructions.png`: six test heads behind occluders, rebuilt by the masked model, with the error map."""

import argparse
import functools
from pathlib import Path

import jax
import numpy as np
from PIL import Image, ImageDraw

from diverse3d.diversify import load_learned
from diverse3d.head import load_head
from diverse3d.head.population import split
from diverse3d.observe import occluded_vertices
from diverse3d.show import UNCERTAINTY_FULL_MM, View, font, frame_of, render_views, uncertainty_colours

ROOT = Path(__file__).parents[1]
REGIONS = ("glasses", "face-mask", "random", "mouth", "left-cheek", "centre")
TITLES = ("given", "rebuilt", "truth", f"error, 0 to {UNCERTAINTY_FULL_MM:g} mm")
HEIGHT, WIDTH, MARGIN, YAW = 300, 230, 120, 20.0


def main() -> None:
    """Draw a row for each head."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "reconstructions.png")
    parser.add_argument("--weights", type=Path, help="other weights than the package's")
    options = parser.parse_args()
    head = load_head()
    learned, faces = load_learned(head, "masked", options.weights), np.asarray(head.faces)
    heads = np.asarray(split("test", len(REGIONS)).vertices)
    run = jax.jit(lambda truth, visible: learned.decode(learned.encode(truth, visible).mean))
    rows = []
    for number, (truth, region) in enumerate(zip(heads, REGIONS, strict=True)):
        visible = ~occluded_vertices(truth.astype(np.float64), head, region, key=jax.random.key(number))
        made = np.asarray(run(truth, visible), np.float64)
        off_mm = 1e3 * np.linalg.norm(made - truth, axis=1)
        frame = frame_of(truth, aspect=WIDTH / HEIGHT)
        drawn = functools.partial(render_views, height=HEIGHT, width=WIDTH, frame=frame)
        hole = drawn([View(truth, YAW)], faces[visible[faces].all(axis=1)])
        others = [View(made, YAW), View(truth, YAW), View(made, YAW, uncertainty_colours(off_mm))]
        strip = Image.fromarray(np.concatenate([*hole, *drawn(others, faces)], axis=1))
        row = Image.new("RGB", (MARGIN + strip.width, HEIGHT), "white")
        row.paste(strip, (MARGIN, 0))
        words = (region, f"hidden {np.sqrt((off_mm[~visible] ** 2).mean()):.1f} mm",
                 f"seen {np.sqrt((off_mm[visible] ** 2).mean()):.1f} mm")  # fmt: skip
        for line, word in enumerate(words):
            ImageDraw.Draw(row).text((8, HEIGHT // 2 - 30 + 20 * line), word, fill="black", font=font(14))
        rows.append(np.asarray(row))
    sheet = Image.fromarray(np.concatenate([np.full((30, MARGIN + 4 * WIDTH, 3), 255, np.uint8), *rows]))
    for column, title in enumerate(TITLES):
        ImageDraw.Draw(sheet).text((MARGIN + column * WIDTH + 60, 8), title, fill="black", font=font(14))
    sheet.quantize(128).save(options.out, optimize=True)


if __name__ == "__main__":
    main()
