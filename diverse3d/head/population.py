"""A population of heads: identities and expressions drawn from MakeHuman's CC0 morph targets.

This is the data of all training and of all benchmarks. It needs nothing but a file shipped with the package.
Every head is drawn from its own key, so head i of a split is the same whatever is asked for besides it.
"""

import functools
import json
import math
from importlib import resources
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int32, PRNGKeyArray

from diverse3d._errors import InputError

SPLITS = {"train": 1001, "validation": 2002, "test": 3003}
"""The fixed splits and their seeds."""

# Heads computed at once. A split is cut at multiples of it, so that every head comes out bit for bit alike.
_CHUNK = 64
_LARGEST_FILE_BYTES = 64_000_000
_NEUTRAL_SHARE, _PROTOTYPE_SHARE = 0.25, 0.40  # the rest are random combinations of units
_CHILD_SHARE = 0.08
_IDENTITY_LIMIT = 0.9  # of a target's full strength
_ASYMMETRY = 0.2  # of an identity target's strength


class HeadSample(eqx.Module):
    """One head of the population (or a batch of them, with a leading axis), aligned on the skull."""

    vertices: Float[Array, "*batch V 3"]
    """Metres; identity and expression."""
    neutral: Float[Array, "*batch V 3"]
    """Metres; the same identity without expression, under the same rigid transform."""


class Population(eqx.Module):
    """Morph targets and how strongly they are drawn."""

    base: Float32[Array, "V 3"]
    """Metres; the head that all offsets are added to."""
    neutral_offsets: Float32[Array, "A V*3"]
    """Metres; A = M + T rows: macro targets (ethnicity × sex × age, then body build), then identity targets."""
    expression_offsets: Float32[Array, "U V*3"]
    """Metres; expression units at full strength."""
    skull_index: Int32[Array, " S"]
    """Vertices of the cranium, by which heads are aligned."""
    skull_reference: Float32[Array, "S 3"]
    """Metres; where the mean head has them."""
    lid_index: Int32[Array, "2 2 3"]
    """Pairs of facing eyelid vertices: side (left, right) × lid (upper, lower) × place along the lid."""
    target_channel: Int32[Array, " T"]
    """Which random channel drives an identity target."""
    target_direction: Float32[Array, " T"]
    """+1 or -1: the sign of the channel at which the target acts."""
    target_side: Float32[Array, " T"]
    """+1 left, -1 right, 0 both."""
    target_strength: Float32[Array, " T"]
    """Standard deviation of the activation."""
    unit_group: Int32[Array, " U"]
    """Units that act together: the left and the right one, or the two directions of one motion."""
    unit_direction: Float32[Array, " U"]
    """+1 or -1 for the two directions of one motion, else 0."""
    unit_side: Float32[Array, " U"]
    """+1 left, -1 right, 0 both."""
    unit_limit: Float32[Array, " U"]
    """Largest activation."""
    prototypes: Float32[Array, "P U"]
    """Units of named expressions at full strength."""
    channels: int = eqx.field(static=True)
    """Number of identity channels."""
    groups: int = eqx.field(static=True)
    """Number of unit groups."""
    couplings: tuple[tuple[str, int], ...] = eqx.field(static=True)
    """Row of each unit that a rule of `_draw_expression` names."""


@functools.cache
def load_population(path: Path | None = None) -> Population:
    """Read the population shipped with the package, or another file that the builder wrote.

    Raises `InputError` when the file is missing or is not a population.
    """
    if path is None:
        with resources.as_file(resources.files("diverse3d") / "assets" / "population.safetensors") as shipped:
            return _read(shipped)
    return _read(Path(path))


