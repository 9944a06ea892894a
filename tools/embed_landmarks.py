"""Find where mediapipe's 468 points lie on the embedded head, by showing it to the landmark detector.

Heads of the population are rendered from several sides; each detected point is cast back on to the mesh, and
its places are averaged over heads and views on the template's surface. The builder reads the table written
here: run this after the mesh, the regions or the population have changed, then build the head again.
"""

import argparse
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import trimesh
from _render import View, look, paint, rotation, vertex_normals
from safetensors.numpy import load_file
from scipy.ndimage import distance_transform_edt
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree

from diverse3d._errors import InputError
from diverse3d.head.build._colours import MOUTH
from diverse3d.head.population import load_population, split
from diverse3d.observe import observe_face
from diverse3d.observe._landmarks68 import IBUG68_FROM_MEDIAPIPE

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "diverse3d" / "assets" / "head-landmarks.json"
VIEWS = [View(yaw=yaw) for yaw in (0, -18, 18, -35, 35, -52, 52)] + [View(pitch=12), View(pitch=-12)]
OPEN_VIEWS = [View(yaw=yaw, pitch=pitch) for yaw, pitch in ((0, 0), (-12, 0), (12, 0), (0, 10))]
UPPER_INNER = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
LOWER_INNER = (95, 88, 178, 87, 14, 317, 402, 318, 324)
TONES = np.array([1.0, 0.85, 0.65, 0.48])  # of the skin, so that no one complexion decides
LARGEST_STRAY_PX = 9.0  # a point off the skin (on an eyeball, beside the head …) goes to the nearest skin
LEAST_FACING = 0.2  # cosine between normal and view; surfaces seen at a flatter angle place a point badly
FACING_POWER = 4  # and the straighter ones count more: the line of the jaw is placed by the views from the side
HEAD_CENTRE_M = np.array([0.0, 0.0, -0.04])  # from which a smooth head bulges out
LARGEST_JUMP_M = 0.03  # between a point's place in one picture and its mean; farther is another part of the face
LARGEST_SPREAD_M = 0.006  # points scattered more than this are left out
LEAST_SHARE = 0.15  # of the pictures must place a point


class Mesh(NamedTuple):
    """What of the head file is needed."""

    template: np.ndarray
    faces: np.ndarray
    colours: np.ndarray
    mirror: np.ndarray
    skin: np.ndarray  # bool [F]: faces on which landmarks may lie
    upper: np.ndarray  # bool [F]: of the upper lip
    lower: np.ndarray  # bool [F]: of the lower lip


def load_mesh(path: Path) -> Mesh:
    """Read the head file, and mark skin and lips."""
    table = load_file(path)
    template, faces = table["template"].astype(np.float64), table["faces"]
    mirror = cKDTree(template).query(template * [-1.0, 1.0, 1.0])[1]
    hidden = np.ones(len(template), bool)  # eyeballs, ears, neck and scalp carry no points
    hidden[table["region/face/vertices"]] = False
    mouth = np.abs(table["colours"].astype(int) - MOUTH).sum(axis=1) < 60  # painted as its inside
    hidden |= mouth
    lips = np.zeros(len(template), bool)
    lips[table["region/lips/vertices"]] = True
    jaw = table["skinning_weights"][:, 2] > 0.3
    inside = lips & ~hidden
    return Mesh(
        template,
        faces,
        table["colours"],
        mirror,
        skin=~hidden[faces].any(axis=1),
        upper=(inside & ~jaw)[faces].all(axis=1),
        lower=(inside & jaw)[faces].all(axis=1),
    )


