"""The two models: what they may look at, their derivatives, their scale at the start, relabelling, memory."""

import dataclasses
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import trimesh
from safetensors import safe_open

import diverse3d
from meshvae import (
    PRESETS,
    Gaussian,
    InputError,
    MaskedVAE,
    ModelConfig,
    ResidualVAE,
    build_hierarchy,
    count_parameters,
    estimate_bytes,
    make_model,
    topology_fingerprint,
)
from meshvae._memory import _layers, _parameters, expected_parameters

TINY = ModelConfig(strides=(2, 1, 2), channels=(6, 8), basis=2, latent_channels=3)
KINDS = [
    dataclasses.replace(TINY, kind=kind, objective=objective, family=family)
    for kind, objective in (("masked", "evidence"), ("residual", "evidence"), ("residual", "energy"))
    for family in ("vcconv", "spiral")
]


def name(config: ModelConfig) -> str:
    return f"{config.kind}-{config.objective}-{config.family}"


def sphere():
    mesh = trimesh.creation.icosphere(1)
    rng = np.random.default_rng(5)
    return mesh.vertices + rng.normal(scale=1e-3, size=mesh.vertices.shape), mesh.faces.astype(np.int64)


@pytest.fixture(scope="module")
def hierarchy():
    return build_hierarchy(*sphere(), strides=TINY.strides)


@pytest.fixture
def seen(hierarchy, rng):
    """Offsets, a base and which vertices are visible."""
    count = hierarchy.sizes[0]
    offsets, base = jnp.asarray(rng.normal(size=(2, count, 3)))
    return offsets, base, jnp.asarray(rng.random(count) < 0.6)


def loss(model, offsets, base, visible, key):
    """Something that every parameter takes part in."""
    if isinstance(model, MaskedVAE):
        latent, prior = model.encode(offsets, visible), None
        result = model.decode(latent.sample(key=key))
    else:
        condition = model.condition(base, visible)
        latent, prior = condition.prior, None
        if model.config.objective == "evidence":
            latent, prior = model.encode(offsets, base, visible), condition.prior
        result = model.decode_conditioned(latent.sample(key=key), condition) + condition.share
    return jnp.mean(jnp.square(result - offsets)) + jnp.mean(latent.kl(prior))


# ---------------------------------------------------------------- configuration


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_a_configuration_survives_json(preset):
    assert ModelConfig.from_json(PRESETS[preset].to_json()) == PRESETS[preset]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not JSON"),
        ("[1]", "must be a JSON object"),
        ('{"depth": 3}', "unknown field 'depth'"),
        ('{"basis": "17"}', "'basis' .* cannot be '17'"),
        ('{"basis": true}', "'basis' .* cannot be True"),
        ('{"strides": [2, 1.5]}', "'strides' .* cannot be"),
        ('{"objective": "energy"}', "only a residual one"),
        ('{"kind": "diffusion"}', "no kind 'diffusion'; use masked or residual"),
        ('{"strides": [2, 2, 2]}', "3 strides"),
        ('{"basis": 0}', "between 1 and 16384"),
        ('{"residual_share": 1.0}', "below 1"),
        ('{"residual_share": NaN}', "below 1"),
        ('{"spiral_length": 12, "spiral_dilation": 4}', "must not exceed 36"),
    ],
)
def test_a_bad_configuration_is_one_sentence(text, said):
    with pytest.raises(InputError, match=said):
        ModelConfig.from_json(text)


def test_a_hierarchy_of_other_strides_is_refused(hierarchy, key):
    with pytest.raises(InputError, match=r"strides \(2, 1, 2\).*\(2, 2, 2\)"):
        make_model(dataclasses.replace(TINY, strides=(2, 2, 2)), hierarchy, key=key)
    with pytest.raises(InputError, match="no form of evaluation 'quick'"):
        make_model(TINY, hierarchy, key=key, form="quick")


