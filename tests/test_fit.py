"""Stage 1 on made-up observations whose answer is known."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import as_float32, rotation_about, tiny_arrays

from diverse3d._errors import InputError
from diverse3d._optimise import BUDGET_USED, CONVERGED
from diverse3d.fit import (
    FitConfig,
    Weights,
    fit,
    isotropic_noise,
    learn_noise,
    load_noise,
    noise_arrays,
    prepare,
    seen_pixels,
)
from diverse3d.fit._costs import smoothness_factor
from diverse3d.fit._photo import fitted_points, landmark_head
from diverse3d.head import HeadParameters, head_from_arrays
from diverse3d.observe import IBUG68_FROM_MEDIAPIPE, Photo, PhotoObservation, observe_mesh
from diverse3d.surface import kabsch, uniform_laplacian

SHARP = FitConfig(tolerance=1e-9, vertex_sigma_mm=0.003, weights=Weights(smoothness=0.0))


@pytest.fixture(scope="module")
def problem(tiny_head):
    return prepare(tiny_head)


@pytest.fixture
def truth(tiny_head, rng):
    """A random head of the tiny population, joints turned, in the head frame."""
    pose = 0.7 * rng.normal(size=(5, 3)) * np.asarray(tiny_head.joint_std_rad)
    coefficients = np.asarray(tiny_head.prior_mean) + rng.normal(size=tiny_head.n_components)
    return np.array(tiny_head(HeadParameters(jnp.asarray(coefficients), jnp.asarray(pose), jnp.zeros(3))))


def rms_mm(first, second):
    return 1e3 * np.sqrt(((np.asarray(first) - np.asarray(second)) ** 2).sum(-1).mean())


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_recovers_a_head_from_its_visible_vertices(tiny_head, problem, truth, share):
    visible = truth[:, 1] > np.quantile(truth[:, 1], 1 - share) - 1e-12
    turn, shift = rotation_about([1, 2, -1], 2.5), np.array([3.0, -2.0, 1.0])
    world = truth @ turn.T + shift
    got = fit(observe_mesh(np.where(visible[:, None], world, np.nan), head=tiny_head), problem, SHARP)
    assert rms_mm(got.to_world(got.vertices_m)[visible], world[visible]) < 0.01
    assert rms_mm(got.to_world(got.vertices_m), world) < (0.01 if share == 1 else 0.3)
    np.testing.assert_allclose(
        got.report.visible_rms_mm, rms_mm(got.to_world(got.vertices_m)[visible], world[visible]), atol=1e-6
    )
    assert int(got.report.result) == CONVERGED and int(got.report.steps) > 0
    np.testing.assert_array_equal(got.visible, visible)
    np.testing.assert_allclose(got.turn @ got.turn.T, np.eye(3), atol=1e-12)
    # What the completions are held to are the very vertices given.
    np.testing.assert_allclose(got.to_world(got.held_m)[visible], world[visible], atol=1e-12)
    np.testing.assert_array_equal(got.held_m[~visible], got.vertices_m[~visible])


def test_flame_style_parameters_give_the_same_vertices(tiny_head, problem, truth):
    turn = rotation_about([1, 2, -1], 1.5)
    got = fit(observe_mesh(truth @ turn.T + [0.5, 0.0, -2.0], head=tiny_head), problem, SHARP)
    np.testing.assert_allclose(tiny_head(got.parameters(tiny_head)), got.to_world(got.vertices_m), atol=1e-9)


def test_rigid_motion_of_the_input_moves_the_fit_alike(tiny_head, problem, truth):
    visible = truth[:, 1] > 0
    turn, shift = rotation_about([-1, 0.5, 2], 1.9), np.array([1.0, 2.0, -30.0])
    here = fit(observe_mesh(truth, head=tiny_head, hidden=~visible), problem, SHARP)
    there = fit(observe_mesh(1000 * (truth @ turn.T + shift), head=tiny_head, hidden=~visible), problem, SHARP)
    np.testing.assert_allclose(there.vertices_m, here.vertices_m, atol=1e-8)
    np.testing.assert_allclose(there.held_m, here.held_m, atol=1e-8)
    expected = np.asarray(here.to_world(here.vertices_m)) @ turn.T + shift
    np.testing.assert_allclose(there.to_world(there.vertices_m), expected, atol=1e-8)


def test_world_frame_of_many_heads_at_once(tiny_head, problem, truth, rng):
    got = fit(observe_mesh(truth + 1.0, head=tiny_head), problem, SHARP)
    many = jnp.asarray(rng.normal(size=(3, tiny_head.n_vertices, 3)))
    np.testing.assert_allclose(got.to_world(many)[1], got.to_world(many[1]), atol=1e-14)


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_almost_nothing_visible_gives_about_the_mean_head(tiny_head, problem, truth, count):
    visible = np.arange(len(truth)) < count
    got = fit(observe_mesh(truth, head=tiny_head, hidden=~visible), problem, SHARP)
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(eqx.filter(got, eqx.is_inexact_array)))
    assert rms_mm(got.vertices_m, tiny_head.shaped(tiny_head.prior_mean)) < (1e-6 if count == 0 else 10)


def test_gradient_descent_lowers_the_loss_and_uses_its_budget(tiny_head, problem, truth):
    got = fit(observe_mesh(truth, head=tiny_head), problem, FitConfig(solver="sgd", steps=100))
    mean = np.asarray(tiny_head.shaped(tiny_head.prior_mean))
    turn, shift = kabsch(mean, truth, np.ones(len(truth), bool))
    assert 0 < float(got.report.visible_rms_mm) < 0.9 * rms_mm(mean @ turn.T + shift, truth)
    assert int(got.report.result) == BUDGET_USED and int(got.report.steps) == 120


def test_default_settings_in_single_precision_come_close_to_the_sharp_ones(tiny_head, problem, truth):
    visible = truth[:, 1] > -0.02
    seen = observe_mesh(truth + 5.0, head=tiny_head, hidden=~visible)
    exact = fit(seen, problem, SHARP)
    with jax.enable_x64(False):
        got = fit(seen, as_float32(problem))
        assert {leaf.dtype for leaf in jax.tree.leaves(eqx.filter(got, eqx.is_inexact_array))} == {jnp.dtype("float32")}
    assert int(got.report.result) == CONVERGED and float(got.report.visible_rms_mm) < 0.3
    assert rms_mm(got.vertices_m, exact.vertices_m) < 1.0
    assert rms_mm(got.held_m, exact.held_m) < 1.0


def test_smoothness_factor_is_the_laplacian_of_the_offsets(tiny_head, rng):
    z = rng.normal(size=tiny_head.n_components)
    offsets = np.asarray(tiny_head.shaped(jnp.asarray(z)) - tiny_head.template_m)
    neighbours = [set() for _ in offsets]
    for a, b, c in np.asarray(tiny_head.faces):
        for i, j in ((a, b), (b, c), (c, a)):
            neighbours[i].add(int(j))
            neighbours[j].add(int(i))
    by_hand = np.stack([offsets[list(near)].mean(0) - offsets[i] for i, near in enumerate(neighbours)])
    np.testing.assert_allclose(
        np.sum((smoothness_factor(tiny_head) @ jnp.asarray(z)) ** 2), (by_hand**2).sum(), rtol=1e-9
    )
    loose = uniform_laplacian(np.array([[0, 1, 2]]), 4).toarray()
    np.testing.assert_allclose(loose, [[-1, 0.5, 0.5, 0], [0.5, -1, 0.5, 0], [0.5, 0.5, -1, 0], [0, 0, 0, 0]])


# Photos


def photo_of(head, vertices_world, *, scale=2000.0, centre=(250.0, 260.0), hide=None) -> PhotoObservation:
    """An ideal detector's landmarks of a posed head, in a picture of 500 × 520."""

    def pixels(points):
        return np.stack([scale * points[:, 0] + centre[0], -scale * points[:, 1] + centre[1]], 1)

    landmarks = np.zeros((468, 2))
    landmarks[list(IBUG68_FROM_MEDIAPIPE)] = pixels(np.asarray(head.landmarks68(jnp.asarray(vertices_world))))
    if head.landmarks_dense is not None:
        dense = np.asarray(head.landmarks_dense(jnp.asarray(vertices_world)))
        landmarks[np.asarray(head.landmarks_dense_index)] = pixels(dense)
    hidden = np.zeros((520, 500), bool)
    if hide is not None:
        hidden[hide] = True
    column, row = np.floor(landmarks).astype(int).T
    visible = ~hidden[row.clip(0, 519), column.clip(0, 499)]
    photo = Photo(np.zeros((520, 500, 3), np.uint8), hidden, landmarks, visible, faces_found=1)
    return PhotoObservation(photo=photo, source="made-up", sha256="")


