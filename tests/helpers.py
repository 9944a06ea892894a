"""Made-up and reference heads as head-file arrays, and conversions that several tests share."""

import os
import subprocess
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.test_util import check_grads
from PIL import Image

EYES = np.array([[0.032, 0.03, 0.075], [-0.032, 0.03, 0.075]])
JOINTS = np.array([[0, -0.11, -0.01], [0, -0.08, -0.01], [0, -0.04, 0.02], *EYES])


def as_float32(tree):
    """The same pytree with its floating-point arrays in single precision."""
    return jax.tree.map(lambda x: jnp.asarray(np.asarray(x, np.float32)) if eqx.is_inexact_array(x) else x, tree)


def check_derivatives(function, *arguments, tolerance: float = 1e-7) -> None:
    """Forward mode = reverse mode = finite differences, at the given arguments."""
    compiled = jax.jit(function)
    check_grads(
        lambda *values: compiled(*jax.tree.map(jnp.asarray, values)),  # the checker passes numpy arrays
        arguments,
        order=1,
        modes=("fwd", "rev"),
        atol=tolerance,
        rtol=tolerance,
    )


def rotation_about(axis: np.ndarray, angle: float) -> np.ndarray:
    """Rotation matrix by Rodrigues' formula, in numpy."""
    axis = np.asarray(axis, float) / np.linalg.norm(axis)
    cross = np.cross(np.eye(3), axis).T
    return np.eye(3) + np.sin(angle) * cross.T + (1 - np.cos(angle)) * cross @ cross


def draw_nothing(patch) -> None:
    """Saved results get a blank contact sheet: drawing is tested elsewhere and takes its time."""
    patch.setattr("diverse3d.show._record.draw", lambda *_: None)
    patch.setattr("diverse3d.show._record.contact_sheet", lambda *_: Image.new("RGB", (8, 8)))
    patch.setattr("diverse3d.show._record.report_page", lambda *_: "<!doctype html>")


