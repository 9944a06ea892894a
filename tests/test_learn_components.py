"""Training of the component model: a bank of heads, the closed form as a matrix for each mask, the energy score."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_learn import SIGMA_M, draw_from, source_of

import meshvae
from diverse3d.diversify import N_RIGID, ComponentConfig, make_component_model
from diverse3d.fit import isotropic_noise
from diverse3d.learn import (
    ComponentSource,
    TrainedComponents,
    behind,
    component_scores,
    component_views,
    fill_bank,
    linearise,
    make_basis,
)


@pytest.fixture(scope="module")
def network(tiny_head):
    unknowns = tiny_head.n_components + 3 * tiny_head.n_joints + N_RIGID
    sizes = ComponentConfig(hidden=16, latent=4, clusters=6)
    return make_component_model(tiny_head, unknowns, sizes, key=jax.random.key(2))


@pytest.fixture(scope="module")
def setup(tiny_head):
    """The linearised head, its noise, two masks, and a basis for its heads."""
    noise = isotropic_noise(tiny_head, SIGMA_M, "exact")
    height = np.asarray(tiny_head.template_m)[:, 1]
    linear = linearise(tiny_head, noise)
    basis = make_basis(linear, np.asarray(draw_from(tiny_head)(20, jax.random.key(3))))
    return linear, noise, np.stack([height < 0, height > 0.02]), basis


@pytest.fixture(scope="module")
def source(tiny_head, setup):
    linear, noise, hidden, basis = setup
    views = component_views(linear, noise, basis, hidden, np.zeros((0, tiny_head.n_vertices * 3)))
    bank = fill_bank(basis, draw_from(tiny_head), 12, key=jax.random.key(4), report=lambda text: None)
    return ComponentSource(bank, bank[:8], views, views, batch=4)


def test_a_basis_gives_heads_back(tiny_head, setup, rng):
    """Of its components and, where it was made for more, of what they can't express."""
    linear, *_, basis = setup
    heads = draw_from(tiny_head)(3, jax.random.key(9))
    offsets = heads.reshape(3, -1) - basis.centre_m[None, :]
    np.testing.assert_allclose(basis.weights(heads) @ basis.rows_m, offsets, atol=1e-9)
    bent = np.asarray(heads) + 1e-3 * rng.normal(size=heads.shape)
    wider = make_basis(linear, bent)
    offsets = bent.reshape(3, -1) - np.asarray(wider.centre_m)
    np.testing.assert_allclose(wider.weights(jnp.asarray(bent)) @ wider.rows_m, offsets, atol=1e-9)


def test_a_bank_holds_what_was_drawn(tiny_head, setup):
    *_, basis = setup
    told = []
    bank = fill_bank(basis, draw_from(tiny_head), 5, key=jax.random.key(4), report=told.append)
    drawn = draw_from(tiny_head)(5, jax.random.fold_in(jax.random.key(4), 0))
    np.testing.assert_allclose(bank, basis.weights(drawn), atol=1e-12)
    assert told == ["heads drawn: 5 of 5"]


def test_examples_in_unknowns_are_those_on_the_mesh(tiny_head, setup, source, key):
    """Against the closed form that the mesh model's examples use."""
    linear, noise, hidden, basis = setup
    heads = draw_from(tiny_head)(6, jax.random.key(9))
    ours = behind(source.views, basis.weights(heads).reshape(2, 3, -1), key=key)
    for group in range(2):
        number = int(np.argmax((np.asarray(ours.visible[group]) == ~hidden).all(1)))
        drawn = heads[3 * group : 3 * group + 3]
        meshes = source_of(tiny_head, (linear, noise, hidden, None), [number], lambda count, key, drawn=drawn: drawn)
        meshes = meshes.examples(3, progress=0.0, key=key)
        np.testing.assert_allclose(ours.factor[group], meshes.correction[0], atol=1e-7)
        target = np.asarray(meshes.target)[:, hidden[number]]
        rms = np.sqrt((target**2).sum(2).mean(1))
        np.testing.assert_allclose(np.linalg.norm(ours.error[group], axis=1), rms, rtol=1e-3)


def test_errors_move_the_mean_as_their_fields_do(tiny_head, setup, rng):
    """Covariance of what the fields add to a mean, field by field."""
    linear, noise, hidden, basis = setup
    fields = 1e-3 * rng.normal(size=(40, tiny_head.n_vertices * 3))
    views = component_views(linear, noise, basis, hidden[:1], fields)
    rows = np.asarray(linear.jacobian_m)[:, np.repeat(~hidden[0], 3)]
    normal = rows @ rows.T / SIGMA_M**2 + np.diag(np.asarray(linear.root) ** 2)
    pull = np.linalg.solve(normal, rows @ fields[:, np.repeat(~hidden[0], 3)].T / SIGMA_M**2)[: linear.shape_m.shape[0]]
    drawn = np.asarray(views.error[0])
    np.testing.assert_allclose(drawn.T @ drawn, pull @ pull.T / 40, rtol=1e-5, atol=1e-8)


def test_the_energy_score_of_silence_is_the_posterior_s(source, network, key):
    """Scores of a random network and of nothing decoded, which is the posterior, by the textbook formula."""
    one = jax.tree.map(lambda leaf: leaf[0], source.examples(4, progress=0.0, key=key))
    score, _, _ = component_scores(network, one, samples=4, key=key)
    assert score.shape == one.mean.shape[:1] and bool((score > 0).all())
    silent = eqx.tree_at(
        lambda m: (m.decoder.layers[-1].weight, m.decoder.layers[-1].bias, m.gate.weight),
        network, replace_fn=jnp.zeros_like,
    )  # fmt: skip
    silent = eqx.tree_at(lambda m: m.gate.bias, silent, replace_fn=lambda bias: jnp.full_like(bias, 40.0))
    got = float(component_scores(silent, one, samples=2000, key=key)[0][0])
    draws = (
        np.random.default_rng(0).standard_normal((2, 2000, one.mean.shape[1])) @ np.asarray(one.metric @ one.factor).T
    )
    expected = np.linalg.norm(draws[0] - np.asarray(one.error[0]), axis=1).mean()
    expected -= 0.5 * np.linalg.norm(draws[0] - draws[1], axis=1).mean()
    assert got == pytest.approx(expected, rel=0.05)


def test_components_learn_and_go_on_where_they_stopped(network, source, tmp_path, optax_promotion):
    model = TrainedComponents(network)
    config = meshvae.TrainConfig(steps=6, batch=4, warmup=1, validate_every=3, energy_samples=2)
    whole = meshvae.train(model, source, config, surface=None, out=tmp_path / "whole")

    def stop(progress):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        meshvae.train(model, source, config, surface=None, out=tmp_path / "parts", report=stop)
    parts = meshvae.train(model, source, config, surface=None, out=tmp_path / "parts", resume=True)
    leaves = [jax.tree.leaves(eqx.filter(result.model, eqx.is_array)) for result in (whole, parts)]
    for a, b in zip(*leaves, strict=True):
        np.testing.assert_array_equal(a, b)
    assert whole.steps == 6 and np.isfinite(whole.figures["loss"])