@pytest.fixture(scope="module")
def still_problem():
    """A head whose joints stay at rest, as the embedded one."""
    return prepare(head_from_arrays({key: value for key, value in tiny_arrays().items() if key != "joint_std"}))


@pytest.mark.parametrize("yaw", [0.0, -0.4])
@pytest.mark.parametrize("hide", [None, np.s_[270:]], ids=["all seen", "lower face hidden"])
def test_photo_landmarks_are_met_and_the_camera_is_consistent(still_problem, rng, yaw, hide):
    head = still_problem.head
    shape = head.shaped(head.prior_mean + 0.7 * jnp.asarray(rng.normal(size=head.n_components)))
    posed = np.asarray(shape) @ rotation_about([0.1, 1, 0], yaw).T
    seen = photo_of(head, posed, hide=hide)
    got = fit(seen, still_problem)
    assert float(got.report.landmark_rms_interocular) < 0.02
    # The camera, the pose and the vertices handed on are those that met the landmarks.
    drawn = got.camera.project(head.landmarks68(got.to_world(got.vertices_m)))
    np.testing.assert_allclose(drawn, got.landmarks68_px, atol=0.02)
    weight = seen.photo.landmark_visible[list(IBUG68_FROM_MEDIAPIPE)]
    off = np.asarray(got.landmarks68_px) - seen.photo.landmarks_px[list(IBUG68_FROM_MEDIAPIPE)]
    np.testing.assert_allclose(got.report.landmark_rms_px, np.sqrt((off[weight] ** 2).sum(1).mean()), rtol=1e-6)
    # Visible: in front and outside the mask.
    pixels = np.floor(np.asarray(got.camera.project(got.to_world(got.vertices_m)))).astype(int)
    assert not seen.photo.hidden[pixels[got.visible][:, 1], pixels[got.visible][:, 0]].any()
    depth = np.asarray(got.to_world(got.vertices_m))[:, 2]
    assert got.visible.any() and depth[np.asarray(got.visible)].mean() > depth.mean() + 0.03


