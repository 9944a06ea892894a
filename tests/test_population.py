"""The population: fixed splits, identity from the head's own Gaussian, bounded expressions, one result in single and in
strict double sessions."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import tiny_arrays
from safetensors.numpy import save_file

import diverse3d
from diverse3d._errors import InputError
from diverse3d.head import load_head
from diverse3d.head import population as module
from diverse3d.head.population import load_population, sample, split

GOLDEN = Path(__file__).parent / "goldens" / "population.json"
SHIPPED = Path(diverse3d.__file__).parent / "assets" / "population.safetensors"


@pytest.fixture(scope="module")
def population():
    return load_population()


@pytest.fixture(scope="module")
def heads(population):
    return split("validation", 256, population=population)


def restricted(population, vertices):
    """The same population on a few vertices, and on those that its rules look at."""
    kept = np.unique(np.concatenate([np.asarray(population.lid_index).ravel(), vertices]))
    at = {int(vertex): row for row, vertex in enumerate(kept)}
    lids = np.vectorize(at.get)(np.asarray(population.lid_index)).astype(np.int32)

    def rows(table):
        return table.reshape(len(table), -1, 3)[:, kept].reshape(len(table), -1)

    small = dataclasses.replace(
        population,
        template=population.template[kept],
        identity=rows(population.identity),
        base=population.base[kept],
        expression_offsets=rows(population.expression_offsets),
        lid_index=jnp.asarray(lids),
    )
    return small, np.array([at[int(vertex)] for vertex in vertices])


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
    assert depth.min() > 0.15 and depth.max() < 0.27
    spread = np.asarray(heads.neutral).std(axis=0)
    assert 0.002 < np.sqrt((spread**2).sum(axis=1).mean()) < 0.012


def test_identity_is_the_heads_own_gaussian(population, key):
    """Mean and covariance of 2,000 neutral heads at some vertices, within what so many can say."""
    head, count = load_head(dtype=np.float32), 2000
    vertices = np.arange(100, head.n_vertices, 400)
    small, at = restricted(population, vertices)
    drawn = jax.vmap(lambda k: sample(small, key=k).neutral)(jax.random.split(key, count))
    drawn = np.asarray(drawn, np.float64)[:, at].reshape(count, -1)
    basis = np.asarray(head.components_m, np.float64).reshape(head.n_components, -1, 3)[:, vertices]
    rows = np.r_[: head.n_identity, head.n_identity + head.n_expression : head.n_components]
    basis = basis[rows].reshape(len(rows), -1)
    expected = basis.T @ basis
    deviation = np.sqrt(np.diag(expected))
    off = (drawn.mean(axis=0) - np.asarray(head.template_m, np.float64)[vertices].ravel()) / deviation
    assert np.abs(off).max() < 4.5 / np.sqrt(count)
    # Wick: the variance of an entry of the sample covariance is (Cᵢᵢ Cⱼⱼ + Cᵢⱼ²) / N.
    error = np.cov(drawn.T) - expected
    sampling = np.sqrt((np.outer(deviation, deviation) ** 2 + expected**2) / count)
    assert np.abs(error / sampling).max() < 5.0
    assert 0.8 < np.sqrt(np.mean((error / sampling) ** 2)) < 1.25


def test_coefficients_read_back_have_unit_variance_and_no_mean(population, heads):
    basis = np.asarray(population.identity, np.float64)
    assert len(basis) == load_head().n_identity + load_head().n_residual
    offsets = np.asarray(heads.neutral - population.template[None], np.float64).reshape(len(heads.neutral), -1)
    coefficients = np.linalg.solve(basis @ basis.T, basis @ offsets.T).T
    assert np.abs(offsets - coefficients @ basis).max() < 1e-6, "metres beyond identity and residual"
    assert 0.97 < np.mean(coefficients**2) < 1.03
    assert np.abs(coefficients.mean(axis=0)).max() < 5 / np.sqrt(len(coefficients))
    assert np.abs((coefficients**2).mean(axis=0) - 1).max() < 5 * np.sqrt(2 / len(coefficients))


def test_a_population_on_few_vertices_draws_the_same_heads(population, heads):
    vertices = np.array([3, 999, 4000])
    small, at = restricted(population, vertices)
    again = split("validation", 64, population=small)
    np.testing.assert_allclose(again.vertices[:, at], heads.vertices[:64, vertices], atol=1e-6)


def test_the_cranium_does_not_move_with_the_expression(population, heads):
    _, y, z = np.asarray(population.template).T
    cranium = (y > 0.06) | ((y > 0.005) & (z < -0.075))
    moved = np.abs(np.asarray(heads.vertices - heads.neutral)[:, cranium]).max()
    assert moved < 0.006  # brows reach its edge


def test_activations_are_one_sided_and_bounded(population, key):
    keys = jax.random.split(key, 200)
    expression = jax.vmap(lambda k: module._draw_expression(population, k))(keys)
    assert float(expression.min()) >= 0 and bool((expression <= population.unit_limit[None, :]).all())


def test_blinks_follow_the_opening_of_the_eyes(population):
    """A unit that shuts the base head's eyes is scaled to eyes that are wider open, within bounds."""
    row, base = dict(population.couplings), population.base
    raw = jnp.ones(population.unit_limit.shape, jnp.float32)
    lids = np.asarray(population.lid_index)
    for wider, expected in ((1.0, 1.0), (1.2, 1.2), (2.0, 1.25), (0.5, 0.95)):
        middle = base[lids].mean(axis=1, keepdims=True)
        eyes = middle + wider * (base[lids] - middle)
        neutral = base.at[lids.ravel()].set(eyes.reshape(-1, 3))
        fitted = module._fit_lids(population, raw, neutral)
        for name in ("eyeBlinkLeft", "eyeBlinkRight"):
            assert float(fitted[row[name]]) == pytest.approx(expected, abs=1e-4)
        assert int((fitted != 1).sum()) in (0, 2)


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
    save_file({"base": np.zeros((4, 3), np.float32)}, damaged)
    with pytest.raises(InputError, match="not a population file"):
        load_population(damaged)
    texts = {"couplings": "{}", "head_sha256": load_head().sha256}
    other = tmp_path / "incomplete.safetensors"
    save_file({"base": np.zeros((4, 3), np.float32)}, other, texts)
    with pytest.raises(InputError, match="not a population file"):
        load_population(other)


def test_the_population_of_another_head_is_refused(tmp_path):
    head = tmp_path / "tiny.safetensors"
    save_file(tiny_arrays(), head, {"name": "another one"})
    with pytest.raises(InputError, match=r"another head than 'another one'; build both together"):
        load_population(SHIPPED, head)