def may_unshare(*options: str) -> bool:
    """Whether this user may have a namespace of their own: `-rn` one without a network, `-rm` one with own mounts."""
    try:
        return subprocess.run(["unshare", *options, "true"], capture_output=True, timeout=20).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def ellipsoid(rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit sphere with poles at ±y: vertices and outward triangles."""
    polar = np.pi * np.arange(1, rows) / rows
    around = 2 * np.pi * np.arange(columns) / columns
    ring = np.stack([np.sin(around), np.zeros(columns), np.cos(around)], 1)
    middle = [np.sin(p) * ring + [0, np.cos(p), 0] for p in polar]
    vertices = np.concatenate([[[0, 1, 0]], *middle, [[0, -1, 0]]])
    last, faces = len(vertices) - 1, []
    for c in range(columns):
        d = (c + 1) % columns
        faces.append([0, 1 + c, 1 + d])
        for r in range(rows - 2):
            a, b = 1 + r * columns, 1 + (r + 1) * columns
            faces += [[a + c, b + c, b + d], [a + c, b + d, a + d]]
        a = 1 + (rows - 2) * columns
        faces.append([a + c, last, a + d])
    return vertices, np.array(faces)


def landmark_layout() -> np.ndarray:
    """A rough frontal picture of the 68 iBUG landmarks, metres, x > 0 the person's left."""

    def arc(count, centre, size, start, end):
        angle = np.radians(np.linspace(start, end, count))
        return np.stack([centre[0] + size[0] * np.cos(angle), centre[1] + size[1] * np.sin(angle)], 1)

    def loop(count, centre, size):
        return arc(count + 1, centre, size, 180, -180)[:count]

    return np.concatenate(
        [
            arc(17, (0, 0.01), (0.062, 0.1), 170, 370),
            arc(5, (-0.03, 0.05), (0.018, 0.008), 180, 0),
            arc(5, (0.03, 0.05), (0.018, 0.008), 180, 0),
            np.stack([np.zeros(4), np.linspace(0.03, 0, 4)], 1),
            np.stack([np.linspace(-0.012, 0.012, 5), np.full(5, -0.01)], 1),
            loop(6, (-0.03, 0.03), (0.014, 0.006)),
            loop(6, (0.03, 0.03), (0.014, 0.006)),
            loop(12, (0, -0.045), (0.026, 0.012)),
            loop(8, (0, -0.045), (0.02, 0.004)),
        ]
    )


def onto_front(points: np.ndarray, vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Triangle and barycentric weights of the front-most surface at each (x, y)."""
    corners = vertices[faces]
    a, b, c = (corners[None, :, i, :2] - points[:, None, :] for i in range(3))

    def cross(u, v):
        return u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0]

    weights = np.stack([cross(b, c), cross(c, a), cross(a, b)], -1)
    area = weights.sum(-1, keepdims=True)
    weights = weights / np.where(np.abs(area) < 1e-12, np.inf, area)
    inside = (weights >= -1e-9).all(-1) & (area[..., 0] > 1e-12)
    depth = np.where(inside, (weights * corners[None, :, :, 2]).sum(-1), -np.inf)
    face = depth.argmax(1)
    return face, weights[np.arange(len(points)), face]


def smooth_fields(rng: np.random.Generator, points: np.ndarray, count: int) -> np.ndarray:
    """Random vector fields [count, V, 3] of unit RMS that vary slowly over the surface."""
    phase = points @ rng.normal(0, 18, (3, count * 3)) + rng.uniform(0, 2 * np.pi, count * 3)
    fields = np.sin(phase).reshape(len(points), count, 3).transpose(1, 0, 2)
    return fields / np.sqrt((fields**2).mean((1, 2), keepdims=True))


def tiny_arrays(identity: int = 6, expression: int = 4) -> dict[str, np.ndarray]:
    """Head-file arrays of a made-up head: an ellipsoid of 92 vertices and two eyeballs of 6."""
    rng = np.random.default_rng(7)
    skull, faces = ellipsoid(10, 10)
    template = [skull * [0.075, 0.115, 0.095]]
    octahedron, octahedron_faces = ellipsoid(2, 4)
    for i, eye in enumerate(EYES):
        template.append(eye + 0.012 * octahedron)
        faces = np.concatenate([faces, octahedron_faces + len(skull) + i * len(octahedron)])
    template = np.concatenate(template)
    count, first_eye = len(template), len(skull)
    left_eye, right_eye = np.arange(first_eye, first_eye + 6), np.arange(first_eye + 6, count)

    near = np.exp(-((np.linalg.norm(template[:, None] - JOINTS[None], axis=2) / 0.04) ** 2))
    weights = near + 0.05 * np.array([1, 1, 0, 0, 0])
    weights[left_eye], weights[right_eye] = np.eye(5)[3], np.eye(5)[4]
    basis = smooth_fields(rng, template, identity + expression)
    scale = 0.004 / (1 + np.arange(identity + expression) % max(identity, 1))
    face, barycentric = onto_front(landmark_layout(), template, faces)
    spread = 0.055 * np.stack([np.cos(np.arange(23)), 1.4 * np.sin(np.arange(23))], 1) * rng.uniform(0.3, 1, (23, 1))
    dense_face, dense_barycentric = onto_front(spread, template, faces)
    front = template[:, 2] > 0.02
    regions = {
        "face": np.flatnonzero(front),
        "nose": np.flatnonzero(front & (np.abs(template[:, 0]) < 0.04) & (np.abs(template[:, 1]) < 0.04)),
        "left_eyeball": left_eye,
        "right_eyeball": right_eye,
        "neck": np.flatnonzero(template[:, 1] < -0.09),
    }
    arrays = {
        "template": template.astype(np.float32),
        "faces": faces.astype(np.int32),
        "identity_basis": basis[:identity].astype(np.float32),
        "identity_scale": scale[:identity].astype(np.float32),
        "expression_basis": basis[identity:].astype(np.float16),
        "expression_scale": scale[identity:].astype(np.float32),
        "prior_mean": np.r_[np.zeros(identity), np.linspace(-0.4, 0.6, expression)].astype(np.float32),
        "joint_regressor": near.T / near.sum(0)[:, None],
        "joint_parents": np.array([-1, 0, 1, 1, 1], np.int32),
        "skinning_weights": weights / weights.sum(1, keepdims=True),
        "joint_std": np.array([[0, 0, 0], [0.1, 0.1, 0.05], [0.15, 0.02, 0.02], [0.1, 0.2, 0], [0.1, 0.2, 0]]),
        "pose_basis": (0.002 * smooth_fields(rng, template, 36)).astype(np.float32),
        "landmarks68_face": face.astype(np.int32),
        "landmarks68_barycentric": barycentric.astype(np.float32),
        "landmarks_dense_index": np.arange(420, 443, dtype=np.int32),  # none of the 68
        "landmarks_dense_face": dense_face.astype(np.int32),
        "landmarks_dense_barycentric": dense_barycentric.astype(np.float32),
        "colours": rng.integers(90, 220, (count, 3)).astype(np.uint8),
    }
    for name, vertices in regions.items():
        arrays[f"region/{name}/vertices"] = vertices.astype(np.int32)
        if name != "neck":
            local = smooth_fields(rng, template[vertices], 4)
            arrays[f"region/{name}/mean"] = (0.001 * local[0]).astype(np.float32)
            arrays[f"region/{name}/basis"] = local[1:].astype(np.float16)
            arrays[f"region/{name}/scale"] = np.array([0.002, 0.001, 0.0005], np.float32)
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}


def flame_arrays(folder: Path) -> dict[str, np.ndarray]:
    """The reference FLAME arrays under the names of a head file."""
    flame, marks = np.load(folder / "flame2023_60.npz"), np.load(folder / "landmarks68.npz")
    dense = np.flatnonzero(flame["landmark_indices"] < 468)
    arrays = {
        "template": flame["v_template"],
        "faces": flame["faces"],
        "identity_basis": flame["shapedirs"].transpose(2, 0, 1),
        "joint_regressor": np.load(folder / "joint_regressor.npz")["joint_regressor"],
        "joint_parents": np.array([-1, 0, 1, 1, 1]),
        "landmarks68_face": marks["face_index"],
        "landmarks68_barycentric": marks["barycentric"],
        "landmarks_dense_index": flame["landmark_indices"][dense],
        "landmarks_dense_face": flame["lmk_face_idx"][dense],
        "landmarks_dense_barycentric": flame["lmk_b_coords"][dense],
    }
    with np.load(folder / "flame_masks.npz") as masks:
        return arrays | {f"region/{name}/vertices": masks[name] for name in masks.files}


def no_evidence(unknowns):
    """What a picture says that says nothing, of a fit's unknowns."""
    from diverse3d.fit import PictureEvidence

    size = unknowns.z.size + unknowns.joints.size + 6
    return PictureEvidence(jnp.zeros(2), jnp.zeros((2, size)), jnp.asarray(1.0))


def keep_picture(tab, name: str) -> None:
    """Keep what a browser shows, to be looked at, in the folder that DIVERSE3D_PICTURES names; without it, don't."""
    if folder := os.environ.get("DIVERSE3D_PICTURES"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        tab.screenshot(path=Path(folder) / f"{name}.png")