def test_a_photo_s_fit_is_a_dozen_programs_and_a_second_face_compiles_none(coloured, rng):
    head = coloured
    problem, compiled = prepare(head), []
    jax.monitoring.register_event_duration_secs_listener(lambda name, *_, **__: compiled.append(name))

    def programs(yaw: float, hide: slice | None) -> int:
        shape = head.shaped(head.prior_mean + 0.5 * np.asarray(rng.normal(size=head.n_components)))
        seen = photo_of(head, np.asarray(shape) @ rotation_about([0.1, 1, 0], yaw).T, hide=hide)
        compiled.clear()
        seen_pixels(seen, problem.pixels, fit(seen, problem))
        return compiled.count("/jax/core/compile/backend_compile_duration")

    assert programs(0.1, None) <= 20
    assert programs(-0.3, np.s_[270:]) == 0


def test_landmark_heads_with_and_without_dense_points(tiny_head, rng):
    sparse = head_from_arrays({key: a for key, a in tiny_arrays().items() if not key.startswith("landmarks_dense")})
    z = jnp.asarray(rng.normal(size=tiny_head.n_components))
    expected = tiny_head.shaped(z)
    # The tiny head's dense points are none of the 68, which join them.
    both = np.concatenate([tiny_head.landmarks_dense(expected), tiny_head.landmarks68(expected)])
    for head, dense in ((tiny_head, both), (sparse, tiny_head.landmarks68(expected))):
        points = landmark_head(head)
        assert points.head.n_vertices < head.n_vertices
        np.testing.assert_allclose(points.dense(points.head.shaped(z)), dense, atol=1e-14)
        np.testing.assert_allclose(points.landmarks68(points.head.shaped(z)), head.landmarks68(expected), atol=1e-14)
    assert landmark_head(dataclasses.replace(tiny_head, landmarks68=None)) is None
    # One that is among the dense ones already doesn't come twice, as in the embedded head.
    index = np.r_[IBUG68_FROM_MEDIAPIPE[30], np.asarray(tiny_head.landmarks_dense_index)[1:]]
    points, names = fitted_points(
        dataclasses.replace(tiny_head, landmarks_dense_index=jnp.asarray(index, jnp.int32)), tiny_head.landmarks68
    )
    assert points.corners.shape == (23 + 67, 3) and len(set(names.tolist())) == 23 + 67


