"""A population of heads: identities drawn from the head's own Gaussian, expressions from MakeHuman's CC0 face units.

This is the data of all training and of all benchmarks. It needs nothing but files shipped with the package. Identity
is what the head file says of people (components and smooth residual), so the closed form is exact for it; expressions
are one-sided and bounded, which it can't express. Every head is drawn from its own key, so head i of a split is the
same whatever is asked for besides it.
"""

import functools
import math
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int32, PRNGKeyArray

from .._errors import InputError
from ..files import parse_json, read_safetensors
from ._file import load_head
from ._model import HeadModel

SPLITS = {"train": 1001, "validation": 2002, "test": 3003}
"""The fixed splits and their seeds."""

# Heads computed at once. A split is cut at multiples of it, so that every head comes out bit for bit alike.
_CHUNK = 64
_NEUTRAL_SHARE, _PROTOTYPE_SHARE = 0.25, 0.40  # the rest are random combinations of units


class HeadSample(eqx.Module):
    """One head of the population (or a batch of them, with a leading axis), in the head's frame."""

    vertices: Float[Array, "*batch V 3"]
    """Metres; identity and expression."""
    neutral: Float[Array, "*batch V 3"]
    """Metres; the same identity without expression."""


class Population(eqx.Module):
    """A head's Gaussian of identity, and expression units with how strongly they are drawn."""

    template: Float32[Array, "V 3"]
    """Metres; the mean head."""
    identity: Float32[Array, "K V*3"]
    """Metres a standard deviation: the head's identity components, then those of its smooth residual."""
    base: Float32[Array, "V 3"]
    """Metres; the head that the expression units were modelled on."""
    expression_offsets: Float32[Array, "U V*3"]
    """Metres; expression units at full strength."""
    lid_index: Int32[Array, "2 2 3"]
    """Pairs of facing eyelid vertices: side (left, right) × lid (upper, lower) × place along the lid."""
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
    groups: int = eqx.field(static=True)
    """Number of unit groups."""
    couplings: tuple[tuple[str, int], ...] = eqx.field(static=True)
    """Row of each unit that a rule of `_draw_expression` names."""


@functools.cache
def load_population(path: Path | None = None, head: Path | None = None) -> Population:
    """Read the population shipped with the package, or another file that the builder wrote for the head file `head`.

    Raises `InputError` when the file is missing, is not a population, or belongs to another head.
    """
    model = load_head(head, dtype=np.float32)
    if path is None:
        with resources.as_file(resources.files("diverse3d") / "assets" / "population.safetensors") as shipped:
            return _read(shipped, model)
    return _read(Path(path), model)


def _read(path: Path, head: HeadModel) -> Population:
    if not path.is_file():
        raise InputError(f"{path}: no such file; reinstall the package or run `diverse3d head build`")
    try:
        table, texts, _ = read_safetensors(path)
        couplings = parse_json(texts["couplings"].encode(), f"{path} (the couplings)")
    except (LookupError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not a population file of this version ({error})") from error
    if texts.get("head_sha256") != head.sha256:
        raise InputError(f"{path} is the population of another head than '{head.name}'; build both together")
    try:
        return population_of(head, table, couplings)
    except (LookupError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not a population file of this version ({error})") from error


def population_of(head: HeadModel, table: Mapping[str, np.ndarray], couplings: Mapping[str, int]) -> Population:
    """A head's Gaussian of identity with the expression units of a population file's arrays."""
    table = dict(table)
    base = table.pop("base")
    units = _dense(table.pop("expression_start"), table.pop("expression_vertex"), table.pop("expression_offset"), base)
    first = head.n_identity + head.n_expression
    rows = [head.components_m[: head.n_identity], head.components_m[first : first + head.n_residual]]
    return Population(
        template=head.template_m.astype(jnp.float32),
        identity=jnp.concatenate(rows).astype(jnp.float32),
        base=jnp.asarray(base),
        expression_offsets=jnp.asarray(units),
        groups=int(table["unit_group"].max()) + 1,
        couplings=tuple(sorted((str(name), int(row)) for name, row in couplings.items())),
        **{name: jnp.asarray(value) for name, value in table.items()},
    )


def _dense(start: np.ndarray, vertex: np.ndarray, offset: np.ndarray, base: np.ndarray) -> np.ndarray:
    dense = np.zeros((len(start) - 1, *base.shape), np.float32)
    dense[np.repeat(np.arange(len(start) - 1), np.diff(start)), vertex.astype(np.int64)] = offset
    return dense.reshape(len(dense), -1)


def sample(population: Population, *, key: PRNGKeyArray) -> HeadSample:
    """Draw one head: `vertices` and `neutral`, float32 [V, 3] in metres. `vmap` it over keys for more."""
    identity_key, expression_key = jax.random.split(key)
    coefficients = _normal(identity_key, population.identity.shape[:1])
    neutral = population.template + (coefficients @ population.identity).reshape(population.template.shape)
    expression = _fit_lids(population, _draw_expression(population, expression_key), neutral)
    offset = (expression @ population.expression_offsets).reshape(neutral.shape)
    return HeadSample(vertices=neutral + offset, neutral=neutral)


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
    vertices, neutral = (np.empty((count, *population.template.shape), np.float32) for _ in range(2))
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


def _uniform(key: PRNGKeyArray, shape: tuple[int, ...] = (), low: float = 0.0, high: float = 1.0) -> Array:
    return jax.random.uniform(key, shape, jnp.float32, low, high)


def _normal(key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> Array:
    return jax.random.normal(key, shape, jnp.float32)


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
