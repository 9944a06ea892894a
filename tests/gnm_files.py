"""GNM Head files in the full layout: from the sample of real arrays, or of a small made-up mesh."""

from collections.abc import Mapping

import numpy as np

JOINTS = ("neck", "head", "left_eye", "right_eye")
COUNTS = {"head": 170, "eyes": 3, "teeth": 80}, {
    "left_eye_region": 100, "right_eye_region": 100, "lower_face_region": 150, "tongue": 32, "pupils": 1,
}  # fmt: skip
"""How many components of each kind GNM Head 3.0 has."""


def ball(
    radius: float, centre: tuple[float, float, float], rings: int = 6, around: int = 8
) -> tuple[np.ndarray, np.ndarray]:
    """A closed sphere of triangles, counter-clockwise from outside."""
    up = np.linspace(0, np.pi, rings + 1)[1:-1]
    turn = np.linspace(0, 2 * np.pi, around, endpoint=False)
    body = [[np.sin(u) * np.sin(t), np.cos(u), np.sin(u) * np.cos(t)] for u in up for t in turn]
    points = radius * np.array([[0, 1, 0], *body, [0, -1, 0]]) + centre
    faces, last = [], len(points) - 1
    for t in range(around):
        n = (t + 1) % around
        faces.append([0, 1 + t, 1 + n])
        for r in range(rings - 2):
            a, b, c, d = (1 + (r + i) * around + x for i, x in ((0, t), (0, n), (1, t), (1, n)))
            faces += [[a, c, d], [a, d, b]]
        faces.append([last, 1 + (rings - 2) * around + n, 1 + (rings - 2) * around + t])
    return points, np.array(faces, np.int32)


def small_mesh() -> tuple[np.ndarray, np.ndarray]:
    """A ball of a head with two eyes: 20 cm tall, metres."""
    parts = [ball(0.1, (0.0, 0.25, 0.0)), ball(0.012, (0.03, 0.3, 0.08)), ball(0.012, (-0.03, 0.3, 0.08))]
    starts = np.cumsum([0, *(len(points) for points, _ in parts)])
    faces = np.concatenate([part + start for (_, part), start in zip(parts, starts[:-1], strict=True)])
    return np.concatenate([points for points, _ in parts]).astype(np.float32), faces.astype(np.int32)


def smooth_fields(template: np.ndarray, count: int, amplitudes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Random fields [count, V, 3] of a few waves over the head, each of the RMS size asked for; float32."""
    result = np.empty((count, len(template), 3), np.float32)
    for row, amplitude in zip(result, amplitudes, strict=True):
        waves = rng.normal(size=(3, 12)) * 40.0
        mix = np.sin(template @ waves + rng.uniform(0, 6.28, 12)) @ rng.normal(size=(12, 3))
        row[:] = mix * amplitude / np.sqrt(np.square(mix).sum(axis=1).mean())
    return result


def full_layout(sample: Mapping[str, np.ndarray] | None = None, *, full: bool = False) -> dict[str, np.ndarray]:
    """All 23 arrays of `gnm_head.npz`: of the sample with its few components, or filled up to 253 and 383; without a
    sample of the small mesh. Skinning, joints and groups are made up, and consistent."""
    rng = np.random.default_rng(3)
    if sample is None:
        template, triangles = small_mesh()
        identity = smooth_fields(template, 14, 0.004 / np.arange(1, 15), rng)
        window = np.clip(template[:, 2:] / 0.05, 0, 1)
        expression = smooth_fields(template, 12, 0.003 / np.arange(1, 13), rng) * window[None]
        left = np.zeros(len(template), bool)
        left[-84:-42] = True
        right = np.zeros(len(template), bool)
        right[-42:] = True
    else:
        template, triangles = sample["template_vertex_positions"], sample["triangles"]
        identity = sample["identity_first4"].astype(np.float32)
        expression = sample["expression_basis_every_16th"].astype(np.float32)
        left, right = np.zeros(len(template), bool), np.zeros(len(template), bool)
        for flags, starts in ((left, (12466, 17049)), (right, (12851, 17435))):
            for start, size in zip(starts, (385, 386), strict=True):
                flags[start : start + size] = True
    if full:
        more = smooth_fields(template, 253 - 4, 0.003 / np.arange(1, 250) ** 0.7, rng)
        identity = np.concatenate([identity, more])
        window = np.clip((template[:, 2:] - 0.02) / 0.06, 0, 1).astype(np.float32)
        more = smooth_fields(template, 383 - 24, 0.002 / np.arange(1, 360) ** 0.7, rng) * window[None]
        expression = np.concatenate([expression, more])
    expression = expression.copy()
    expression[:, left | right] = 0
    count = len(template)
    low, high = template[:, 1].min(), template[:, 1].max()
    height = (template[:, 1] - low) / (high - low)
    head = np.clip((height - 0.1) / 0.3, 0, 1) * ~(left | right)
    skinning = np.stack([(1 - head) * ~(left | right), head, left, right]).astype(np.float32)
    base, skull = height < 0.12, (height > 0.3) & (template[:, 2] < 0)
    regressor = np.stack([base, skull, left, right]).astype(np.float64)
    still = np.abs(expression).max(axis=(0, 2)) == 0
    regressor *= np.where((regressor * still).sum(axis=1, keepdims=True) > 0, still[None], True)
    regressor /= regressor.sum(axis=1, keepdims=True)
    names = [_names(kinds, total) for kinds, total in zip(COUNTS, (len(identity), len(expression)), strict=True)]
    mirrored = template * [-1, 1, 1]
    from scipy.spatial import cKDTree

    twin = cKDTree(template).query(mirrored)[1]
    twin = np.where(twin[twin] == np.arange(count), twin, np.arange(count))
    quads = np.concatenate([triangles[: len(triangles) // 2], triangles[: len(triangles) // 2, :1]], axis=1)
    groups = {"left_eye": left, "right_eye": right, "eyes": left | right, "skin": ~(left | right)}
    return {
        "version": np.array("3.0"),
        "variant": np.array("head"),
        "template_vertex_positions": template,
        "template_joint_positions": (regressor @ template).astype(np.float32),
        "identity_names": np.array(names[0]),
        "vertex_identity_basis": identity,
        "joint_identity_basis": np.einsum("jv,kvc->kjc", regressor, identity, optimize=True).astype(np.float32),
        "expression_names": np.array(names[1]),
        "expression_basis": expression,
        "joint_names": np.array(JOINTS),
        "joint_parent_indices": np.array([-1, 0, 1, 1], np.int32),
        "skinning_weights": skinning,
        "quads": quads.astype(np.int32),
        "triangles": triangles,
        "quad_uvs": np.zeros((len(quads), 4, 2), np.float32),
        "triangle_uvs": np.zeros((len(triangles), 3, 2), np.float32),
        "mesh_component_names": np.array(["skin", "left_eye", "right_eye"]),
        "mirror_indices": twin.astype(np.int32),
        "joint_regressor": regressor.astype(np.float32),
        "pose_correctives_regressor": np.zeros((36, 3 * count), np.float32),
        "bone_aligned_template_joint_orientations": np.tile(np.eye(3, dtype=np.float32), (4, 1, 1)),
        "vertex_groups": np.stack(list(groups.values())).astype(np.float32),
        "vertex_group_names": np.array(list(groups)),
    }


def _names(kinds: dict[str, int], total: int) -> list[str]:
    words = [f"{kind}_{number:03d}" for kind, count in kinds.items() for number in range(count)]
    step = max(len(words) // total, 1)
    return words[::step][:total]