@pytest.mark.parametrize("kind", ["masked", "residual"])
def test_a_mesh_of_another_size_is_refused(hierarchy, key, kind):
    model = make_model(dataclasses.replace(TINY, kind=kind), hierarchy, key=key)
    short, visible = jnp.zeros((41, 3)), jnp.ones(41, bool)
    with pytest.raises(InputError, match="a mesh of 42 vertices and was given 41"):
        model.encode(*([short] if kind == "masked" else [short, short]), visible)
    condition = () if kind == "masked" else (jnp.zeros((42, 3)), jnp.ones(42, bool))
    with pytest.raises(InputError, match=r"latent has shape \(\d+, 3\), not \(2, 5\)"):
        eqx.filter_eval_shape(model.decode, jnp.zeros((2, 5)), *condition)


# ---------------------------------------------------------------- the latent


def test_the_divergence_is_the_expected_log_ratio(key):
    one = Gaussian(jnp.array([[0.3]]), jnp.array([[-1.0]]))
    two = Gaussian(jnp.array([[-0.5]]), jnp.array([[0.4]]))
    z = jnp.linspace(-12.0, 12.0, 100_001)

    def log_density(g):
        return -0.5 * (
            jnp.square(z - g.mean[0, 0]) * jnp.exp(-g.log_variance[0, 0]) + g.log_variance[0, 0] + np.log(2 * np.pi)
        )

    p, q = log_density(one), log_density(two)
    expected = jnp.trapezoid(jnp.exp(p) * (p - q), z)
    np.testing.assert_allclose(one.kl(two)[0, 0], expected, rtol=1e-9)
    np.testing.assert_allclose(one.kl(), one.kl(Gaussian(jnp.zeros((1, 1)), jnp.zeros((1, 1)))))
    np.testing.assert_array_equal(one.kl(one), 0.0)


def test_samples_have_the_moments(key):
    latent = Gaussian(jnp.array([[2.0, -1.0]]), jnp.array([[-2.0, 1.0]]))
    draws = jax.vmap(lambda k: latent.sample(key=k))(jax.random.split(key, 20_000))
    np.testing.assert_allclose(jnp.mean(draws, 0), latent.mean, atol=0.05)
    np.testing.assert_allclose(jnp.log(jnp.var(draws, 0)), latent.log_variance, atol=0.05)


# ---------------------------------------------------------------- what a model may look at


@pytest.mark.parametrize("mask_channel", [True, False])
def test_a_masked_model_does_not_look_at_hidden_vertices(hierarchy, seen, key, mask_channel):
    model = make_model(dataclasses.replace(TINY, mask_channel=mask_channel), hierarchy, key=key)
    offsets, _, visible = seen
    encode = eqx.filter_jit(model.encode)
    latent = encode(offsets, visible)
    spoilt = encode(jnp.where(visible[:, None], offsets, jnp.nan), visible)
    np.testing.assert_array_equal(latent.mean, spoilt.mean)
    np.testing.assert_array_equal(latent.log_variance, spoilt.log_variance)
    empty = jnp.zeros_like(offsets)
    told = encode(empty, visible).mean - encode(empty, jnp.ones_like(visible)).mean
    assert bool(jnp.any(told != 0)) == mask_channel  # without the channel, hidden and zero look the same
    assert latent.mean.shape == model.latent_shape == (hierarchy.sizes[-1], 3)
    assert jax.eval_shape(model.decode, latent.mean).shape == offsets.shape


def test_a_residual_model_keeps_the_prior_from_the_truth(hierarchy, seen, key):
    model = make_model(dataclasses.replace(TINY, kind="residual"), hierarchy, key=key)
    residual, base, visible = seen
    prior, encode = eqx.filter_jit(model.prior), eqx.filter_jit(model.encode)
    condition, z = eqx.filter_jit(model.condition)(base, visible), encode(residual, base, visible).mean
    np.testing.assert_allclose(prior(base, visible).mean, condition.prior.mean, rtol=1e-12)
    conditioned = eqx.filter_jit(model.decode_conditioned)(z, condition)
    np.testing.assert_allclose(eqx.filter_jit(model.decode)(z, base, visible), conditioned, rtol=1e-9, atol=1e-12)
    moved = prior(base + 1.0, visible), prior(base, ~visible)
    assert all(bool(jnp.any(other.mean != condition.prior.mean)) for other in moved)
    assert bool(jnp.any(encode(residual + 1.0, base, visible).mean != z))