def test_a_fully_hidden_face_keeps_the_mean_head(still_problem):
    head = still_problem.head
    seen = photo_of(head, head.template_m, hide=np.s_[:])
    got = fit(seen, still_problem)
    assert not got.visible.any() and float(got.report.landmark_rms_px) == 0
    assert rms_mm(got.vertices_m, head.shaped(head.prior_mean)) < 1e-6


def test_hidden_landmarks_weigh_nothing(still_problem, rng):
    head = still_problem.head
    seen = photo_of(head, head.template_m, hide=np.s_[270:])
    wild = np.where(seen.photo.landmark_visible[:, None], seen.photo.landmarks_px, rng.uniform(0, 500, (468, 2)))
    moved = dataclasses.replace(seen, photo=dataclasses.replace(seen.photo, landmarks_px=wild))
    np.testing.assert_array_equal(fit(seen, still_problem).vertices_m, fit(moved, still_problem).vertices_m)


def test_photo_errors(tiny_head, still_problem):
    seen = photo_of(still_problem.head, still_problem.head.template_m, scale=5.0)
    with pytest.raises(InputError, match="less than a pixel"):
        fit(seen, still_problem)
    blind = head_from_arrays({key: a for key, a in tiny_arrays().items() if not key.startswith("landmarks")})
    with pytest.raises(InputError, match="no landmarks"):
        fit(photo_of(tiny_head, tiny_head.template_m), blind)


# Noise


def test_learnt_noise_recovers_diagonal_and_low_rank(rng):
    count, sigma = 30, rng.uniform(2e-4, 8e-4, 30)
    patterns = 3e-3 * np.linalg.qr(rng.normal(size=(90, 2)))[0].T.reshape(2, 30, 3) * np.sqrt(30)
    errors = np.einsum("sr,rvc->svc", rng.normal(size=(6000, 2)), patterns)
    errors += sigma[None, :, None] * rng.normal(size=(6000, count, 3))
    noise = learn_noise(errors, rank=2, name="known", dtype=jnp.dtype("float64"))
    dense = lambda s, u: np.diag(np.repeat(s, 3) ** 2) + u.reshape(len(u), -1).T @ u.reshape(len(u), -1)  # noqa: E731
    got, known = dense(np.asarray(noise.sigma_m), np.asarray(noise.factors_m)), dense(sigma, patterns)
    assert np.linalg.norm(got - known) < 0.06 * np.linalg.norm(known)
    np.testing.assert_allclose(noise.sigma_m, sigma, rtol=0.1)


@pytest.mark.parametrize("rank", [0, 3, 12])
def test_learnt_noise_of_any_rank_is_sound(rng, rank):
    noise = learn_noise(1e-3 * rng.normal(size=(8, 30, 3)), rank=rank, name="x", dtype=jnp.dtype("float32"))
    assert noise.sigma_m.dtype == noise.factors_m.dtype == jnp.float32
    assert noise.factors_m.shape == (min(rank, 8), 30, 3)
    assert (noise.sigma_m > 0).all() and jnp.isfinite(noise.sigma_m).all()


def test_noise_settings(tiny_head):
    exact, realistic = load_noise(tiny_head, "exact"), load_noise(tiny_head, "realistic")
    assert (exact.sigma_m < realistic.sigma_m).all() and exact.name == "exact"
    with pytest.raises(InputError, match="did you mean 'realistic'"):
        load_noise(tiny_head, "realistik")


def test_stored_noise_comes_back(rng):
    noise = learn_noise(1e-3 * rng.normal(size=(8, 30, 3)), rank=3, name="x", dtype=jnp.dtype("float64"))
    arrays = noise_arrays(noise, "abc")
    factors = arrays["abc/x/factors"].astype(float) * arrays["abc/x/factor_scale"][:, None, None]
    np.testing.assert_allclose(factors, noise.factors_m, atol=2e-6)
    np.testing.assert_allclose(arrays["abc/x/sigma"], noise.sigma_m, rtol=1e-6)


def test_isotropic_noise(tiny_head):
    noise = isotropic_noise(tiny_head, 2e-3, "mine")
    assert noise.factors_m.shape == (0, tiny_head.n_vertices, 3) and (noise.sigma_m == 2e-3).all()
