"""The closed form where the visible part is unlikely: wider prior, wider noise, and the same in what builds on it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import tiny_arrays
from scipy.stats import multivariate_normal

import diverse3d as d3
from benchmarks._scan_models import covered, scan_model_heads
from diverse3d._optimise import CONVERGED
from diverse3d.diversify import choose_posterior, posterior
from diverse3d.diversify._hold import krige, kriging
from diverse3d.diversify._posterior import expand, head_vertices, identity_index, observed_vertices
from diverse3d.fit import FitReport, MeshFit, NoiseModel, isotropic_noise
from diverse3d.fit._state import start
from diverse3d.head import head_from_arrays, load_head
from diverse3d.head._residual import Residual
from diverse3d.surface import host_normals

SIGMA_M = 1e-3
SMOOTH = Residual(
    length_m=np.array([0.07]),
    deviation_m=np.full((1, 3), 1e-3),
    anchor_m=np.zeros((1, 3)),
    log_amplitude=np.zeros(1),
    anchor_width_m=0.05,
    symmetry=0.9,
)


@pytest.fixture(scope="module")
def head():
    """A made-up head of 30 identity components and a smooth residual, whose joints stay at rest."""
    arrays = tiny_arrays(identity=30) | SMOOTH.arrays()
    return head_from_arrays({name: array for name, array in arrays.items() if name not in ("joint_std", "pose_basis")})


@pytest.fixture(scope="module")
def noise(head):
    return isotropic_noise(head, SIGMA_M, "made-up")


def fit_at_the_mean(head, held_m) -> MeshFit:
    """Stage 1's result as if it had stopped at the mean head; the upper half is visible."""
    zero, mean = jnp.zeros((), head.dtype), head.shaped(head.prior_mean)
    visible = mean[:, 1] > 0.0
    return MeshFit(
        unknowns=start(head),
        vertices_m=mean,
        held_m=jnp.where(visible[:, None], held_m, mean),
        visible=visible,
        turn=jnp.eye(3, dtype=head.dtype),
        shift_m=jnp.zeros(3, head.dtype),
        report=FitReport(zero, zero, zero, jnp.asarray(0), jnp.asarray(CONVERGED), zero, zero),
    )


def drawn(head, rng, *, times=1.0, sigma_m=SIGMA_M, expression=True):
    """Vertices of a head whose identity is so many times the population's, with noise."""
    z = rng.normal(size=head.n_components)
    who = identity_index(head)
    z[who] *= times
    if not expression:
        z[np.setdiff1d(np.arange(z.size), who)] = 0.0
    truth = head.shaped(head.prior_mean + jnp.asarray(z))
    return truth + sigma_m * jnp.asarray(rng.normal(size=truth.shape))


def hidden_spread(head, fit, belief) -> float:
    """Mean variance in m² of the hidden vertices' coordinates."""
    step = jnp.linalg.inv(belief.factor)
    move = jax.jacfwd(lambda point: head_vertices(head, point))(belief.mean)
    hidden = ~np.asarray(fit.visible)
    return float(jnp.mean(jnp.sum((move[hidden].reshape(-1, step.shape[0]) @ step) ** 2, axis=1)))


def unwidened(head, fit, noise):
    """Mean and precision by the textbook's formula, without any widening."""
    at = expand(head, fit, noise)
    j, w = np.asarray(at.jacobian_m), np.asarray(at.weight.along)
    precision = (j * w[:, None] ** 2).T @ j + np.diag(np.asarray(at.root) ** 2)
    pull = (j * w[:, None] ** 2).T @ np.asarray(at.target_m - at.observed_m) - np.asarray(at.root**2 * at.point)
    return np.asarray(at.point) + np.linalg.solve(precision, pull), precision


def test_heads_of_the_population_are_no_surprise(rng):
    head = head_from_arrays({name: array for name, array in tiny_arrays(identity=20).items() if name != "joint_std"})
    noise = isotropic_noise(head, SIGMA_M, "made-up")
    beliefs = [posterior(head, fit_at_the_mean(head, drawn(head, rng)), noise) for _ in range(100)]
    prior, errors = (np.array([float(getattr(b, f"{name}_widening")) for b in beliefs]) for name in ("prior", "noise"))
    assert prior.min() == errors.min() == 1.0
    assert (prior == 1.0).mean() >= 0.99 and (errors == 1.0).mean() >= 0.99
    assert prior.max() < 1.2 and errors.max() < 1.2


