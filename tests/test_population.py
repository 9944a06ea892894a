"""The population: fixed splits, bounded draws, rigid alignment, one result in single and in strict double sessions."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import check_derivatives, rotation_about

from diverse3d._errors import InputError
from diverse3d.head import population as module
from diverse3d.head.population import align, load_population, sample, split

GOLDEN = Path(__file__).parent / "goldens" / "population.json"


@pytest.fixture(scope="module")
def population():
    return load_population()


@pytest.fixture(scope="module")
def heads(population):
    return split("validation", 256, population=population)


def test_a_head_of_a_split_does_not_depend_on_what_else_is_asked_for(population, heads):
    alone = split("validation", 1, start=70, population=population)
    across = split("validation", 4, start=62, population=population)
    for name in ("vertices", "neutral"):
        np.testing.assert_array_equal(getattr(alone, name)[0], getattr(heads, name)[70])
        np.testing.assert_array_equal(getattr(across, name), getattr(heads, name)[62:66])


def test_a_split_draws_each_head_from_its_own_key(population, heads):
    key = jax.random.fold_in(jax.random.key(module.SPLITS["validation"], impl="threefry2x32"), 5)
    head = sample(population, key=key)
    np.testing.assert_allclose(head.vertices, heads.vertices[5], atol=2e-6)


def test_splits_are_the_ones_that_results_were_made_with(population):
    """A change here invalidates every trained weight and every benchmark: it must be meant."""
    golden = json.loads(GOLDEN.read_text())
    for name, expected in golden["vertices_m"].items():
        found = np.asarray(split(name, golden["heads"], population=population).vertices)[:, golden["vertex"]]
        np.testing.assert_allclose(found, expected, atol=5e-6)


def test_splits_share_no_head(population, heads):
    other = split("test", 64, population=population).neutral
    gap = jnp.abs(other[:, None, ::97] - heads.neutral[None, :, ::97]).max(axis=(2, 3))
    assert float(gap.min()) > 1e-4


def test_a_quarter_is_neutral_and_the_rest_moves_by_centimetres_at_most(heads):
    moved = np.abs(np.asarray(heads.vertices - heads.neutral)).max(axis=(1, 2))
    assert 0.15 < (moved == 0).mean() < 0.35
    assert 0.02 < moved.max() < 0.07


def test_heads_have_the_size_of_heads(heads):
    extent = np.asarray(heads.neutral.max(axis=1) - heads.neutral.min(axis=1))
    width, _, depth = extent.T
    assert width.min() > 0.13 and width.max() < 0.22
    assert depth.min() > 0.15 and depth.max() < 0.26
    spread = np.asarray(heads.neutral).std(axis=0)
    assert 0.002 < np.sqrt((spread**2).sum(axis=1).mean()) < 0.012


def test_neutral_heads_lie_aligned_on_the_skull(population, heads):
    for neutral in heads.neutral[:8]:
        rotation, shift = align(neutral[population.skull_index], population.skull_reference)
        np.testing.assert_allclose(rotation, np.eye(3), atol=1e-5)
        np.testing.assert_allclose(shift, 0.0, atol=1e-6)


def test_the_skull_does_not_move_with_the_expression(population, heads):
    moved = jnp.abs((heads.vertices - heads.neutral)[:, population.skull_index]).max()
    assert float(moved) < 0.006  # brows reach its edge


def test_alignment_undoes_a_rigid_motion_and_never_mirrors(rng):
    points = rng.standard_normal((40, 3))
    turn, shift = rotation_about(np.array([0.6, 0.0, 0.8]), 0.7), np.array([0.3, -2.0, 1.0])
    rotation, back = align(jnp.asarray(points @ turn.T + shift), jnp.asarray(points))
    np.testing.assert_allclose(rotation, turn.T, atol=1e-12)
    np.testing.assert_allclose(
        (points @ turn.T + shift) @ np.asarray(rotation).T + np.asarray(back), points, atol=1e-12
    )
    mirrored, _ = align(jnp.asarray(points * [-1.0, 1.0, 1.0]), jnp.asarray(points))
    assert float(jnp.linalg.det(mirrored)) == pytest.approx(1.0)


def test_alignment_is_differentiable(rng):
    reference = jnp.asarray(rng.standard_normal((12, 3)))
    points = reference + 0.1 * jnp.asarray(rng.standard_normal((12, 3)))
    check_derivatives(lambda p: align(p, reference), points, tolerance=1e-6)


def test_activations_are_one_sided_and_bounded(population, key):
    keys = jax.random.split(key, 200)
    expression = jax.vmap(lambda k: module._draw_expression(population, k))(keys)
    assert float(expression.min()) >= 0 and bool((expression <= population.unit_limit[None, :]).all())
    identity = jax.vmap(lambda k: module._draw_identity(population, k))(keys)
    assert float(identity.min()) >= 0 and float(identity.max()) < module._IDENTITY_LIMIT
    person = jax.vmap(module._draw_macro)(keys)[:, :18]
    np.testing.assert_allclose(person.sum(axis=1), 1.0, atol=1e-6)
    assert float(person.min()) >= 0


def test_opposite_targets_are_never_drawn_together(population, key):
    activation = np.asarray(module._draw_identity(population, key))
    channel, direction, side = (
        np.asarray(getattr(population, f"target_{name}")) for name in ("channel", "direction", "side")
    )
    active = {(c, s, d) for c, s, d, a in zip(channel, side, direction, activation, strict=True) if a > 0}
    assert active and not any((c, s, -d) in active for c, s, d in active)


def test_left_and_right_targets_share_most_of_their_channel(population, key):
    drawn = np.asarray(jax.vmap(lambda k: module._draw_identity(population, k))(jax.random.split(key, 300)))
    channel, direction, side = (
        np.asarray(getattr(population, f"target_{name}")) for name in ("channel", "direction", "side")
    )
    left = int(np.flatnonzero(side == 1)[0])
    right = int(np.flatnonzero((channel == channel[left]) & (direction == direction[left]) & (side == -1))[0])
    assert 0.8 < np.corrcoef(drawn[:, left], drawn[:, right])[0, 1] < 0.999


def test_single_precision_session_draws_the_same_heads(population, heads):
    with jax.enable_x64(False):
        again = split("validation", 2, population=population)
    assert again.vertices.dtype == jnp.float32
    np.testing.assert_allclose(again.vertices, heads.vertices[:2], atol=2e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("training", 3), "choose one of train, validation, test"),
        (("test", 0), "count ≥ 1"),
    ],
)
def test_wrong_splits_are_refused(population, arguments, message):
    with pytest.raises(InputError, match=message):
        split(*arguments, population=population)


def test_files_that_are_no_population_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        load_population(tmp_path / "absent.safetensors")
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00not json")
    with pytest.raises(InputError, match="not a population file"):
        load_population(damaged)
