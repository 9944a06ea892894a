"""The closed-form posterior against dense linear algebra, and the laws that every method obeys."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from helpers import as_float32, rotation_about, tiny_arrays
from scipy.stats import multivariate_normal

import meshvae
from diverse3d import complete
from diverse3d._errors import InputError
from diverse3d._optimise import CONVERGED
from diverse3d.diversify import (
    METHODS,
    SAMPLE_TEXT,
    DiversifyConfig,
    Given,
    MaskedModel,
    MeshResidual,
    get_method,
    sample,
)
from diverse3d.diversify import posterior as closed_form
from diverse3d.diversify._completions import SAMPLE_NOT_FINITE, SAMPLE_OFF_VISIBLE, SAMPLE_OK, sample_results
from diverse3d.fit import (
    Facing,
    FitConfig,
    FitReport,
    MeshFit,
    NoiseModel,
    Unknowns,
    Weights,
    canonical,
    isotropic_noise,
    load_noise,
)
from diverse3d.fit._state import INTEROCULAR_M, RIGID_UNIT, start
from diverse3d.head import head_from_arrays
from diverse3d.metrics import asd
from diverse3d.observe import observe_mesh

posterior = eqx.filter_jit(closed_form)
SHARP = FitConfig(tolerance=1e-9, vertex_sigma_mm=0.003, weights=Weights(smoothness=0.0))
QUICK = DiversifyConfig().replace(pool=60, steps=40)


@pytest.fixture(scope="module")
def still_head():
    """A head whose joints stay at rest, so that its vertices are linear in all but the rotation."""
    return head_from_arrays({key: value for key, value in tiny_arrays().items() if key != "joint_std"})


def fit_at(head, held_m, visible, turn=None, shift_m=None) -> MeshFit:
    """Stage 1's result as if it had stopped at the mean head, in the given frame."""
    zero = jnp.zeros((), head.dtype)
    mean = head.shaped(head.prior_mean)
    visible = jnp.asarray(visible)
    return MeshFit(
        unknowns=start(head),
        vertices_m=mean,
        held_m=jnp.where(visible[:, None], jnp.asarray(held_m, head.dtype), mean),
        visible=visible,
        turn=jnp.asarray(np.eye(3) if turn is None else turn, head.dtype),
        shift_m=jnp.asarray(np.zeros(3) if shift_m is None else shift_m, head.dtype),
        report=FitReport(zero, zero, zero, jnp.asarray(0), jnp.asarray(CONVERGED), zero, zero),
    )


def design(head) -> np.ndarray:
    """Jacobian [3V, D] of a still head at its mean, by hand: components, joints, rotation, translation."""
    points = np.asarray(head.shaped(head.prior_mean))
    turned = np.stack([np.cross(axis, points).ravel() for axis in np.eye(3)], 1)
    moved = np.tile(np.eye(3), (len(points), 1))
    joints = np.zeros((points.size, 3 * head.n_joints))
    components = np.asarray(head.components_m).T
    return np.concatenate([components, joints, RIGID_UNIT * turned, RIGID_UNIT * INTEROCULAR_M * moved], 1)


def prior_precision(head) -> np.ndarray:
    """All unknowns have unit variance, but for the rigid ones, which are (all but) free."""
    return np.r_[np.ones(head.n_components + 3 * head.n_joints), np.full(6, 1e-4)]


@pytest.fixture
def seen(still_head, rng):
    """A random head's upper half with a little noise."""
    truth = np.asarray(still_head.shaped(still_head.prior_mean + jnp.asarray(rng.normal(size=still_head.n_components))))
    visible = truth[:, 1] > 0.0
    return fit_at(still_head, truth + 1e-3 * rng.normal(size=truth.shape), visible)


def noise_with_patterns(head, rng, rank=3) -> NoiseModel:
    return NoiseModel(
        sigma_m=jnp.asarray(rng.uniform(5e-4, 2e-3, head.n_vertices)),
        factors_m=jnp.asarray(1e-3 * rng.normal(size=(rank, head.n_vertices, 3))),
        name="made-up",
    )