def test_where_nothing_is_widened_it_is_the_textbooks_posterior(head, noise, rng):
    fit = fit_at_the_mean(head, drawn(head, rng))
    belief = posterior(head, fit, noise)
    assert float(belief.prior_widening) == float(belief.noise_widening) == 1.0
    mean, precision = unwidened(head, fit, noise)
    np.testing.assert_allclose(belief.mean, mean, atol=1e-7)
    np.testing.assert_allclose(belief.factor.T @ belief.factor, precision, rtol=1e-8, atol=1e-9 * precision.max())


def test_an_unusual_identity_is_met_by_more_spread(head, noise, rng):
    usual = fit_at_the_mean(head, drawn(head, rng))
    fit = fit_at_the_mean(head, drawn(head, rng, times=4.0))
    ordinary, belief = posterior(head, usual, noise), posterior(head, fit, noise)
    assert 1.5 < float(belief.prior_widening) < 4.5
    assert hidden_spread(head, fit, belief) > 1.5**2 * hidden_spread(head, usual, ordinary)
    # Only who somebody is has a wider prior.
    who = identity_index(head)
    rest = np.setdiff1d(np.arange(belief.root.size), who)
    np.testing.assert_allclose(belief.root[who], 1.0 / belief.prior_widening)
    np.testing.assert_array_equal(belief.root[rest], ordinary.root[rest])


def test_the_wider_the_head_differs_the_wider_the_prior(head, noise, rng):
    truth = drawn(head, rng, expression=False, sigma_m=0.0) - head.template_m
    mean = head.shaped(head.prior_mean)
    found = [
        float(posterior(head, fit_at_the_mean(head, mean + scale * truth), noise).prior_widening)
        for scale in (0.0, 1.0, 3.0, 6.0)
    ]
    assert found[:2] == [1.0, 1.0] and 1.0 < found[2] < found[3]


def test_errors_beyond_the_noise_model_widen_the_noise(head, noise, rng):
    fit = fit_at_the_mean(head, drawn(head, rng, sigma_m=4 * SIGMA_M))
    belief = posterior(head, fit, noise)
    assert 2.0 < float(belief.noise_widening) < 4.5
    # The answer is that of noise so much larger (and of the prior as widened).
    at = expand(head, fit, isotropic_noise(head, SIGMA_M * float(belief.noise_widening), "larger"))
    j, w, root = np.asarray(at.jacobian_m), np.asarray(at.weight.along), np.asarray(belief.root)
    precision = (j * w[:, None] ** 2).T @ j + np.diag(root**2)
    np.testing.assert_allclose(belief.factor.T @ belief.factor, precision, rtol=1e-8, atol=1e-9 * precision.max())
    pull = (j * w[:, None] ** 2).T @ np.asarray(at.target_m - at.observed_m) - root**2 * np.asarray(at.point)
    np.testing.assert_allclose(belief.mean, np.asarray(at.point) + np.linalg.solve(precision, pull), atol=1e-6)


@pytest.mark.parametrize(("times", "sigma_m"), [(1.0, SIGMA_M), (5.0, SIGMA_M), (1.0, 5e-3)])
def test_log_evidence_is_that_of_head_and_noise_as_they_are(head, noise, rng, times, sigma_m):
    fit = fit_at_the_mean(head, drawn(head, rng, times=times, sigma_m=sigma_m))
    at, belief = expand(head, fit, noise), posterior(head, fit, noise)
    rows = np.flatnonzero(np.asarray(at.weight.along))
    j = np.asarray(at.jacobian_m)[rows]
    covariance = j @ np.diag(1.0 / np.asarray(at.root) ** 2) @ j.T + SIGMA_M**2 * np.eye(len(rows))
    off = np.asarray(at.target_m - at.observed_m)[rows]
    expected = multivariate_normal.logpdf(off, np.zeros(len(off)), covariance)
    np.testing.assert_allclose(belief.log_evidence, expected, rtol=1e-7)
    widened = max(float(belief.prior_widening), float(belief.noise_widening)) > 1.0
    assert widened == (times > 1.0 or sigma_m > SIGMA_M)


@pytest.mark.parametrize(("times", "sigma_m"), [(1.0, SIGMA_M), (4.0, SIGMA_M), (4.0, 4e-3)])
def test_kriging_solves_the_very_system_of_the_posterior(head, noise, rng, times, sigma_m):
    """From the prior's mean it leads to the posterior's, but for the turn, which is finite there; the posterior's mean,
    held to what is seen of it, stays."""
    fit = fit_at_the_mean(head, drawn(head, rng, times=times, sigma_m=sigma_m))
    belief = posterior(head, fit, noise)
    linear = fit.vertices_m + (expand(head, fit, noise).jacobian_m @ belief.mean).reshape(-1, 3)
    np.testing.assert_allclose(krige(head, fit, belief, noise, fit.vertices_m), linear, atol=1e-8)
    mean = head_vertices(head, belief.mean)
    seen = observed_vertices(head, noise, belief.mean).reshape(-1, 3)
    np.testing.assert_allclose(krige(head, fit, belief, noise, mean, held_m=seen), mean, atol=1e-9)


