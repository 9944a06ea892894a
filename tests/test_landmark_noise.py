"""How wrong landmarks are, and what a picture says of the head: against dense algebra and finite differences."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import tiny_arrays
from test_fit import photo_of, rotation_about

from diverse3d.diversify._posterior import N_RIGID, RIGID_ROOT, picture_posterior, split
from diverse3d.fit import FitConfig, fit, nearness, prepare, rigid, turned_away
from diverse3d.fit._landmarks import LandmarkNoise, doubts, equal_trust, load_landmark_noise, whitening
from diverse3d.fit._photo import photo_target
from diverse3d.fit._state import RIGID_UNIT, Unknowns, canonical
from diverse3d.head import head_from_arrays
from diverse3d.surface import rotation_matrix

COUNT, RANK = 40, 3
FLOAT = np.dtype(np.float64)


@pytest.fixture
def noise(rng):
    sigma = np.full(468, np.inf)
    sigma[:COUNT] = rng.uniform(0.01, 0.03, COUNT)
    patterns = np.zeros((RANK, 468, 2))
    patterns[:, :COUNT] = 0.02 * rng.normal(size=(RANK, COUNT, 2))
    return LandmarkNoise(sigma, patterns, turned=2.0, beside=1.5)


def covariance(noise, doubt, roll):
    """Dense [2L, 2L] in the picture's frame."""
    turn = np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])
    scaled = doubt[None, :, None] * (noise.patterns[:, :COUNT] @ turn)
    flat = scaled.reshape(RANK, -1)
    return np.diag(np.repeat((noise.sigma[:COUNT] * doubt) ** 2, 2)) + flat.T @ flat


def matrix(whiten):
    count = len(whiten.root)
    rows = jax.vmap(lambda e: whiten(e.reshape(count, 2)).reshape(-1))(jnp.eye(2 * count))
    return np.asarray(rows).T


@pytest.mark.parametrize("roll", [0.0, 0.6])
def test_whitened_errors_are_independent_and_of_unit_variance(noise, rng, roll):
    doubt = rng.uniform(1.0, 3.0, COUNT)
    whiten = matrix(whitening(noise, np.arange(COUNT), doubt, np.ones(COUNT, bool), roll, FLOAT))
    np.testing.assert_allclose(whiten @ covariance(noise, doubt, roll) @ whiten.T, np.eye(2 * COUNT), atol=1e-9)


def test_hidden_points_count_for_nothing_and_leave_the_others_their_covariance(noise, rng):
    visible, doubt = rng.uniform(size=COUNT) < 0.6, np.ones(COUNT)
    whiten = matrix(whitening(noise, np.arange(COUNT), doubt, visible, 0.0, FLOAT))
    seen = np.repeat(visible, 2)
    assert np.abs(whiten[:, ~seen]).max() == 0.0 and np.abs(whiten[~seen]).max() < 1e-12
    inner = np.ix_(seen, seen)
    got = whiten[inner] @ covariance(noise, doubt, 0.0)[inner] @ whiten[inner].T
    np.testing.assert_allclose(got, np.eye(seen.sum()), atol=1e-9)


def test_points_that_count_each_for_itself(rng):
    weight = np.array([1.0, 0.0, 1.0, 1.0])
    errors = rng.normal(size=(4, 2))
    got = equal_trust(weight, 12.0, FLOAT)(jnp.asarray(errors))
    np.testing.assert_allclose(np.square(got).sum(), 3.0 * (weight[:, None] * errors**2).sum(), rtol=1e-12)


def test_what_lies_beside_hidden_pixels_or_looks_away_is_doubted(noise):
    hidden = np.zeros((200, 300), bool)
    hidden[100:] = True
    points = np.array([[150.0, 99.0], [150.0, 80.0], [150.0, 40.0], [2.0, 30.0]])
    near = nearness(points, hidden, 100.0)
    assert near[0] == 1.0 and 0 < near[1] < 1 and near[2] == 0.0 and near[3] == 1.0
    np.testing.assert_allclose(turned_away(3.0, np.array([1.0, 0.8, 0.5, 0.2, -1.0])), [1, 1, 2, 3, 3])
    got = doubts(noise, points, hidden, np.array([0.9, 0.9, 0.0, 0.9]), 100.0)
    np.testing.assert_allclose(got, [1.5, 1 + 0.5 * near[1], 2.0, 1.5])


def test_the_shipped_noise_is_of_a_detector_s_size():
    shipped = load_landmark_noise()
    known = np.isfinite(shipped.sigma)
    assert known.sum() > 400 and (shipped.sigma[known] > 1e-3).all() and (shipped.sigma[known] < 0.2).all()
    whole = np.sqrt(2 * shipped.sigma[known] ** 2 + (shipped.patterns[:, known] ** 2).sum((0, 2)))
    assert 0.02 < np.sqrt((whole**2).mean()) < 0.12
    assert 1 <= shipped.turned < 5 and 1 <= shipped.beside < 5


@pytest.fixture(scope="module")
def fitted():
    """A head at rest in its joints, a photo of it turned, what its fit needs, and the fit."""
    head = head_from_arrays({key: value for key, value in tiny_arrays().items() if key != "joint_std"})
    random = np.random.default_rng(3)
    shape = np.asarray(head.shaped(head.prior_mean + 0.8 * random.normal(size=head.n_components)))
    seen = photo_of(head, shape @ rotation_about([0.1, 1, 0], 0.3).T, hide=np.s_[330:])
    problem = prepare(head)
    return seen, problem, fit(seen, problem)