def test_equals_the_textbook_formula(still_head, seen):
    sigma = 1e-3
    rows = np.repeat(np.asarray(seen.visible), 3)
    b = design(still_head)[rows]
    y = np.asarray(seen.held_m - seen.vertices_m).ravel()[rows]
    precision = np.diag(prior_precision(still_head)) + b.T @ b / sigma**2
    got = posterior(still_head, seen, isotropic_noise(still_head, sigma, "x"))
    np.testing.assert_allclose(got.mean, np.linalg.solve(precision, b.T @ y / sigma**2), atol=1e-8)
    np.testing.assert_allclose(got.factor.T @ got.factor, precision, rtol=1e-9, atol=1e-9 * precision.max())
    np.testing.assert_array_equal(jnp.tril(got.factor, -1), 0)


def dense(head, fit, noise):
    """Prior covariance, Jacobian, noise covariance and innovation of the visible coordinates."""
    rows = np.repeat(np.asarray(fit.visible), 3)
    factors = np.asarray(noise.factors_m).reshape(-1, rows.size)[:, rows]
    covariance = np.diag(np.repeat(np.asarray(noise.sigma_m), 3)[rows] ** 2) + factors.T @ factors
    innovation = np.asarray(fit.held_m - fit.vertices_m).ravel()[rows]
    return np.diag(1 / prior_precision(head)), design(head)[rows], covariance, innovation


def test_structured_noise_equals_its_dense_covariance(still_head, seen, rng):
    noise = noise_with_patterns(still_head, rng)
    prior, b, covariance, y = dense(still_head, seen, noise)
    gain = prior @ b.T @ np.linalg.inv(b @ prior @ b.T + covariance)
    got = posterior(still_head, seen, noise)
    size = len(prior)
    np.testing.assert_allclose(got.mean[:size], gain @ y, atol=1e-6)
    marginal = np.linalg.inv(np.asarray(got.factor.T @ got.factor))[:size, :size]
    expected = prior - gain @ b @ prior
    np.testing.assert_allclose(marginal[:10, :10], expected[:10, :10], atol=1e-7)