def cast(mesh: Mesh, vertices: np.ndarray, colours: np.ndarray, view: View, inner: bool) -> np.ndarray:
    """Places [468, 3] on the template, NaN where this picture places no point."""
    places = np.full((468, 3), np.nan)
    hits = look(vertices, mesh.faces, view)
    try:
        points = observe_face(paint(hits, vertices, mesh.faces, colours, view)).landmarks.points_px
    except InputError:
        return places
    normal = vertex_normals(vertices, mesh.faces)[mesh.faces].mean(axis=1) @ rotation(view)[2]
    good = np.append(mesh.skin, False)[hits.face]
    groups = [(np.setdiff1d(np.arange(468), UPPER_INNER + LOWER_INNER), good)]
    if inner:
        groups = [
            (np.array(UPPER_INNER), np.append(mesh.upper, False)[hits.face]),
            (np.array(LOWER_INNER), np.append(mesh.lower, False)[hits.face]),
        ]
    for index, allowed in groups:
        if not allowed.any():
            continue
        stray, nearest = distance_transform_edt(~allowed, return_indices=True)
        pixel = np.clip(np.floor(points[index] * 2), 0, 2 * view.size_px - 1).astype(int)
        x, y = pixel.T
        row, column = nearest[:, y, x]
        face, weight = hits.face[row, column], hits.barycentric[row, column]
        place = (mesh.template[mesh.faces[face]] * weight[:, :, None]).sum(axis=1)
        ok = (stray[y, x] <= 2 * LARGEST_STRAY_PX) & ((normal[face] > LEAST_FACING) | inner)
        places[index[ok]] = place[ok]
    return places


def gather(mesh: Mesh, heads: int) -> tuple[np.ndarray, np.ndarray]:
    """Places [pictures, 468, 3] over heads and views, and whence the head was seen [pictures, 3]."""
    population = load_population()
    neutral = np.asarray(split("train", heads, population=population).neutral, np.float64)
    row = dict(population.couplings)["jawOpen"]
    jaw = np.asarray(population.expression_offsets[row], np.float64).reshape(-1, 3)
    rows, seen = [], 0
    for i, vertices in enumerate([mesh.template, *neutral]):
        skin = mesh.colours * (TONES[i % len(TONES)] if i else 1.0)
        colours = np.where((mesh.colours.max(axis=1) > 225)[:, None], mesh.colours, skin).astype(np.uint8)
        for view in VIEWS:
            rows.append(cast(mesh, vertices, colours, view, inner=False))
            seen += bool(np.isfinite(rows[-1]).any())
        for view in OPEN_VIEWS:
            rows.append(cast(mesh, vertices + (0.3 + 0.05 * (i % 4)) * jaw, colours, view, inner=True))
        print(f"head {i}: {seen} of {(i + 1) * len(VIEWS)} pictures show a face", flush=True)
    directions = [rotation(view)[2] for view in VIEWS + OPEN_VIEWS] * (heads + 1)
    return np.stack(rows), np.stack(directions)