def whitened_errors(problem, seen, at, point, camera):
    """What the landmarks are off by for a point of the closed form's vector and a camera, from their definition."""
    head, points = problem.landmarks.head, problem.landmarks
    target = photo_target(seen.photo, points, FitConfig())
    count = head.n_components
    z, rotation = point[:count], point[count + 3 * head.n_joints :][:3]
    vertices = np.asarray(head.shaped(jnp.asarray(z) + head.prior_mean))
    turned = vertices @ np.asarray(rotation_matrix(jnp.asarray(RIGID_UNIT * rotation))).T @ np.asarray(at.turn).T
    pixels = np.asarray(camera.project(points.dense(jnp.asarray(turned))))
    off = (np.asarray(target.dense_px) - pixels) / float(target.interocular_px)
    return np.asarray(target.whitening(jnp.asarray(off))).reshape(-1)


def start_of(at):
    return np.concatenate([np.asarray(at.unknowns.z), np.asarray(at.unknowns.joints).reshape(-1), np.zeros(N_RIGID)])


def cameras(at):
    """The camera, shifted."""
    for axis in range(2):
        yield dataclasses.replace(at.camera, centre_px=at.camera.centre_px + 0.01 * jnp.eye(2)[axis])


def test_evidence_is_the_landmarks_errors_with_the_picture_s_shift_taken_out(fitted, rng):
    seen, problem, at = fitted
    point = start_of(at)
    here = whitened_errors(problem, seen, at, point, at.camera)
    moved = np.stack([whitened_errors(problem, seen, at, point, camera) - here for camera in cameras(at)])
    free = np.linalg.qr(moved.T)[0]
    np.testing.assert_allclose(at.evidence.left[:-3], here - free @ (free.T @ here), atol=2e-4)
    np.testing.assert_array_equal(at.evidence.left[-3:], 0.0)
    for direction in (np.r_[rng.normal(size=len(point) - N_RIGID), np.zeros(N_RIGID)], np.r_[
        np.zeros(len(point) - N_RIGID), rng.normal(size=3), np.zeros(3)]):  # fmt: skip
        step = 1e-5 * direction
        ahead, behind = (whitened_errors(problem, seen, at, point + sign * step, at.camera) for sign in (1, -1))
        change = -(ahead - behind) / 2e-5
        expected = change - free @ (free.T @ change)
        got = np.asarray(at.evidence.jacobian)[:-3] @ direction
        np.testing.assert_allclose(got, expected, atol=2e-3 * np.abs(expected).max())
    visible = 2 * int((np.asarray(photo_target(seen.photo, problem.landmarks, FitConfig()).whitening.root) > 0).sum())
    assert float(at.evidence.count) == visible - 2


def test_the_picture_s_posterior_is_the_dense_gaussian(fitted):
    _, problem, at = fitted
    got = picture_posterior(problem.head, at)
    rows, left = np.asarray(at.evidence.jacobian), np.asarray(at.evidence.left)
    point, size = start_of(at), len(start_of(at)) - N_RIGID
    kept = np.arange(size + N_RIGID)
    prior = np.r_[np.asarray(got.root[:size]) ** 2, np.full(N_RIGID, RIGID_ROOT**2)]
    rows = rows[:, kept] / float(got.noise_widening)
    precision = rows.T @ rows + np.diag(prior)
    pull = rows.T @ (left / float(got.noise_widening)) - prior * point[kept]
    mean = point[kept] + np.linalg.solve(precision, pull)
    np.testing.assert_allclose(got.mean[kept], mean, atol=1e-6)
    covariance = np.linalg.inv(precision)
    inverse = np.linalg.inv(np.asarray(got.factor))
    np.testing.assert_allclose((inverse @ inverse.T)[np.ix_(kept, kept)], covariance, atol=1e-6 * covariance.max())
    assert got.noise == "photo"


def test_the_evidence_s_frame_is_the_fit_s(fitted):
    """A turn of the closed form's vector turns heads about the head's own origin before the fit's pose."""
    _, problem, at = fitted
    unknowns = Unknowns(at.unknowns.z, at.unknowns.joints, jnp.asarray([0.3, -0.2, 0.1]), jnp.zeros(3), jnp.zeros(3))
    vertices = canonical(problem.head, unknowns)
    turned = vertices @ rotation_matrix(RIGID_UNIT * unknowns.rotation).T
    np.testing.assert_allclose(rigid(unknowns, vertices), turned, atol=1e-12)


def test_what_is_seen_of_completions_lies_in_one_place(fitted):
    """A picture tells no place: the mean of the seen landmarks is the fit's in all of them."""
    _, problem, at = fitted
    head, points = problem.landmarks.head, problem.landmarks
    share = np.asarray(photo_target(fitted[0].photo, points, FitConfig()).whitening.root) > 0

    def place(point):
        unknowns, _ = split(problem.head, jnp.asarray(point))
        return np.asarray(points.dense(rigid(unknowns, canonical(head, unknowns))))[share].mean(axis=0)

    made = picture_posterior(problem.head, at)
    for point in made.samples(8, key=jax.random.key(0)):
        # Joints at rest and turns of some degrees: all but linear.
        assert np.linalg.norm(place(point) - place(start_of(at))) < 2e-3