def test_matherons_rule_draws_from_the_widened_posterior(head, noise, rng):
    """Prior samples of the widened prior, corrected with widened noise taken off, have the posterior's spread."""
    fit = fit_at_the_mean(head, drawn(head, rng, times=4.0, sigma_m=3e-3))
    belief = posterior(head, fit, noise)
    count, at = 600, expand(head, fit, noise)
    pose = slice(head.n_components + 3 * head.n_joints, head.n_components + 3 * head.n_joints + 6)
    z = rng.normal(size=(count, belief.root.size)) / np.asarray(belief.root)
    z[:, pose] = 0.0  # all but free: a linear head holds for small turns only
    error = float(belief.noise_widening) * SIGMA_M * rng.normal(size=(count, head.n_vertices, 3))
    prior = fit.vertices_m[None] + jnp.asarray(z @ np.asarray(at.jacobian_m).T).reshape(count, -1, 3)
    correct = jax.vmap(kriging(head, fit, belief, noise))
    moved = correct(prior, fit.held_m[None] - jnp.asarray(error))
    hidden = ~np.asarray(fit.visible)
    spread = float(np.mean(np.var(np.asarray(moved)[:, hidden], axis=0)))
    assert spread == pytest.approx(hidden_spread(head, fit, belief), rel=0.15)


def test_noise_patterns_explain_errors_before_any_widening(head, rng):
    patterns = 3e-3 * rng.normal(size=(3, head.n_vertices, 3))
    noise = NoiseModel(
        sigma_m=jnp.full(head.n_vertices, SIGMA_M), factors_m=jnp.asarray(patterns), name="with patterns"
    )
    held = drawn(head, rng) + jnp.asarray(np.tensordot([1.0, -1.2, 0.8], patterns, 1))
    fit = fit_at_the_mean(head, held)
    assert float(posterior(head, fit, noise).noise_widening) == 1.0
    without = dataclasses.replace(noise, factors_m=noise.factors_m[:0])
    assert float(posterior(head, fit, without).noise_widening) > 1.5


def test_identity_is_all_but_expression(head):
    index = identity_index(head)
    first = head.n_identity + head.n_expression
    np.testing.assert_array_equal(index, np.r_[: head.n_identity, first : head.n_components])
    regions = head.global_local(4, 2)
    np.testing.assert_array_equal(identity_index(regions), np.r_[:4, 6 : regions.n_components])


def test_nothing_visible_is_no_surprise(head, noise, rng):
    fit = fit_at_the_mean(head, drawn(head, rng, times=5.0))
    blind = dataclasses.replace(fit, visible=jnp.zeros_like(fit.visible))
    belief = posterior(head, blind, noise)
    assert float(belief.prior_widening) == float(belief.noise_widening) == 1.0
    np.testing.assert_allclose(belief.mean, 0.0, atol=1e-9)


@pytest.mark.usefixtures("single_precision")
def test_meshes_of_people_are_trusted_as_registrations(shared):
    people = shared / "people"
    if not people.is_dir():
        pytest.skip(f"statistics of scans are not there ({people})")
    head = load_head()
    problem, template = d3.prepare(head), np.asarray(head.template_m, np.float64)
    reached, face = covered(people, "ict"), np.asarray(head.regions["face"])
    low = face[template[face, 1] < template[np.asarray(head.regions["nose"]), 1].min() + 0.004]
    visible = np.zeros(head.n_vertices, bool)
    visible[face] = reached[face]
    visible[low] = False
    hidden, errors = low[reached[low]], {}
    for truth in np.asarray(scan_model_heads(people, "ict", 3, template)):
        seen = d3.observe_mesh(np.where(visible[:, None], truth, np.nan), hidden=~visible)
        fitted = d3.fit(seen, problem)
        for noise in (None, "realistic"):
            told = choose_posterior(seen, head, fitted, noise)
            assert told.noise == (noise or "registered") and (noise or float(told.noise_widening) < 1.2)
            off = np.asarray(fitted.to_world(head_vertices(head, told.mean)), np.float64) - truth
            across = (off * host_normals(truth, np.asarray(head.faces))).sum(1)[hidden]
            errors.setdefault(noise, []).append(1e3 * float(np.sqrt((across**2).mean())))
    assert np.mean(errors[None]) < 0.8 * np.mean(errors["realistic"]), errors