def test_the_gate_closes_visible_vertices_only(hierarchy, seen, key):
    model = make_model(dataclasses.replace(TINY, kind="residual"), hierarchy, key=key)
    _, base, visible = seen
    z, decode = jnp.ones(model.latent_shape), jax.jit(ResidualVAE.decode)
    opened, closed = (
        decode(eqx.tree_at(lambda m: m.gate, model, jnp.full(model.n_vertices, logit)), z, base, visible)
        for logit in (40.0, -40.0)
    )
    np.testing.assert_allclose(closed, jnp.where(visible[:, None], 0.0, opened), atol=1e-12)


# ---------------------------------------------------------------- derivatives, batches, precision


@pytest.mark.parametrize("config", KINDS, ids=name)
def test_every_parameter_has_a_derivative_and_it_is_right(hierarchy, seen, key, rng, config):
    model = make_model(config, hierarchy, key=key)
    parameters, constants = eqx.partition(model, eqx.is_inexact_array)

    @jax.jit
    def value(parameters):
        return loss(eqx.combine(parameters, constants), *seen, key)

    gradient = jax.jit(jax.grad(value))(parameters)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        assert jnp.all(jnp.isfinite(leaf)), path
        assert jnp.any(leaf != 0), jax.tree_util.keystr(path)
    direction = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)), parameters)
    along = sum(jnp.vdot(g, d) for g, d in zip(jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True))

    def moved(step):
        return value(jax.tree.map(lambda leaf, d: leaf + step * d, parameters, direction))

    np.testing.assert_allclose(along, (moved(1e-6) - moved(-1e-6)) / 2e-6, rtol=1e-5)


@pytest.mark.parametrize("config", KINDS, ids=name)
def test_a_batch_gives_what_its_samples_give(hierarchy, key, rng, config):
    model = make_model(config, hierarchy, key=key)
    offsets, base = jnp.asarray(rng.normal(size=(2, 3, model.n_vertices, 3)))
    visible, keys = jnp.asarray(rng.random((3, model.n_vertices)) < 0.5), jax.random.split(key, 3)
    one = jax.jit(lambda *sample: loss(model, *sample))
    together = jax.jit(jax.vmap(lambda *sample: loss(model, *sample)))(offsets, base, visible, keys)
    np.testing.assert_allclose(
        together, [one(*sample) for sample in zip(offsets, base, visible, keys, strict=True)], rtol=1e-10
    )


@pytest.mark.parametrize("config", KINDS, ids=name)
def test_single_precision_stays_single(hierarchy, key, rng, single_precision, config):
    model = make_model(config, hierarchy, key=key)
    assert {leaf.dtype for leaf in jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array))} == {np.dtype(np.float32)}
    offsets = jnp.asarray(rng.normal(size=(model.n_vertices, 3)), jnp.float32)
    value = jax.eval_shape(lambda m, o: loss(m, o, o, jnp.ones(m.n_vertices, bool), key), model, offsets)
    assert value.dtype == jnp.float32


@pytest.mark.parametrize("kind", ["masked", "residual"])
def test_every_form_of_evaluation_gives_the_same_model(hierarchy, seen, key, single_precision, kind):
    config = dataclasses.replace(TINY, kind=kind)
    seen = (*(a.astype(jnp.float32) for a in seen[:2]), seen[2])
    losses = []
    for form in ("reference", "dense", "block", "auto"):
        model = make_model(config, hierarchy, key=key, form=form)
        losses.append(jax.jit(lambda m, *s: loss(m, *s, key))(model, *seen))
    np.testing.assert_allclose(losses, losses[0], rtol=1e-5)


