"""What MakeHuman's identity targets say of heads: a mean, and the variation of each group of targets by itself.

Targets are drawn as an artist's sliders would be moved (bounded, one-sided, left and right mostly together); of the
heads that come out only mean and covariance are kept, a group at a time, so that a calibration can weigh the groups.
"""

from typing import NamedTuple

import numpy as np

from . import _identities as identities
from ._mesh import EYES_CENTRE_M, METRES_PER_DECIMETRE, HeadMesh
from ._source import Source

_SAMPLES = 6000
_KEPT, _LARGEST = 0.9995, 80
_CHILD_SHARE = 0.08
_IDENTITY_LIMIT = 0.9  # of a target's full strength
_ASYMMETRY = 0.2  # of an identity target's strength
_OLD_SHARE = 0.3
"""How much of its weight old age keeps against youth: the source's folds of skin are a caricature's."""


class Morphs(NamedTuple):
    """Mean head and variation a group of targets."""

    base_m: np.ndarray  # float64 [V, 3], the base shape with the eyes where FLAME has them
    mean_m: np.ndarray  # float64 [V, 3], symmetric
    groups_m: dict[str, np.ndarray]  # float32 [k, V, 3] a group: principal components, metres a standard deviation


def draw_morphs(source: Source, mesh: HeadMesh, seed: int = 0) -> Morphs:
    """Draw what each group does, hold the skull at rest, and keep mean and principal components."""
    base = mesh.vertices_dm * METRES_PER_DECIMETRE
    eyes = (base[mesh.left_eye].mean(axis=0) + base[mesh.right_eye].mean(axis=0)) / 2
    base = base - eyes + EYES_CENTRE_M
    skull = skull_vertices(base, mesh)
    rng = np.random.default_rng(seed)
    parts = {"macro": (_macro_weights(rng), _macro_offsets(source, mesh, skull))}
    folder = {name: f for f in identities.FOLDERS for name in source.target_names(f)}
    channels = identities.pair_targets(list(folder))
    activation = _identity_activations(rng, channels)
    length = target_length(mesh)
    offsets = np.stack([cut_target(source.target(folder[name], name, length), mesh) for name in channels.name])
    group = [identities.group_of(name, folder[name]) for name in channels.name]
    for name in sorted(set(group)):
        mine = [i for i, other in enumerate(group) if other == name]
        parts[name] = (activation[:, mine], offsets[mine])
    mean = base + sum(np.tensordot(weight.mean(axis=0), offset, 1) for weight, offset in parts.values())
    mean = (mean + mean[mesh.mirror] * [-1.0, 1.0, 1.0]) / 2
    groups = {name: _components(weight, offset, mean, skull) for name, (weight, offset) in parts.items()}
    return Morphs(base, mean, groups)


def skull_vertices(base: np.ndarray, mesh: HeadMesh) -> np.ndarray:
    """The cranium: above the brows and the back of the head, without ears, face and neck."""
    x, y, z = base.T
    inside = (y > 0.060) | ((y > 0.005) & (z < -0.075))
    return np.flatnonzero(inside & inside[mesh.mirror] & (np.abs(x) < 0.09))


def cut_target(offsets_dm: np.ndarray, mesh: HeadMesh) -> np.ndarray:
    """A target's offsets in decimetres, brought to the head's vertices in metres."""
    return mesh.cut(offsets_dm) * METRES_PER_DECIMETRE


def target_length(mesh: HeadMesh) -> int:
    """Vertices that a target may name."""
    return int(mesh.source_index.max()) + 1 + 10_000  # targets also move helpers that come after the head's vertices


def _macro_offsets(source: Source, mesh: HeadMesh, skull: np.ndarray) -> np.ndarray:
    people = [f"{e}-{s}-{a}" for e in identities.ETHNICITIES for s in identities.SEXES for a in identities.AGES]
    builds = [
        f"universal-{s}-{a}-{b}" for s in identities.SEXES for a in identities.AGES[1:] for b in identities.BUILDS
    ]
    length = target_length(mesh)
    offsets = np.stack([cut_target(source.target("macrodetails", n, length), mesh) for n in people + builds])
    # They carry the head to another height of body; alignment undoes that anyway.
    return offsets - offsets[:, skull].mean(axis=1, keepdims=True)


