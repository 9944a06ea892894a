"""Learn how wrong detected landmarks are, on rendered photos: python -m tools.learn_landmarks [--scenes N]

Bare faces of the validation split give each point's own error and the patterns that points share; the same faces behind
occluders tell how much more wrong points are beside what hides them, and all of them, by how they face the camera, how
much more where they are turned away. Errors are those left once the picture's shift, turn and scale, which every fit
finds for itself, are taken out. What a scan model's people show more is a factor on all of it (`WIDENING`).
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diverse3d import InputError
from diverse3d.files import write_safetensors
from diverse3d.fit import (
    LEARNT_LANDMARKS,
    LandmarkNoise,
    fitted_points,
    landmark_noise_arrays,
    nearness,
    turned_away,
)
from diverse3d.head import HeadModel, load_head
from diverse3d.observe import IBUG68_FROM_MEDIAPIPE, observe_photo
from scenes import OCCLUDERS, Scene, scenes

RANK = 24
WIDENING = 1.8
"""Scan models' people, rendered, are off by 2.0 (ICT) and 1.1 times (FLAME) as much as the population's, whitened;
registration's own slides are in that."""
_OUTER_EYES = (36, 45)
_LARGEST = 0.35  # inter-ocular distances; a face whose points are off by more on average was not found at all
_BARE = ("none", "clear-glasses")


class Errors(NamedTuple):
    """What one photo shows."""

    points: np.ndarray
    """Which of mediapipe's 468 points the head carries [L]."""
    off: np.ndarray
    """Detected less true, inter-ocular distances, level face [L, 2]."""
    facing: np.ndarray
    """Cosine between normal and view [L]."""
    visible: np.ndarray
    """Landmarks whose pixel nothing hides [L]."""
    near: np.ndarray
    """How near hidden pixels are, 0 to 1 [L]."""


def measured(scene: Scene, head: HeadModel) -> Errors | None:
    """The errors in a scene; None where no face, or another, is found."""
    try:
        seen = observe_photo(scene.rgb, mask=scene.hidden).photo
    except InputError:
        return None
    assert head.landmarks68 is not None
    points, index = fitted_points(head, head.landmarks68)
    corners, weights = np.asarray(points.corners), np.asarray(points.barycentric)
    true_m = (scene.vertices_m[corners] * weights[:, :, None]).sum(axis=1)
    true = np.asarray(scene.camera.project(jnp.asarray(true_m, jnp.float32)), np.float64)
    found, visible = seen.landmarks_px[index], seen.landmark_visible[index]
    right, left = seen.landmarks_px[[IBUG68_FROM_MEDIAPIPE[i] for i in _OUTER_EYES]]
    interocular = float(np.linalg.norm(left - right))
    a, b, c = scene.vertices_m[corners].transpose(1, 0, 2)
    normal = np.cross(b - a, c - a)
    facing = normal[:, 2] / np.linalg.norm(normal, axis=1).clip(1e-15)
    used = visible & (facing > 0.2)
    if used.sum() < 40:
        return None
    placed = _similar(true, found, used)
    roll = -float(np.arctan2(*(left - right)[::-1]))
    cos, sin = np.cos(roll), np.sin(roll)
    off = (found - placed) @ np.array([[cos, -sin], [sin, cos]]).T / interocular
    if np.sqrt((off[used] ** 2).sum(1).mean()) > _LARGEST:
        return None
    return Errors(index, off, facing, visible, nearness(found, seen.hidden, interocular))


def _similar(points: np.ndarray, target: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Points shifted, turned and scaled in the picture on to a target."""
    z, w = (values[:, 0] + 1j * values[:, 1] for values in (points, target))
    off, goal = z - z[used].mean(), w - w[used].mean()
    factor = (np.conj(off[used]) @ goal[used]) / (np.conj(off[used]) @ off[used]).real
    moved = factor * off + w[used].mean()
    return np.stack([moved.real, moved.imag], axis=1)


def learn(bare: list[Errors], covered: list[Errors], rank: int) -> LandmarkNoise:
    """The noise under which the errors are likely."""
    index = bare[0].points
    turned = _turned(bare)
    # Errors as they would be if every point faced the camera.
    flat = np.stack([one.off / turned_away(turned, one.facing)[:, None] for one in bare]).reshape(len(bare), -1)
    _, values, patterns = np.linalg.svd(flat, full_matrices=False)
    factors = patterns[:rank] * (values[:rank] / np.sqrt(len(bare)))[:, None]
    left = flat - (flat @ patterns[:rank].T) @ patterns[:rank]
    # The patterns were chosen on these very errors.
    square = (left**2).sum(0) / max(len(bare) - rank, 1)
    sigma = np.full(468, np.inf)
    sigma[index] = np.sqrt(square.reshape(-1, 2).mean(1))
    shared = np.zeros((rank, 468, 2))
    shared[:, index] = factors.reshape(rank, -1, 2)
    beside = _beside(LandmarkNoise(sigma, shared, turned, 1.0), covered)
    return LandmarkNoise(WIDENING * sigma, WIDENING * shared, turned, beside)


def _turned(bare: list[Errors]) -> float:
    """RMS error of points that look past the camera over that of points that face it."""
    off, facing = np.concatenate([one.off for one in bare]), np.concatenate([one.facing for one in bare])
    square = (off**2).sum(1)
    return max(float(np.sqrt(square[facing < 0.2].mean() / square[facing > 0.8].mean())), 1.0)


def _beside(noise: LandmarkNoise, covered: list[Errors]) -> float:
    """How many times as wrong as expected points right beside hidden ones are."""
    ratios = []
    total = noise.sigma**2 + (noise.patterns**2).sum(0).mean(1)
    for one in covered:
        chosen = one.visible & (one.near > 0.6)
        expected = 2.0 * total[one.points] * turned_away(noise.turned, one.facing) ** 2
        ratios.append(((one.off**2).sum(1) / expected)[chosen])
    return max(float(np.sqrt(np.concatenate(ratios).mean())), 1.0)


def main() -> None:
    """Render, detect, learn, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=360, help="bare ones; a third as many are covered")
    parser.add_argument("--out", type=Path, default=LEARNT_LANDMARKS)
    options = parser.parse_args()
    head = load_head()
    others = tuple(name for name in OCCLUDERS if name not in _BARE)
    runs = []
    for kinds, count in ((_BARE, options.scenes), (others, options.scenes // 3)):
        found = [measured(scene, head) for scene in scenes("validation", count, head=head, occluders=kinds)]
        runs.append([one for one in found if one is not None])
        print(f"{len(runs[-1])} of {count} photos of {', '.join(kinds)}", flush=True)
        jax.clear_caches()
    noise = learn(runs[0], runs[1], RANK)
    write_safetensors(options.out, landmark_noise_arrays(noise), {})
    known = np.isfinite(noise.sigma)
    whole = np.sqrt(2.0 * noise.sigma[known] ** 2 + (noise.patterns[:, known] ** 2).sum((0, 2)))
    print(
        f"{options.out.name}: a point is off by {100 * np.sqrt((whole**2).mean()):.2f} % of the inter-ocular distance, "
        f"{100 * np.sqrt(2 * (noise.sigma[known] ** 2).mean()):.2f} % for itself; turned away x {noise.turned:.2f}, "
        f"beside what hides x {noise.beside:.2f}"
    )


if __name__ == "__main__":
    main()
