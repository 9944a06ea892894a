"""Trained models in stage 2: the hybrid's algebra, the selections, the files of weights and what is refused."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import meshvae
from diverse3d import complete
from diverse3d._errors import InputError
from diverse3d.cli._options import DiversifyOptions
from diverse3d.diversify import (
    N_RIGID,
    SAMPLE_TEXT,
    ComponentConfig,
    ComponentResidual,
    DiversifyConfig,
    Given,
    MaskedModel,
    MeshResidual,
    get_method,
    head_vertices,
    hybrid_sampler,
    interpolate,
    krige,
    load_learned,
    make_component_model,
    posterior,
    save_components,
    selected,
)
from diverse3d.diversify._choice import best_cover, best_support, hidden_distance, most_diverse
from diverse3d.diversify._completions import SAMPLE_OFF_VISIBLE, SAMPLE_REPAIRED
from diverse3d.diversify._hold import hold_together
from diverse3d.diversify._learned import coefficient_dual
from diverse3d.fit import fit, isotropic_noise
from diverse3d.observe import observe_mesh

CONFIG = DiversifyConfig().replace(pool=60, steps=30)
SIZES = ComponentConfig(hidden=16, latent=4, clusters=6)


@pytest.fixture(scope="module")
def task(tiny_head):
    """A head of which one half is seen, and its posterior."""
    rng = np.random.default_rng(3)
    truth = np.asarray(tiny_head.shaped(tiny_head.prior_mean + jnp.asarray(rng.normal(size=tiny_head.n_components))))
    seen = observe_mesh(truth, head=tiny_head, hidden=~(truth[:, 1] > 0.0))
    at = fit(seen, tiny_head)
    noise = isotropic_noise(tiny_head, 1e-3, "exact")
    return (tiny_head, at, posterior(tiny_head, at, noise)), noise, seen


def unknowns_of(head):
    return head.n_components + 3 * head.n_joints + 6


@pytest.fixture(scope="module")
def components(tiny_head):
    model = make_component_model(tiny_head, unknowns_of(tiny_head), SIZES, key=jax.random.key(2))
    return ComponentResidual("0" * 64, model)


@pytest.fixture(scope="module")
def mesh_model(tiny_head):
    config = meshvae.ModelConfig(
        kind="residual", objective="energy", strides=(2, 1, 2), channels=(6, 8), basis=2, latent_channels=3
    )
    template = np.asarray(tiny_head.template_m, np.float64)
    hierarchy = meshvae.build_hierarchy(template, np.asarray(tiny_head.faces), strides=config.strides)
    return MeshResidual(
        model=meshvae.make_model(config, hierarchy, key=jax.random.key(4)),
        template_m=tiny_head.template_m,
        scale_m=jnp.asarray(0.008),
        residual_scale_m=jnp.asarray(1e-3),
        dual=coefficient_dual(tiny_head),
        sha256="0" * 64,
    )


@pytest.mark.parametrize("kind", ["components", "mesh_model"])
def test_a_latent_without_noise_is_the_kriged_mean_with_the_decoded_part(task, kind, request, key):
    (head, at, belief, *_), noise, _ = task
    learned = request.getfixturevalue(kind)
    decode = hybrid_sampler(head, at, belief, learned, None)
    z = jax.random.normal(key, learned.model.latent_shape)
    latent = jnp.concatenate([z.reshape(-1), jnp.zeros_like(belief.mean)])
    delta = learned.coefficients(z, decode.condition)
    assert float(jnp.abs(delta).max()) > 0
    moved = belief.mean.at[: delta.size].add(delta)
    mean = head_vertices(head, belief.mean)
    expected = krige(head, at, belief, noise, head_vertices(head, moved), held_m=mean)
    np.testing.assert_allclose(decode.decode(latent), expected, atol=2e-6)


def test_without_a_decoded_part_samples_are_the_posterior_s(task, components, key):
    (head, at, belief, *_), _, _ = task
    silent = eqx.tree_at(
        lambda m: (m.model.decoder.layers[-1].weight, m.model.decoder.layers[-1].bias),
        components,
        replace_fn=jnp.zeros_like,
    )
    decode = hybrid_sampler(head, at, belief, silent, None)
    noise = jax.random.normal(key, belief.mean.shape)
    latent = jnp.concatenate([jnp.ones(4), noise])
    drawn = belief.mean + decode.condition.share * np.linalg.solve(np.asarray(belief.factor), np.asarray(noise))
    np.testing.assert_allclose(decode.point(latent), drawn, rtol=1e-9, atol=1e-12)
    assert 0.8 < float(decode.condition.share) < 1.0


def test_where_a_head_lies_is_not_looked_at(components, task, rng):
    (_, at, belief, *_), _, _ = task
    model = components.model
    mean = belief.mean[: model.unknowns]
    moved = mean.at[-N_RIGID:].add(jnp.asarray(rng.normal(size=N_RIGID)))
    for one, other in zip(*(jax.tree.leaves(model.condition(m, at.visible)) for m in (mean, moved)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_contraction_draws_samples_together(task, components, key):
    (head, at, belief, *_), _, _ = task
    one, half = (hybrid_sampler(head, at, belief, components, None, c) for c in (1.0, 0.5))
    latent = one.draw(1, key=key)[0]
    np.testing.assert_allclose(half.point(latent) - belief.mean, 0.5 * (one.point(latent) - belief.mean), atol=1e-12)


def test_cover_lies_nearer_to_a_pool_than_other_choices(task, key):
    (head, at, belief, *_), _, _ = task
    pool, fresh = (belief.samples(200, key=one) for one in jax.random.split(key))

    def closest(points):
        """RMS over a fresh pool of the distance to the closest point."""
        heads = jax.vmap(lambda point: head_vertices(head, point))(jnp.concatenate([points, fresh]))
        distance = np.asarray(hidden_distance(at, heads))[: len(points), len(points) :]
        return np.sqrt((distance.min(0) ** 2).mean())

    cover = jax.jit(lambda pool: best_cover(head, at, pool, 8))(pool)
    diverse = pool[most_diverse(head, at, pool, 8, CONFIG.kernel)]
    assert closest(cover) < closest(pool[:8]) and closest(cover) < closest(diverse)


def test_centres_are_not_spent_on_outliers(task, rng):
    """Two clusters and two members far off: two centres that start from those farthest apart would keep an outlier."""
    (head, at, belief, *_), _, _ = task
    near, far = (jnp.zeros_like(belief.mean).at[entry].set(1.0) for entry in (0, 1))
    heads = jax.vmap(lambda off: head_vertices(head, belief.mean + off))(jnp.stack([0.0 * near, near, far]))
    length = hidden_distance(at, heads)[0]
    far = 6.0 * length[1] / length[2] * far
    spread = 0.05 * rng.normal(size=(60, 1)) * near[None]
    pool = belief.mean[None] + jnp.concatenate([spread + near[None], spread - near[None], far[None], -far[None]])
    along = np.sort((best_cover(head, at, pool, 2) - belief.mean[None])[:, 0])
    np.testing.assert_allclose(along, [-1.0, 1.0], atol=0.1)


def test_support_points_stand_for_a_pool_best(task, key):
    (head, at, belief, *_), _, _ = task
    pool, fresh = (
        belief.samples(count, key=one) for count, one in zip((200, 1000), jax.random.split(key), strict=True)
    )

    def expected_score(points):
        """Energy score of the points, averaged over a fresh pool of truths."""
        heads = jax.vmap(lambda point: head_vertices(head, point))(jnp.concatenate([points, fresh]))
        distance = np.asarray(hidden_distance(at, heads))
        n = len(points)
        return distance[:n, n:].mean() - 0.5 * distance[:n, :n].mean()

    support = jax.jit(lambda pool: best_support(head, at, pool, 8))(pool)
    drawn = belief.mean[None] + 0.65 * (pool - belief.mean[None])
    others = (
        pool[:8],
        drawn[:8],
        drawn[most_diverse(head, at, drawn, 8, CONFIG.kernel)],
        best_cover(head, at, pool, 8),
    )
    assert expected_score(support) < min(map(expected_score, others))
    # One point lies where the sum of distances to the pool is least.
    one = best_support(head, at, pool, 1)
    near = one + 0.3 * (pool[:20] - one)
    assert expected_score(one) < min(expected_score(other[None]) for other in near)


@pytest.mark.parametrize("n", [1, 2, 4])
def test_a_pool_of_one_head_is_that_head(task, n):
    (head, at, belief, *_), _, _ = task
    same = jnp.ones((10, belief.mean.size))
    for choose in (best_cover, best_support):
        np.testing.assert_allclose(choose(head, at, same, n), np.ones((n, belief.mean.size)), rtol=1e-9)


def test_few_heads_many_times_over_are_still_a_pool(task, key):
    """More points than places to be: nothing pushes those apart that meet."""
    (head, at, belief, *_), _, _ = task
    few = belief.samples(5, key=key)
    for choose in (best_cover, best_support):
        chosen = choose(head, at, jnp.tile(few, (8, 1)), 12)
        heads = jax.vmap(lambda point: head_vertices(head, point))(jnp.concatenate([few, chosen]))
        distance = np.asarray(hidden_distance(at, heads))
        assert distance[:5, 5:].min(0).max() < 0.5 * distance[:5, :5].max()


def test_what_the_quality_of_a_latent_depends_on(tiny_head, mesh_model):
    config = dataclasses.replace(mesh_model.model.config, kind="masked", objective="evidence")
    template = np.asarray(tiny_head.template_m, np.float64)
    hierarchy = meshvae.build_hierarchy(template, np.asarray(tiny_head.faces), strides=config.strides)
    model = meshvae.make_model(config, hierarchy, key=jax.random.key(4))
    learned = MaskedModel("0" * 64, model, tiny_head.template_m, jnp.asarray(0.008), (2.0, 0.1))
    assert learned.threshold(3.0) == pytest.approx(2.3**3)
    size = np.prod(learned.model.latent_shape)
    assert learned.threshold(3.0, literal=True) == pytest.approx(3 * size**0.5)


# Files


def test_component_weights_survive_a_file(tiny_head, components, tmp_path):
    path = tmp_path / "weights.safetensors"
    card = {"head": tiny_head.name, "head_sha256": tiny_head.sha256}
    digest = save_components(components.model, path, card=card)
    first = path.read_bytes()
    assert save_components(components.model, path, card=card) == digest and path.read_bytes() == first
    back = load_learned(tiny_head, "residual", path)
    assert back.sha256 == digest
    leaves = [jax.tree.leaves(eqx.filter(m, eqx.is_inexact_array)) for m in (back.model, components.model)]
    for new, old in zip(*leaves, strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(back.model.cluster, components.model.cluster)
    other = dataclasses.replace(tiny_head, sha256="1" * 64)
    with pytest.raises(InputError, match="trained for the head"):
        load_learned(other, "residual", path)
    with pytest.raises(InputError, match=r"no weights of this version|not"):
        load_learned(tiny_head, "masked", path)
    path.write_bytes(first[:-40])
    with pytest.raises(InputError, match="not a safetensors"):
        load_learned(tiny_head, "residual", path)


def test_a_head_without_weights_says_what_to_do(tiny_head, task):
    _, _, seen = task
    with pytest.raises(InputError, match="diverse3d train --model residual"):
        complete(seen, head=tiny_head, method="hybrid-dpp", key=jax.random.key(0))
    assert complete(seen, head=tiny_head, n=2, key=jax.random.key(0), config=CONFIG).method == "posterior-dpp"


def test_nothing_visible_cannot_be_encoded(tiny_head, mesh_model, task):
    (_, at, *_), _, seen = task
    blind = dataclasses.replace(at, visible=jnp.zeros_like(at.visible))
    with pytest.raises(InputError, match="Nothing is visible"):
        complete(seen, head=tiny_head, method="vae", key=jax.random.key(0), fitted=blind, weights=mesh_model)


def test_a_selection_is_chosen_by_wish():
    assert (
        selected("hybrid-dpp", "cover") == "hybrid-cover" and selected("posterior-cover", "diverse") == "posterior-dpp"
    )
    assert selected("hybrid-support", "cover") == "hybrid-cover" and selected("hybrid", "support") == "hybrid-support"
    assert selected("map", None) == "map" and get_method(selected("posterior", "cover")).pool is not None
    with pytest.raises(InputError, match="does not search a pool"):
        selected("vae-dpp", "cover")
    with pytest.raises(InputError, match="does not search a pool"):
        selected("map", "cover")


def test_the_command_s_defaults_are_the_configuration_s():
    """The command line does not load the library to show its help."""
    assert DiversifyOptions().config() == DiversifyConfig()


def test_a_method_settles_what_the_settings_leave_to_it():
    hybrid, diverse, cover = (get_method(name) for name in ("hybrid", "hybrid-dpp", "hybrid-cover"))
    left = DiversifyConfig()
    assert (hybrid.settle(left).sampling.pool, hybrid.settle(left).sampling.hold) == (None, 0.0)
    assert diverse.scale(left) < 1.0 < hybrid.scale(left)
    assert cover.pool_size(left, 16) > diverse.pool_size(left, 16)
    said = DiversifyConfig().replace(pool=7, hold=0.0, contraction=0.9)
    assert all(method.settle(said) == said for method in (hybrid, diverse, cover))
    assert cover.pool_size(said, 16) == 32


@pytest.mark.parametrize(
    "wrong",
    [{"pool": 0}, {"k": 0.0}, {"n_sigma": float("nan")}, {"refine": -1}, {"contraction": float("inf")}],
    ids=str,
)
def test_settings_out_of_range_are_refused_wherever_they_are_made(wrong):
    with pytest.raises(InputError, match="out of range"):
        DiversifyConfig().replace(**wrong)
    with pytest.raises(TypeError):
        DiversifyConfig().replace(nonsense=1)


# Samples


def test_samples_are_held_together_where_visible(tiny_head, components, task, key):
    """The hidden part, of which the visible one says nearly all here, loses less of its spread."""
    (_, at, *_), noise, seen = task
    visible = np.asarray(at.visible)

    def spread(hold):
        config = CONFIG.replace(hold=hold)
        made = complete(
            seen,
            head=tiny_head,
            n=24,
            method="hybrid",
            key=key,
            noise=noise,
            config=config,
            fitted=at,
            weights=components,
        )
        off = np.asarray(made.vertices) - np.asarray(made.vertices).mean(0)
        return [np.sqrt((off[:, chosen] ** 2).sum(2).mean()) for chosen in (visible, ~visible)]

    loose, tight = spread(0.0), spread(2.0)
    assert tight[0] < 0.5 * loose[0] and tight[1] / tight[0] > 2.0 * loose[1] / loose[0]


def test_contraction_reaches_every_method_that_draws_around_the_posterior_mean(tiny_head, components, task, key):
    (_, at, *_), noise, seen = task

    def made(method, contraction=None):
        config, needed = CONFIG.replace(contraction=contraction), get_method(method).weights
        return complete(
            seen, head=tiny_head, n=6, method=method, key=key, noise=noise, config=config, fitted=at,
            weights=components if needed else None,
        )  # fmt: skip

    for name in ("posterior", "posterior-cover", "hybrid", "hybrid-support"):
        wide, near = (made(name, scale) for scale in (1.1, 1.0))
        ratio = [np.linalg.norm(np.asarray(one.vertices) - np.asarray(one.map_vertices)) for one in (wide, near)]
        assert 1.08 < ratio[0] / ratio[1] < 1.12, name  # this head's joints turn, so it is not quite linear
        default = get_method(name).contraction
        np.testing.assert_array_equal(made(name).vertices, (wide if default == 1.1 else near).vertices)
    assert get_method("hybrid").contraction == 1.1


def test_a_path_is_decoded_as_the_completions_were(tiny_head, components, task, key, monkeypatch):
    (_, at, *_), noise, seen = task
    made = complete(
        seen, head=tiny_head, n=2, method="hybrid", key=key, noise=noise, config=CONFIG, fitted=at, weights=components
    )
    monkeypatch.setattr("diverse3d.diversify._complete.load_learned", lambda *_: components)
    usual, same, other = (
        interpolate(
            made, 0, 1, head=tiny_head, frames=5, plain=True, config=DiversifyConfig().replace(contraction=c)
        ).vertices
        for c in (None, 1.1, 0.3)
    )
    np.testing.assert_array_equal(usual, same)
    assert np.any(usual != other)  # nearly a straight line whatever the scale, so by little


def test_how_firmly_samples_are_held_is_the_method_s_unless_told(tiny_head, task):
    (_, at, belief, *_), noise, seen = task
    belief = dataclasses.replace(belief, noise="exact")

    def held(name, hold=None):
        config = CONFIG.replace(hold=hold)
        return Given(name, config, seen, tiny_head, at, noise=noise, posterior=belief).hold

    for name, strength in (("hybrid-dpp", 1.0), ("hybrid-cover", 1.0), ("hybrid-support", 0.5)):
        np.testing.assert_array_equal(held(name).kept, hold_together(tiny_head, at, noise, strength).kept)
        assert held(name, 0.0) is None
    np.testing.assert_array_equal(held("hybrid", 0.7).kept, hold_together(tiny_head, at, noise, 0.7).kept)
    assert held("hybrid") is None and held("posterior", 1.0) is None


def test_refinement_pushes_samples_apart_where_hidden_alone(tiny_head, components, task, key, optax_promotion):
    (_, at, *_), noise, seen = task
    hidden = ~np.asarray(at.visible)

    def run(refine):
        config = CONFIG.replace(refine=refine)
        made = complete(
            seen,
            head=tiny_head,
            n=6,
            method="hybrid-dpp",
            key=key,
            noise=noise,
            config=config,
            fitted=at,
            weights=components,
        )
        vertices = np.asarray(made.vertices)
        distance = np.asarray(hidden_distance(at, made.vertices))
        off = np.sqrt((vertices - np.asarray(made.held))[:, ~hidden] ** 2).mean()
        return distance[np.triu_indices(6, 1)].mean(), off

    (before, _), (after, off) = run(0), run(30)
    assert after > 1.1 * before and off < 2e-3  # twice the noise


@pytest.mark.usefixtures("optax_promotion")
def test_a_sample_that_left_the_visible_part_is_repaired_and_says_so(tiny_head, task, key):
    (_, at, *_), _, seen = task
    config = CONFIG.replace(steps=1, start_spread=3.0, visible_tolerance_mm=1.5)
    made = complete(seen, head=tiny_head, n=4, method="global-dpp", key=key, noise="exact", config=config, fitted=at)
    assert [SAMPLE_TEXT[int(code)] for code in made.results] == [SAMPLE_TEXT[SAMPLE_REPAIRED]] * 4
    off = (np.asarray(made.vertices) - np.asarray(made.held))[:, np.asarray(at.visible)]
    assert 1e3 * np.sqrt((off**2).sum(2).mean(1)).max() < 1.5
    # A tolerance that no correction reaches is reported as it is, with the sample as it was drawn.
    hopeless = config.replace(visible_tolerance_mm=1e-6)
    left = complete(seen, head=tiny_head, n=4, method="global-dpp", key=key, noise="exact", config=hopeless, fitted=at)
    assert set(left.results.tolist()) == {SAMPLE_OFF_VISIBLE}


def test_the_most_likely_head_is_always_there(tiny_head, task, key, optax_promotion):
    (_, at, *_), noise, seen = task

    def run(method):
        return complete(seen, head=tiny_head, n=3, method=method, key=key, noise=noise, config=CONFIG, fitted=at)

    np.testing.assert_allclose(run("posterior-dpp").map_vertices, run("map").vertices[0], atol=1e-12)
    plain = run("global-dpp")
    np.testing.assert_array_equal(plain.map_vertices, plain.fit_vertices)