@pytest.mark.parametrize("config", KINDS, ids=name)
def test_absurd_offsets_give_finite_numbers(hierarchy, key, config):
    model = make_model(config, hierarchy, key=key)
    huge = jnp.full((model.n_vertices, 3), 1e6)
    visible = jnp.ones(model.n_vertices, bool)
    inputs = (huge, huge, visible) if (config.kind, config.objective) == ("residual", "evidence") else (huge, visible)
    latent = eqx.filter_jit(model.prior if config.objective == "energy" else model.encode)(*inputs)
    assert jnp.all(jnp.abs(latent.log_variance) <= 12.0)
    assert jnp.all(jnp.isfinite(latent.kl())) and jnp.all(jnp.isfinite(latent.sample(key=key)))


@pytest.mark.parametrize("config", KINDS, ids=name)
def test_relabelled_vertices_give_relabelled_results(seen, key, rng, config):
    vertices, faces = sphere()
    new = rng.permutation(len(vertices))  # the new label of each vertex
    old = np.argsort(new)
    model = make_model(config, build_hierarchy(vertices, faces, strides=TINY.strides), key=key)
    other = make_model(config, build_hierarchy(vertices[old], new[faces], strides=TINY.strides), key=key)
    offsets, base, visible = seen
    encodes_residuals = (config.kind, config.objective) == ("residual", "evidence")
    latents = [
        eqx.filter_jit(m.prior if config.objective == "energy" else m.encode)(
            *((o, b, v) if encodes_residuals else (o, v))
        )
        for m, o, b, v in ((model, offsets, base, visible), (other, offsets[old], base[old], visible[old]))
    ]
    np.testing.assert_allclose(latents[0].mean, latents[1].mean, atol=1e-10)
    z = latents[0].mean
    condition = [(), ()] if config.kind == "masked" else [(base, visible), (base[old], visible[old])]
    before, after = eqx.filter_jit(model.decode)(z, *condition[0]), eqx.filter_jit(other.decode)(z, *condition[1])
    np.testing.assert_allclose(after, before[old], atol=1e-10)
    assert model.fingerprint == topology_fingerprint(faces, len(vertices)) != other.fingerprint


def test_a_model_learns_its_few_meshes(hierarchy, key, rng, optax_promotion):
    """Eight smooth shapes of two dimensions."""
    vertices, _ = sphere()
    shapes = np.stack([vertices * np.array([1.0, 0.0, 0.0]), vertices[:, [1, 2, 0]] * vertices[:, :1]])
    offsets = jnp.asarray(np.einsum("bk,kvc->bvc", rng.normal(size=(8, 2)), shapes))
    visible = jnp.ones((8, offsets.shape[1]), bool)
    parameters, constants = eqx.partition(make_model(TINY, hierarchy, key=key), eqx.is_inexact_array)
    optimiser = optax.adam(1e-2)

    def error(parameters):
        model = eqx.combine(parameters, constants)
        results = jax.vmap(lambda o, v: model.decode(model.encode(o, v).mean))(offsets, visible)
        return jnp.mean(jnp.square(results - offsets))

    def step(_, carry):
        parameters, state = carry
        updates, state = optimiser.update(jax.grad(error)(parameters), state)
        return optax.apply_updates(parameters, updates), state

    @jax.jit
    def train(parameters):
        trained, _ = jax.lax.fori_loop(0, 150, step, (parameters, optimiser.init(parameters)))
        return error(trained)

    assert train(parameters) < 0.05 * jnp.mean(jnp.square(offsets))


# ---------------------------------------------------------------- sizes


def head_hierarchy(preset: str):
    with safe_open(Path(diverse3d.__file__).parent / "assets" / "head.safetensors", "numpy") as file:
        vertices, faces = file.get_tensor("template").astype(np.float64), file.get_tensor("faces").astype(np.int64)
    config = PRESETS[preset]
    return vertices, build_hierarchy(vertices, faces, strides=config.strides, method=config.hierarchy)