def locate(places: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean place [468, 3], spread [468] (metres) and the number of pictures used, per point.

    The detector also guesses points that the head itself hides, and those land on whatever is before them. So a
    picture counts for a point only if a smooth head faces the camera at its mean place, the more the better; the
    first means come from the views nearest to the front.
    """
    found = np.isfinite(places[:, :, 0])
    weight = np.where(found & (directions[:, 2] > np.cos(np.radians(20)))[:, None], 1.0, 0.0)
    filled = np.nan_to_num(places)
    for _ in range(8):
        mean = (weight[:, :, None] * filled).sum(axis=0) / weight.sum(axis=0).clip(1e-12)[:, None]
        distance = np.linalg.norm(filled - mean[None], axis=2)
        typical = (weight * distance).sum(axis=0) / weight.sum(axis=0).clip(1e-12)
        outwards = mean - HEAD_CENTRE_M * [1.0, 0.0, 1.0] - mean * [0.0, 0.4, 0.0]
        facing = directions @ (outwards / np.linalg.norm(outwards, axis=1, keepdims=True)).T
        near = distance <= np.clip(2.5 * typical + 1e-3, 0.0, LARGEST_JUMP_M)[None]
        weight = np.where(found & near & (facing > LEAST_FACING), facing.clip(0) ** FACING_POWER, 0.0)
    mean = (weight[:, :, None] * filled).sum(axis=0) / weight.sum(axis=0).clip(1e-12)[:, None]
    square = np.square(filled - mean[None]).sum(axis=2)
    spread = np.sqrt((weight * square).sum(axis=0) / weight.sum(axis=0).clip(1e-12))
    count = (weight > 0).sum(axis=0)
    mean[count < 3], spread[count < 3] = np.nan, np.inf
    return mean, spread, count


def mirrored_points(mean: np.ndarray) -> np.ndarray:
    """[468]: the point on the other side of the face, found among the means."""
    usable = np.isfinite(mean[:, 0])
    distance = np.linalg.norm(mean[:, None] * [-1.0, 1.0, 1.0] - mean[None], axis=2)
    distance[~usable], distance[:, ~usable] = 1.0, 1.0
    twin = linear_sum_assignment(distance + distance.T)[1]
    twin[twin[twin] != np.arange(468)] = -1
    return twin


def snap(mesh: Mesh, points: np.ndarray, allowed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nearest place of the allowed faces to each point: vertex triples [n, 3], barycentric weights [n, 3]."""
    faces = mesh.faces[allowed]
    surface = trimesh.Trimesh(mesh.template, faces, process=False)
    place, _, face = trimesh.proximity.closest_point_naive(surface, points)
    weight = trimesh.triangles.points_to_barycentric(mesh.template[faces[face]], place).clip(0)
    return faces[face], weight / weight.sum(axis=1, keepdims=True)


def main() -> None:
    """Gather, average, make symmetric, snap, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--heads", type=int, default=18)
    parser.add_argument("--out", type=Path, default=TABLE)
    options = parser.parse_args()
    mesh = load_mesh(ROOT / "diverse3d" / "assets" / "head.safetensors")
    mean, spread, count = locate(*gather(mesh, options.heads))
    twin = mirrored_points(mean)
    paired = twin >= 0
    print(
        f"{paired.sum()} of 468 points have a twin; asymmetry before averaging, median "
        f"{1e3 * np.nanmedian(np.linalg.norm(mean - mean[twin] * [-1, 1, 1], axis=1)[paired]):.2f} mm"
    )
    mean[paired] = ((mean + mean[twin] * [-1.0, 1.0, 1.0]) / 2)[paired]
    enough = np.where(np.isin(np.arange(468), UPPER_INNER + LOWER_INNER), len(OPEN_VIEWS), len(VIEWS))
    kept = np.isfinite(mean[:, 0]) & (spread < LARGEST_SPREAD_M)
    kept &= count > LEAST_SHARE * enough * (options.heads + 1)
    kept[list(IBUG68_FROM_MEDIAPIPE)] = np.isfinite(mean[list(IBUG68_FROM_MEDIAPIPE), 0])
    kept[paired] &= kept[twin[paired]]
    rows: dict[int, list[float]] = {}
    lips = {**dict.fromkeys(UPPER_INNER, mesh.upper), **dict.fromkeys(LOWER_INNER, mesh.lower)}
    for allowed in (mesh.skin, mesh.upper, mesh.lower):
        index = np.array([i for i in np.flatnonzero(kept) if lips.get(i, mesh.skin) is allowed])
        corners, weights = snap(mesh, mean[index], allowed)
        for i, corner, weight in zip(index, corners, weights, strict=True):
            rows[int(i)] = [int(i), *map(int, corner), *(round(float(w), 5) for w in weight)]
    for i in rows:  # the right side is the left one's mirror image, face by face
        if paired[i] and twin[i] in rows and mean[i, 0] > 0:
            rows[int(twin[i])] = [int(twin[i]), *map(int, mesh.mirror[rows[i][1:4]]), *rows[i][4:]]
    dense = [rows[i] for i in sorted(rows)]
    ibug68 = [rows[i][1:] for i in IBUG68_FROM_MEDIAPIPE]
    text = ",\n".join(json.dumps(row) for row in dense), ",\n".join(json.dumps(row) for row in ibug68)
    options.out.write_text(f'{{"dense": [\n{text[0]}\n],\n"ibug68": [\n{text[1]}\n]}}\n', encoding="utf-8")
    print(
        f"{len(dense)} points kept, spread median {1e3 * np.median(spread[kept]):.2f} mm, largest "
        f"{1e3 * spread[kept].max():.2f} mm; left out: {np.flatnonzero(~kept).tolist()}"
    )


if __name__ == "__main__":
    main()