def test_noise_along_the_surface_equals_its_dense_covariance(still_head, seen, rng):
    normals = rng.normal(size=(still_head.n_vertices, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    along, across = rng.uniform(1e-4, 1e-3, still_head.n_vertices), rng.uniform(2e-3, 5e-3, still_head.n_vertices)
    facing = Facing(jnp.asarray(normals), jnp.asarray(across))
    noise = NoiseModel(jnp.asarray(along), jnp.zeros((0, still_head.n_vertices, 3)), "made-up", facing)
    upright = np.einsum("vx,vy->vxy", normals, normals)
    blocks = along[:, None, None] ** 2 * upright + across[:, None, None] ** 2 * (np.eye(3)[None] - upright)
    prior, b, _, y = dense(still_head, seen, noise)
    covariance = scipy.linalg.block_diag(*blocks[np.asarray(seen.visible)])
    got = posterior(still_head, seen, noise)
    gain = prior @ b.T @ np.linalg.inv(b @ prior @ b.T + covariance)
    np.testing.assert_allclose(got.mean, gain @ y, atol=1e-6)
    wanted = multivariate_normal(np.zeros(len(y)), b @ prior @ b.T + covariance, allow_singular=True).logpdf(y)
    np.testing.assert_allclose(got.log_evidence, wanted, rtol=1e-6)


@pytest.mark.parametrize("structured", [False, True])
def test_log_evidence_is_the_dense_gaussian_log_density(still_head, seen, rng, structured):
    noise = noise_with_patterns(still_head, rng) if structured else isotropic_noise(still_head, 1e-3, "x")
    prior, b, covariance, y = dense(still_head, seen, noise)
    expected = multivariate_normal.logpdf(y, np.zeros(len(y)), b @ prior @ b.T + covariance)
    np.testing.assert_allclose(posterior(still_head, seen, noise).log_evidence, expected, rtol=1e-8)


def test_evidence_prefers_the_true_noise(still_head, rng):
    truth = np.asarray(still_head.shaped(still_head.prior_mean + 0.5))
    fit = fit_at(still_head, truth + 1e-3 * rng.normal(size=truth.shape), np.ones(len(truth), bool))
    score = [
        float(posterior(still_head, fit, isotropic_noise(still_head, s, "x")).log_evidence) for s in (1e-4, 1e-3, 1e-2)
    ]
    assert score[1] > score[0] and score[1] > score[2]


def test_mean_does_not_depend_on_where_a_linear_head_was_expanded(still_head, seen):
    """Gauss–Newton from another fit of a linear model ends at the same point (rotation is at rest in both)."""
    noise = isotropic_noise(still_head, 1e-3, "x")
    elsewhere = eqx.tree_at(lambda f: f.unknowns.z, seen, seen.unknowns.z + 0.01)
    first, second = posterior(still_head, seen, noise), posterior(still_head, elsewhere, noise)
    np.testing.assert_allclose(second.mean, first.mean, atol=2e-3)


def test_samples_have_the_posterior_s_moments(still_head, seen, rng, key):
    got = posterior(still_head, seen, noise_with_patterns(still_head, rng))
    draws = np.asarray(got.samples(20_000, key=key))
    covariance = np.linalg.inv(np.asarray(got.factor.T @ got.factor))
    deviation = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose((draws.mean(0) - np.asarray(got.mean)) / deviation, 0, atol=0.035)
    correlation = covariance / np.outer(deviation, deviation)
    np.testing.assert_allclose(np.cov(draws.T) / np.outer(deviation, deviation), correlation, atol=0.05)


def test_turned_joints_are_linearised_at_the_fit(tiny_head, rng, key):
    """With informative data the posterior of a posed head lies at the truth, within its own spread."""
    unknowns = Unknowns(
        z=jnp.asarray(rng.normal(size=10)),
        joints=jnp.asarray(0.5 * rng.normal(size=(5, 3))),
        rotation=jnp.zeros(3),
        translation=jnp.zeros(3),
        camera=jnp.zeros(3),
    )
    truth = canonical(tiny_head, unknowns)
    at = eqx.tree_at(lambda f: f.unknowns, fit_at(tiny_head, truth, np.ones(len(truth), bool)), unknowns)
    got = posterior(tiny_head, at, isotropic_noise(tiny_head, 1e-5, "x"))
    np.testing.assert_allclose(got.mean[:10], unknowns.z, atol=0.02)
    assert np.std(np.asarray(got.samples(100, key=key))[:, :10], axis=0).max() < 0.2


def test_single_precision_agrees(still_head, seen, rng):
    noise = noise_with_patterns(still_head, rng)
    exact = posterior(still_head, seen, noise)
    near = posterior(as_float32(still_head), as_float32(seen), as_float32(noise))
    assert near.mean.dtype == near.factor.dtype == near.log_evidence.dtype == jnp.float32
    np.testing.assert_allclose(near.mean[:10], exact.mean[:10], atol=2e-3)
    covariance, expected = (np.linalg.inv(np.asarray(p.factor.T @ p.factor, float))[:10, :10] for p in (near, exact))
    np.testing.assert_allclose(covariance, expected, atol=2e-3)
    np.testing.assert_allclose(near.log_evidence, exact.log_evidence, rtol=1e-3)


def run(name, head, fit, key, n=4, config=QUICK, noise=None, learned=None):
    noise = load_noise(head, "realistic") if noise is None else noise
    seen = observe_mesh(np.asarray(fit.held_m), head=head, hidden=~np.asarray(fit.visible))
    given = Given(name, config, seen, head, fit, noise=noise, weights=learned)
    return np.asarray(sample(given, n, key=key).vertices_m)


def test_nothing_visible_gives_the_prior(still_head, key):
    fit = fit_at(still_head, np.zeros((still_head.n_vertices, 3)), np.zeros(still_head.n_vertices, bool))
    got = posterior(still_head, fit, isotropic_noise(still_head, 1e-3, "x"))
    np.testing.assert_allclose(got.mean, 0, atol=1e-12)
    np.testing.assert_allclose(got.factor.T[:10] @ got.factor[:, :10], np.eye(10), atol=1e-12)
    # Heads of the population's spread that stand where the fit stands: the pose is not to be guessed.
    heads = run("posterior", still_head, fit, key, n=400)
    components = np.asarray(still_head.components_m).reshape(10, -1, 3)
    np.testing.assert_allclose(heads.mean(0), still_head.shaped(still_head.prior_mean), atol=3e-3)
    np.testing.assert_allclose(heads.std(0), np.sqrt((components**2).sum(0)), rtol=0.25, atol=2e-4)


def test_everything_visible_leaves_nothing_open(still_head, key):
    truth = np.asarray(still_head.shaped(still_head.prior_mean + 0.3))
    fit = fit_at(still_head, truth, np.ones(len(truth), bool))
    for name in ("map", "posterior", "posterior-dpp", "posterior-cover", "posterior-support"):
        heads = run(name, still_head, fit, key, noise=isotropic_noise(still_head, 1e-5, "x"))
        np.testing.assert_allclose(heads, np.broadcast_to(truth, heads.shape), atol=1e-4)


# The table of methods


@pytest.fixture(scope="module")
def observation(tiny_head):
    rng = np.random.default_rng(3)
    truth = np.asarray(tiny_head.shaped(tiny_head.prior_mean + jnp.asarray(rng.normal(size=10))))
    return observe_mesh(truth, head=tiny_head, hidden=~(truth[:, 1] > 0.0))


@pytest.fixture(scope="module")
def fits(tiny_head, observation):
    """A fit at the mean for each method's own head."""

    def make(name):
        head = get_method(name).head(tiny_head)
        return head, fit_at(head, observation.mesh.vertices_m, observation.mesh.visible)

    return make


@pytest.fixture(scope="module")
def learned(tiny_head):
    """Untrained models of the tiny head: what they decode is noise, which the laws below hold for all the same."""
    from diverse3d.diversify._learned import coefficient_dual

    template, faces = np.asarray(tiny_head.template_m, np.float64), np.asarray(tiny_head.faces)
    models = {}
    for kind, objective in (("masked", "evidence"), ("residual", "energy")):
        config = meshvae.ModelConfig(
            kind=kind, objective=objective, strides=(2, 1, 2), channels=(6, 8), basis=2, latent_channels=3
        )
        hierarchy = meshvae.build_hierarchy(template, faces, strides=config.strides)
        model = meshvae.make_model(config, hierarchy, key=jax.random.key(4))
        frame = {"model": model, "template_m": tiny_head.template_m, "scale_m": jnp.asarray(0.008), "sha256": "0" * 64}
        if kind == "masked":
            models[kind] = MaskedModel(**frame, latent_norm=(3.0, 0.3))
        else:
            dual = coefficient_dual(tiny_head)
            models[kind] = MeshResidual(**frame, residual_scale_m=jnp.asarray(1e-3), dual=dual)
    return models


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.usefixtures("optax_promotion")
def test_every_method(tiny_head, observation, fits, learned, key, name):
    head, at = fits(name)
    turn, shift = rotation_about([0, 1, 0.2], 1.0), np.array([2.0, 0.0, -1.0])

    def go(key, n=4, fitted=at):
        return complete(
            observation,
            head=tiny_head,
            n=n,
            method=name,
            key=key,
            noise="realistic",
            config=QUICK,
            fitted=fitted,
            weights=learned.get(METHODS[name].weights),
        )

    got, again = go(key), go(key)
    count = 1 if METHODS[name].single else 4
    assert got.vertices.shape == (count, head.n_vertices, 3) and got.latents.shape[0] == count
    assert jnp.isfinite(got.vertices).all() and jnp.isfinite(got.latents).all()
    assert got.method == name and got.noise == ("realistic" if METHODS[name].closed_form else "none")
    assert set(got.results.tolist()) <= set(SAMPLE_TEXT)
    assert sorted(got.order) == list(range(count)) and got.uncertainty.shape == (head.n_vertices,)
    np.testing.assert_array_equal(got.vertices, again.vertices)
    if count > 1:
        assert not np.allclose(got.vertices, go(jax.random.key(1)).vertices)
    # A fit in another frame gives the same heads, moved alike.
    moved = go(key, fitted=dataclasses.replace(at, turn=jnp.asarray(turn), shift_m=jnp.asarray(shift)))
    np.testing.assert_allclose(moved.vertices, np.asarray(got.vertices) @ turn.T + shift, atol=1e-9)
    np.testing.assert_allclose(moved.held, np.asarray(got.held) @ turn.T + shift, atol=1e-9)
    if name in ("posterior-dpp", "global-dpp"):
        assert go(key, n=1).vertices.shape == (1, head.n_vertices, 3)


@pytest.mark.usefixtures("optax_promotion")
def test_more_latents_than_are_decoded_at_a_time(tiny_head, observation, fits, learned, key, monkeypatch):
    """In pieces the published method gives what it gives at once."""
    _, at = fits("vae-dpp")

    def go():
        return complete(
            observation, head=tiny_head, n=5, method="vae-dpp", key=key, config=QUICK.replace(steps=3),
            fitted=at, weights=learned["masked"],
        ).vertices  # fmt: skip

    at_once = go()
    monkeypatch.setattr("diverse3d.diversify._algorithm2.CHUNK", 2)
    jax.clear_caches()
    eqx.clear_caches()
    np.testing.assert_allclose(go(), at_once, atol=1e-9)


def test_whole_way_follows_a_rigid_motion_of_the_input(tiny_head, observation, key):
    truth, visible = observation.mesh.vertices_m, observation.mesh.visible
    turn, shift = rotation_about([1, 0.5, -1], 2.2), np.array([4.0, -1.0, 0.5])
    here, there = (
        complete(
            observe_mesh(points, head=tiny_head, hidden=~visible),
            head=tiny_head,
            n=4,
            key=key,
            config=QUICK,
            fit_config=SHARP,
        )
        for points in (truth, truth @ turn.T + shift)
    )
    assert here.noise == there.noise
    np.testing.assert_allclose(there.vertices, np.asarray(here.vertices) @ turn.T + shift, atol=1e-6)
    np.testing.assert_allclose(there.held[visible], (truth @ turn.T + shift)[visible], atol=1e-12)


def test_selection_is_more_diverse_than_independent_samples(tiny_head, fits, key):
    head, at = fits("posterior")
    hidden = ~np.asarray(at.visible)
    plain = [asd(run("posterior", head, at, k), hidden) for k in jax.random.split(key, 8)]
    chosen = asd(run("posterior-dpp", head, at, key, config=QUICK.replace(contraction=1.0)), hidden)
    assert chosen > np.mean(plain)
    # Contraction pulls the pool towards its mean.
    assert asd(run("posterior-dpp", head, at, key), hidden) < chosen


@pytest.mark.usefixtures("optax_promotion")
def test_diversity_loss_spreads_what_is_hidden(tiny_head, fits, key):
    head, at = fits("global-dpp")
    hidden = ~np.asarray(at.visible)
    without = QUICK.replace(dpp_weight=0.0)
    assert asd(run("global-dpp", head, at, key), hidden) > asd(run("global-dpp", head, at, key, config=without), hidden)


@pytest.mark.usefixtures("optax_promotion")
@pytest.mark.parametrize("visible", [False, True], ids=["nothing visible", "nothing hidden"])
@pytest.mark.parametrize("name", METHODS)
def test_extremes_of_visibility(tiny_head, learned, key, name, visible):
    head = get_method(name).head(tiny_head)
    at = fit_at(head, np.asarray(head.shaped(head.prior_mean)), np.full(head.n_vertices, visible))
    heads = run(name, head, at, key, n=4, learned=learned.get(METHODS[name].weights))
    assert np.isfinite(heads).all()
    # Nothing is thrown far away: a head stays within its own size.
    assert np.abs(heads - np.asarray(at.vertices_m)).max() < 0.06


def test_samples_are_reported_one_by_one(tiny_head, fits):
    _, at = fits("posterior")
    samples = jnp.stack([at.held_m, at.held_m + 0.01, at.held_m.at[3, 1].set(jnp.nan), at.held_m.at[0].set(jnp.inf)])
    vertices, results = sample_results(samples, at, 3e-3)
    assert results.tolist() == [SAMPLE_OK, SAMPLE_OFF_VISIBLE, SAMPLE_NOT_FINITE, SAMPLE_NOT_FINITE]
    np.testing.assert_array_equal(vertices[2], at.vertices_m)
    np.testing.assert_array_equal(vertices[:2], samples[:2])
    assert jnp.isfinite(vertices).all()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"n": 0}, "at least 1"),
        ({"n": -100_000}, "at least 1"),
        ({"n": 10**9}, "GiB.*fewer"),
        ({"n": 10**6, "method": "posterior-dpp"}, "GiB.*fewer"),
        ({"method": "posterior-ddp"}, "did you mean 'posterior-dpp'"),
        ({"method": "?"}, "The choices are"),
        ({"noise": "exakt"}, "did you mean 'exact'"),
    ],
    ids=str,
)
def test_bad_requests(tiny_head, observation, fits, key, change, says):
    with pytest.raises(InputError, match=says):
        complete(observation, **({"head": tiny_head, "key": key, "fitted": fits("posterior")[1]} | change))


def test_global_local_needs_local_models(tiny_head, observation, key):
    with pytest.raises(InputError, match="no local region models"):
        complete(observation, head=dataclasses.replace(tiny_head, local_models={}), method="global-local-dpp", key=key)