def _macro_weights(rng: np.random.Generator) -> np.ndarray:
    """Convex weights over ethnicity × sex × age (child, young, old); then sex × (young, old) × body build.

    The four builds are the corners thin and weak, thin and strong, heavy and weak, heavy and strong.
    """
    # Normalised powers of exponentials: a Dirichlet draw at power 1, more often near one corner above it.
    mixture = rng.exponential(size=(_SAMPLES, 3)) ** 1.6
    ethnicity = mixture / mixture.sum(axis=1, keepdims=True)
    male = 1.0 / (1.0 + np.exp(-4.0 * rng.standard_normal(_SAMPLES)))
    sex = np.stack([1.0 - male, male], axis=1)
    child = np.where(rng.random(_SAMPLES) < _CHILD_SHARE, rng.uniform(0.0, 0.5, _SAMPLES), 0.0)
    old = _OLD_SHARE * (1.0 - child) * 0.85 * rng.random(_SAMPLES) ** 1.6
    age = np.stack([child, 1.0 - child - old, old], axis=1)
    person = ethnicity[:, :, None, None] * sex[:, None, :, None] * age[:, None, None, :]
    weight, muscle = rng.uniform(-1.0, 1.0, (2, _SAMPLES))
    build = np.stack([w.clip(0) * m.clip(0) for w in (-weight, weight) for m in (-muscle, muscle)], axis=1)
    grown = np.stack([age[:, 1] + age[:, 0], age[:, 2]], axis=1)
    adult = sex[:, :, None] * grown[:, None, :]
    shaped = adult[:, :, :, None] * build[:, None, None, :]
    return np.concatenate([person.reshape(_SAMPLES, -1), shaped.reshape(_SAMPLES, -1)], axis=1)


def _identity_activations(rng: np.random.Generator, channels: identities.Channels) -> np.ndarray:
    """Bounded one-sided activations; left and right share most of their channel."""
    count = int(channels.channel.max()) + 1
    shared, lateral = rng.standard_normal((2, _SAMPLES, count))
    level = shared[:, channels.channel] + _ASYMMETRY * channels.side * lateral[:, channels.channel]
    raw = channels.strength * np.maximum(channels.direction * level, 0.0)
    return _IDENTITY_LIMIT * np.tanh(raw / _IDENTITY_LIMIT)


def _components(weight: np.ndarray, offset: np.ndarray, mean: np.ndarray, skull: np.ndarray) -> np.ndarray:
    """Principal components [k, V, 3] of drawn weights [N, T] times offsets [T, V, 3], the skull at rest."""
    values, turn = np.linalg.eigh(np.cov(weight.T, bias=True).reshape(len(offset), len(offset)))
    rows = np.tensordot(np.sqrt(values.clip(0))[:, None] * turn.T, offset, 1)
    flat = (rows - rigid_part(rows, mean, skull)).reshape(len(rows), -1)
    values, vectors = np.linalg.eigh(flat @ flat.T)
    values, vectors = values[::-1].clip(0), vectors[:, ::-1]
    count = min(int(np.searchsorted(np.cumsum(values), _KEPT * values.sum())) + 1, _LARGEST)
    rows = vectors[:, :count].T @ flat
    sign = np.sign(rows[np.arange(count), np.abs(rows).argmax(axis=1)])
    return (rows * sign[:, None]).reshape(count, *offset.shape[1:]).astype(np.float32)


def rigid_part(fields: np.ndarray, vertices: np.ndarray, index: np.ndarray) -> np.ndarray:
    """The small rigid motion [n, V, 3] that fits fields [n, V, 3] on the indexed vertices best."""
    x, y, z = (vertices - vertices[index].mean(axis=0)).T
    one, zero = np.ones_like(x), np.zeros_like(x)
    turns = [[zero, -z, y], [z, zero, -x], [-y, x, zero]]
    shifts = [[one, zero, zero], [zero, one, zero], [zero, zero, one]]
    motion = np.stack([np.stack(row, axis=1) for row in shifts + turns])  # [6, V, 3]
    there = motion[:, index].reshape(6, -1)
    share = np.linalg.solve(there @ there.T, there @ fields[:, index].reshape(len(fields), -1).T)
    return np.tensordot(share.T, motion, 1)