@pytest.mark.parametrize("preset", ["small", "small-residual"])
def test_activations_neither_explode_nor_vanish(preset, key, single_precision):
    vertices, hierarchy = head_hierarchy(preset)
    model = make_model(PRESETS[preset], hierarchy, key=key)
    smooth = jnp.asarray(np.sin(vertices / 0.05), jnp.float32) * 2.0**0.5  # as population offsets: RMS 1, smooth
    visible = jnp.asarray(vertices[:, 1] < np.median(vertices[:, 1]))

    @jax.jit
    def activations(model, z):
        encoder = model.encoder if isinstance(model, MaskedVAE) else model.conditioner
        x = jnp.concatenate([smooth, visible[:, None].astype(jnp.float32)], axis=1)[model.order]
        features, latent = encoder(x, model.down, model.config)
        result = model.decode(z) if isinstance(model, MaskedVAE) else model.decode(z, smooth, visible)
        return (*features, latent.mean, result)

    for activation in activations(model, jax.random.normal(key, model.latent_shape)):
        assert activation.dtype == jnp.float32
        assert 0.15 < float(jnp.std(activation)) < 1.5


def test_the_full_size_is_that_of_the_tables():
    """Counted without being made. The widths of the tables and 17 kernels give twice their 9 M and 8 M; 9 kernels those."""
    _, hierarchy = head_hierarchy("full")

    def millions(config):
        counts = [heads * _parameters(step, a, b, config) for step, a, b, heads in _layers(config, hierarchy)]
        steps = len(config.strides)
        return sum(counts[:steps]) / 1e6, sum(counts[steps:]) / 1e6

    assert millions(PRESETS["full"]) == pytest.approx((16.25, 15.08), abs=0.01)
    assert millions(dataclasses.replace(PRESETS["full"], basis=9)) == pytest.approx((9.1, 8.4), abs=0.2)


@pytest.mark.parametrize("config", KINDS, ids=name)
def test_parameters_are_counted_before_they_are_made(hierarchy, key, config):
    assert expected_parameters(config, hierarchy) == count_parameters(make_model(config, hierarchy, key=key))


@pytest.mark.parametrize("config", KINDS, ids=name)
def test_the_memory_of_a_step_is_estimated_from_above(key, single_precision, config):
    """Against what the compiler plans for a gradient and its inputs and outputs."""
    mesh = trimesh.creation.icosphere(3)
    hierarchy = build_hierarchy(mesh.vertices.copy(), mesh.faces.astype(np.int64), strides=TINY.strides)
    parameters, constants = eqx.partition(make_model(config, hierarchy, key=key), eqx.is_inexact_array)
    batch = 16
    offsets = jnp.zeros((batch, hierarchy.sizes[0], 3), jnp.float32)
    visible, keys = jnp.ones(offsets.shape[:2], bool), jax.random.split(key, batch)

    def mean_loss(parameters):
        model = eqx.combine(parameters, constants)
        return jnp.mean(jax.vmap(lambda *s: loss(model, *s))(offsets, offsets, visible, keys))

    planned = jax.jit(jax.value_and_grad(mean_loss)).lower(parameters).compile().memory_analysis()
    peak = planned.temp_size_in_bytes + planned.argument_size_in_bytes + planned.output_size_in_bytes
    estimate = estimate_bytes(config, hierarchy, batch=batch)
    assert peak < estimate < 6 * peak
    assert estimate_bytes(config, hierarchy, batch=2 * batch) > estimate


def test_the_kinds_are_what_they_say(hierarchy, key):
    assert isinstance(make_model(TINY, hierarchy, key=key), MaskedVAE)
    assert isinstance(make_model(dataclasses.replace(TINY, kind="residual"), hierarchy, key=key), ResidualVAE)


def test_a_model_of_the_energy_score_has_no_encoder_and_keeps_a_share(hierarchy, seen, key):
    config = dataclasses.replace(TINY, kind="residual", objective="energy")
    model = make_model(config, hierarchy, key=key)
    _, base, visible = seen
    assert 0.5 < float(eqx.filter_jit(model.condition)(base, visible).share) < 1.0
    with pytest.raises(InputError, match="no encoder of residuals"):
        model.encode(base, base, visible)
    evidence = make_model(dataclasses.replace(config, objective="evidence"), hierarchy, key=key)
    assert float(eqx.filter_jit(evidence.condition)(base, visible).share) == 0.0
