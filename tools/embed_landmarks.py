"""Find where mediapipe's 468 points lie on the embedded head, by showing it to the landmark detector.

Heads of the population are rendered from several sides; each detected point is cast back on to the mesh, and
its places are averaged over heads and views on the template's surface (`diverse3d.embed`). The builder reads the
table written here: run this after the mesh, the regions or the population have changed, then build the head again.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from diverse3d.embed import Found, Shown, Surface, find_landmarks, snap
from diverse3d.files import read_safetensors
from diverse3d.head.makehuman import MOUTH
from diverse3d.head.population import load_population, split

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "diverse3d" / "assets" / "head-landmarks.json"
MOUTH_CORNERS = (61, 291)
OUTER_LIPS = (185, 40, 39, 37, 0, 267, 269, 270, 409, 375, 321, 405, 314, 17, 84, 181, 91, 146)
"""Mediapipe's points of the lips' outer line, corners left out."""
TONES = np.array([1.0, 0.85, 0.65, 0.48])  # of the skin, so that no one complexion decides


def load_mesh(path: Path) -> Surface:
    """Read the head file, and mark skin and lips."""
    table = read_safetensors(path).arrays
    template, faces = table["template"].astype(np.float64), table["faces"]
    hidden = np.ones(len(template), bool)  # eyeballs, ears, neck and scalp carry no points
    hidden[table["region/face/vertices"]] = False
    mouth = np.abs(table["colours"].astype(int) - MOUTH).sum(axis=1) < 60  # painted as its inside
    hidden |= mouth
    lips = np.zeros(len(template), bool)
    lips[table["region/lips/vertices"]] = True
    jaw = table["skinning_weights"][:, 2] > 0.3
    inside = lips & ~hidden
    return Surface(
        template,
        faces,
        table["colours"],
        skin=~hidden[faces].any(axis=1),
        upper=(inside & ~jaw)[faces].all(axis=1),
        lower=(inside & jaw)[faces].all(axis=1),
    )


def shown(mesh: Surface, heads: int) -> list[Shown]:
    """The template and so many heads of the population, in several complexions, each with a mouth that opens."""
    population = load_population()
    neutral = np.asarray(split("train", heads, population=population).neutral, np.float64)
    row = dict(population.couplings)["jawOpen"]
    jaw = np.asarray(population.expression_offsets[row], np.float64).reshape(-1, 3)
    result = []
    for i, vertices in enumerate([mesh.template, *neutral]):
        skin = mesh.colours * (TONES[i % len(TONES)] if i else 1.0)
        colours = np.where((mesh.colours.max(axis=1) > 225)[:, None], mesh.colours, skin).astype(np.uint8)
        result.append(Shown(vertices, colours, (0.3 + 0.05 * (i % 4)) * jaw))
    return result


def on_lip_border(mesh: Surface, found: Found) -> Found:
    """The lips' outer line moved, up or down, on to where the paint is half lip and half skin.

    On photos the detector's line runs along the lips' border; on painted heads, whose border is a soft one, up to 3 mm
    inside it.
    """
    at = {int(point): row for row, point in enumerate(found.points)}
    red = mesh.colours[:, 0].astype(np.float64) - mesh.colours[:, 1]
    corners, weights = found.corners.copy(), found.weights.copy()
    places = (mesh.template[corners] * weights[:, :, None]).sum(axis=1)
    middle = places[[at[point] for point in MOUTH_CORNERS], 1].mean()
    inside = np.median(red[mesh.faces[mesh.upper | mesh.lower]])
    half = (inside + np.median(red[mesh.faces[mesh.skin]])) / 2
    for point in OUTER_LIPS:
        if point not in at:
            continue
        row = at[point]
        up = np.sign(places[row, 1] - middle)
        tried = places[row] + np.arange(-3e-3, 8e-3, 2.5e-4)[:, None] * np.array([0.0, up, 0.0])
        corner, weight = snap(mesh, tried, mesh.skin)
        share = (red[corner] * weight).sum(axis=1)
        crossing = np.flatnonzero((share[:-1] >= half) & (share[1:] < half))
        if len(crossing):
            corners[row], weights[row] = corner[crossing[0]], weight[crossing[0]]
    return found._replace(corners=corners, weights=weights)


def main() -> None:
    """Show the heads and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--heads", type=int, default=18)
    parser.add_argument("--out", type=Path, default=TABLE)
    options = parser.parse_args()
    mesh = load_mesh(ROOT / "diverse3d" / "assets" / "head.safetensors")
    found = find_landmarks(mesh, shown(mesh, options.heads), progress=lambda text: print(text, flush=True))
    found = on_lip_border(mesh, found)
    write_table(options.out, found.points, found.corners, found.weights, found.ibug68)
    print(
        f"{len(found.points)} points kept, spread median {1e3 * np.median(found.spread_m):.2f} mm, largest "
        f"{1e3 * found.spread_m.max():.2f} mm; left out: {np.setdiff1d(np.arange(468), found.points).tolist()}"
    )


def write_table(
    path: Path, index: np.ndarray, corners: np.ndarray, weights: np.ndarray, ibug68: tuple[np.ndarray, np.ndarray]
) -> None:
    """Rows of a point's number, three vertices and their weights; then 68 without the number."""
    dense = [[int(i), *row] for i, row in zip(index, rows(corners, weights), strict=True)]
    text = ",\n".join(json.dumps(row) for row in dense), ",\n".join(json.dumps(row) for row in rows(*ibug68))
    path.write_text(f'{{"dense": [\n{text[0]}\n],\n"ibug68": [\n{text[1]}\n]}}\n', encoding="utf-8")


def rows(corners: np.ndarray, weights: np.ndarray) -> list[list[float]]:
    """Three vertices and their rounded weights, a point each."""
    return [
        [*map(int, corner), *(round(float(w), 5) for w in weight)]
        for corner, weight in zip(corners, weights, strict=True)
    ]


if __name__ == "__main__":
    main()