def _read(path: Path) -> Population:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise InputError(f"{path}: no such file; reinstall the package or run `diverse3d head build`")
    if path.stat().st_size > _LARGEST_FILE_BYTES:
        raise InputError(f"{path}: larger than a population file can be")
    try:
        with safe_open(path, framework="numpy") as file:
            table = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            couplings = json.loads((file.metadata() or {})["couplings"])
        base = table.pop("base")
        macro = table.pop("macro_offsets").astype(np.float32).reshape(-1, base.size)
        identity, expression = (
            _dense(table.pop(f"{k}_start"), table.pop(f"{k}_vertex"), table.pop(f"{k}_offset"), base)
            for k in ("identity", "expression")
        )
        return Population(
            base=jnp.asarray(base),
            neutral_offsets=jnp.asarray(np.concatenate([macro, identity])),
            expression_offsets=jnp.asarray(expression),
            channels=int(table["target_channel"].max()) + 1,
            groups=int(table["unit_group"].max()) + 1,
            couplings=tuple(sorted((str(name), int(row)) for name, row in couplings.items())),
            **{name: jnp.asarray(value) for name, value in table.items()},
        )
    except (SafetensorError, OSError, LookupError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not a population file of this version ({error})") from error


def _dense(start: np.ndarray, vertex: np.ndarray, offset: np.ndarray, base: np.ndarray) -> np.ndarray:
    dense = np.zeros((len(start) - 1, *base.shape), np.float32)
    dense[np.repeat(np.arange(len(start) - 1), np.diff(start)), vertex.astype(np.int64)] = offset
    return dense.reshape(len(dense), -1)


def sample(population: Population, *, key: PRNGKeyArray) -> HeadSample:
    """Draw one head: `vertices` and `neutral`, float32 [V, 3] in metres. `vmap` it over keys for more."""
    macro_key, identity_key, expression_key = jax.random.split(key, 3)
    activations = jnp.concatenate([_draw_macro(macro_key), _draw_identity(population, identity_key)])
    neutral = population.base + (activations @ population.neutral_offsets).reshape(population.base.shape)
    expression = _fit_lids(population, _draw_expression(population, expression_key), neutral)
    offset = (expression @ population.expression_offsets).reshape(population.base.shape)
    rotation, shift = align(neutral[population.skull_index], population.skull_reference)
    aligned = neutral @ rotation.T + shift[None, :]
    return HeadSample(vertices=aligned + offset @ rotation.T, neutral=aligned)


def split(name: str, count: int, *, start: int = 0, population: Population | None = None) -> HeadSample:
    """Heads `start` … `start + count - 1` of a fixed split ("train", "validation", "test"): [count, V, 3].

    Head i is the same bit for bit whatever `start` and `count` are. Raises `InputError` for an unknown split.
    """
    if name not in SPLITS:
        raise InputError(f"unknown split {name!r}; choose one of {', '.join(SPLITS)}")
    if count < 1 or start < 0:
        raise InputError(f"a split needs count ≥ 1 and start ≥ 0, not count {count} and start {start}")
    population = load_population() if population is None else population
    seed = jax.random.key(SPLITS[name], impl="threefry2x32")
    first, last = start // _CHUNK, math.ceil((start + count) / _CHUNK)
    # Gathered on the host: the batch may be far larger than what a device should hold twice.
    vertices, neutral = (np.empty((count, *population.base.shape), np.float32) for _ in range(2))
    for chunk in range(first, last):
        heads = _sample_chunk(population, seed, jnp.uint32(chunk * _CHUNK))
        low, high = max(start, chunk * _CHUNK), min(start + count, (chunk + 1) * _CHUNK)
        rows = slice(low - chunk * _CHUNK, high - chunk * _CHUNK)
        vertices[low - start : high - start] = np.asarray(heads.vertices)[rows]
        neutral[low - start : high - start] = np.asarray(heads.neutral)[rows]
    return HeadSample(vertices=jnp.asarray(vertices), neutral=jnp.asarray(neutral))


@eqx.filter_jit
def _sample_chunk(population: Population, seed: PRNGKeyArray, first: Array) -> HeadSample:
    keys = jax.vmap(lambda i: jax.random.fold_in(seed, i))(first + jnp.arange(_CHUNK, dtype=jnp.uint32))
    return jax.vmap(lambda key: sample(population, key=key))(keys)


def align(
    points: Float[Array, "S 3"], reference: Float[Array, "S 3"]
) -> tuple[Float[Array, "3 3"], Float[Array, " 3"]]:
    """Rotation and shift (metres) that bring `points` nearest to `reference` in least squares (Kabsch)."""
    centre, goal = points.mean(axis=0), reference.mean(axis=0)
    u, _, vt = jnp.linalg.svd((points - centre[None, :]).T @ (reference - goal[None, :]))
    sign = jnp.sign(jnp.linalg.det(u @ vt))
    last = jnp.stack([jnp.ones_like(sign), jnp.ones_like(sign), sign])
    rotation = (vt.T * last[None, :]) @ u.T
    return rotation, goal - rotation @ centre


def _uniform(key: PRNGKeyArray, shape: tuple[int, ...] = (), low: float = 0.0, high: float = 1.0) -> Array:
    return jax.random.uniform(key, shape, jnp.float32, low, high)


def _normal(key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> Array:
    return jax.random.normal(key, shape, jnp.float32)


def _draw_macro(key: PRNGKeyArray) -> Float32[Array, " M"]:
    """Convex weights over ethnicity × sex × age (child, young, old); then sex × (young, old) × body build.

    The four builds are the corners thin and weak, thin and strong, heavy and weak, heavy and strong.
    """
    keys = jax.random.split(key, 6)
    # Normalised powers of exponentials: a Dirichlet draw at power 1, more often near one corner above it.
    mixture = jax.random.exponential(keys[0], (3,), jnp.float32) ** 1.6
    ethnicity = mixture / mixture.sum()
    male = jax.nn.sigmoid(4.0 * _normal(keys[1]))
    sex = jnp.stack([1.0 - male, male])
    child = jnp.where(_uniform(keys[2]) < _CHILD_SHARE, _uniform(keys[3], high=0.5), jnp.float32(0.0))
    # Not more than 0.85 of the oldest heads, whose folds of skin go through each other in the source.
    old = (1.0 - child) * 0.85 * _uniform(keys[4]) ** 1.6
    age = jnp.stack([child, 1.0 - child - old, old])
    person = ethnicity[:, None, None] * sex[None, :, None] * age[None, None, :]
    weight, muscle = _uniform(keys[5], (2,), -1.0, 1.0)
    build = jnp.stack([jax.nn.relu(w) * jax.nn.relu(m) for w in (-weight, weight) for m in (-muscle, muscle)])
    adult = sex[:, None] * (age[1:] + jnp.stack([child, jnp.zeros_like(child)]))[None, :]
    return jnp.concatenate([person.reshape(-1), (adult[:, :, None] * build[None, None, :]).reshape(-1)])


def _draw_identity(population: Population, key: PRNGKeyArray) -> Float32[Array, " T"]:
    """Bounded one-sided activations; left and right share most of their channel."""
    shared, lateral = _normal(key, (2, population.channels))
    channel = population.target_channel
    level = shared[channel] + _ASYMMETRY * population.target_side * lateral[channel]
    raw = population.target_strength * jax.nn.relu(population.target_direction * level)
    return _IDENTITY_LIMIT * jnp.tanh(raw / _IDENTITY_LIMIT)


def _draw_expression(population: Population, key: PRNGKeyArray) -> Float32[Array, " U"]:
    """A quarter neutral; else a named expression at some strength; else two to six random groups of units."""
    keys = jax.random.split(key, 12)
    units, groups = population.unit_group.shape[0], population.groups
    group, side, row = population.unit_group, population.unit_side, dict(population.couplings)

    # Named expressions: strength, a little of each unit's own, and a slightly stronger side.
    which = jax.random.randint(keys[0], (), 0, population.prototypes.shape[0], jnp.int32)
    own = _uniform(keys[1], (groups,), 0.7, 1.1)[group] * (1.0 + 0.15 * _normal(keys[2]) * side)
    named = _uniform(keys[3], low=0.25) * own * population.prototypes[which]

    # Random units: the groups with the highest scores; mostly both sides alike, sometimes one side only.
    number = jax.random.randint(keys[4], (), 2, 7, jnp.int32)
    rank = jnp.argsort(jnp.argsort(_uniform(keys[5], (groups,)))).astype(jnp.int32)
    level = jnp.where(rank < number, _uniform(keys[6], (groups,), 0.1, 0.9), jnp.float32(0.0))
    lopsided = jnp.sign(_normal(keys[7], (groups,))) * (_uniform(keys[8], (groups,)) < 0.2).astype(jnp.float32)
    towards = jnp.sign(_normal(keys[9], (groups,)))[group]
    one_sided = jax.nn.relu(1.0 + 0.9 * jnp.minimum(side * lopsided[group], 0.0))
    directed = jnp.where(population.unit_direction == 0.0, 1.0, jax.nn.relu(population.unit_direction * towards))
    random = level[group] * one_sided * directed

    mode = _uniform(keys[10])
    raw = jnp.where(mode < _NEUTRAL_SHARE + _PROTOTYPE_SHARE, named, random)
    raw = jnp.where(mode < _NEUTRAL_SHARE, jnp.zeros((units,), jnp.float32), raw)
    raw = jnp.clip(raw, 0.0, population.unit_limit)

    # `mouthClose` brings the lips together over an open jaw and means nothing without one.
    lips = jnp.where(_uniform(keys[11]) < 0.15, jnp.float32(0.85), jnp.float32(0.0))
    raw = raw.at[row["mouthClose"]].set(lips * raw[row["jawOpen"]])
    # A lid that blinks has nothing left to squint or open with.
    for name in ("Left", "Right"):
        blink = raw[row[f"eyeBlink{name}"]]
        for other in ("eyeSquint", "eyeWide", "eyeLookDown", "cheekSquint"):
            raw = raw.at[row[f"{other}{name}"]].multiply(1.0 - blink)
    return raw


def _fit_lids(population: Population, raw: Float32[Array, " U"], neutral: Float32[Array, "V 3"]) -> Array:
    """Scale the blinks to the opening of this head's eyes: the units were modelled on the base head's."""
    row = dict(population.couplings)

    def opening(vertices: Array) -> Array:
        upper_lower = vertices[population.lid_index]
        return jnp.linalg.norm(upper_lower[:, 0] - upper_lower[:, 1], axis=-1).mean(axis=-1)

    ratio = jnp.clip(opening(neutral) / opening(population.base), 0.95, 1.25)
    for side, name in enumerate(("Left", "Right")):
        raw = raw.at[row[f"eyeBlink{name}"]].multiply(ratio[side])
    return raw
