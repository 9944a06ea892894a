"""Pixels in the fit: crops, gradients against finite differences, and colours that are known."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import as_float32, check_derivatives

from diverse3d._optimise import BUDGET_USED
from diverse3d.fit import FitConfig, Weights, crop_face, prepare
from diverse3d.fit._costs import PhotoTarget
from diverse3d.fit._crop import CROP_PX, Crop, blurred, cut, sample, tone
from diverse3d.fit._landmarks import equal_trust
from diverse3d.fit._photometric import PhotoProblem, points_seen, rendered
from diverse3d.fit._pixels import PixelUnknowns, light_of, patches, photometric_residuals
from diverse3d.fit._refine import _round, colours_first, fit_colours, fit_pixels
from diverse3d.fit._solve import coefficient_rates, solve
from diverse3d.fit._state import start
from diverse3d.head import SurfacePoints
from diverse3d.observe import Photo
from diverse3d.show._colour import linear_from_srgb
from diverse3d.surface import WeakPerspective


@pytest.fixture
def problem(coloured):
    made = prepare(coloured)
    target = PhotoTarget(
        dense_px=jnp.zeros((made.landmarks.dense.corners.shape[0], 2)),
        whitening=equal_trust(np.zeros(made.landmarks.dense.corners.shape[0]), 1.0, np.dtype(np.float64)),
        landmarks68_px=jnp.zeros((68, 2)),
        landmarks68_weight=jnp.zeros(68),
        interocular_px=jnp.asarray(70.0),
        rotation_start=jnp.eye(3),
        camera_start=WeakPerspective(jnp.asarray(700.0), jnp.asarray([112.0, 112.0])),
    )
    return PhotoProblem(made.landmarks, made.pixels, target, made.smoothness, coefficient_rates(coloured))


@pytest.fixture
def truth(problem, rng):
    at = start(problem.pixels.head)
    light = 0.5 * rng.normal(size=(9, 3))
    light[0, 0] = 0.3
    return PixelUnknowns(at, jnp.asarray([1.5, 0.5, -0.4, 0.3]), jnp.asarray(light))


def empty_crop(value=0.0):
    image = np.full((CROP_PX, CROP_PX, 3), value)
    return Crop(jnp.asarray(image), jnp.ones((CROP_PX, CROP_PX)), jnp.asarray(1.0), jnp.zeros(2))


def photographed(problem, truth, background=0.5):
    """A crop that shows a head with known colours."""
    crop = empty_crop()
    picture = rendered(problem, crop, truth)
    shown = jnp.where(picture.inside[:, :, None], picture.tone, background)
    return Crop(shown, crop.weight, crop.scale, crop.corner_px), picture


def test_a_crop_shows_what_the_photo_does(rng):
    coarse = rng.integers(0, 256, (24, 20, 3), dtype=np.uint8)
    rgb = np.kron(coarse, np.ones((16, 16, 1), np.uint8))
    landmarks = rng.uniform([120, 130], [220, 240], (468, 2))
    hidden = np.zeros(rgb.shape[:2], bool)
    hidden[150:180, 140:200] = True
    crop = crop_face(Photo(rgb, hidden, landmarks, np.ones(468, bool), 1), np.dtype(np.float64))
    camera = crop.camera(WeakPerspective(jnp.asarray(1.0), jnp.zeros(2)))
    centres = np.array([[8 + 16 * c, 8 + 16 * r] for r in range(9, 13) for c in range(9, 12)], float)
    at = np.asarray(camera.project(jnp.asarray(np.c_[centres[:, 0], -centres[:, 1], np.zeros(len(centres))])))
    colours = np.asarray(sample(crop.tone, jnp.asarray(at)))
    expected = np.asarray(
        tone(jnp.asarray(linear_from_srgb(rgb[centres[:, 1].astype(int), centres[:, 0].astype(int)])))
    )
    np.testing.assert_allclose(colours, expected, atol=0.02)
    weight = np.asarray(crop.weight)[np.floor(at[:, 1]).astype(int), np.floor(at[:, 0]).astype(int)]
    np.testing.assert_array_equal(weight > 0, ~hidden[centres[:, 1].astype(int), centres[:, 0].astype(int)])


def test_what_lies_beyond_the_picture_has_no_weight():
    white = np.full((50, 60), 255, np.uint8)
    part = cut(white, np.array([-30.0, -25.0]), 60.0)
    assert part.shape == (CROP_PX, CROP_PX) and part[:80].max() == 0 and part[100:, 125:].min() == 255


def test_blurring_takes_nothing_from_hidden_pixels(rng):
    image = np.full((CROP_PX, CROP_PX, 3), 0.5)
    weight = np.ones((CROP_PX, CROP_PX))
    image[:, 100:], weight[:, 100:] = 1.0, 0.0
    soft = blurred(Crop(jnp.asarray(image), jnp.asarray(weight), jnp.asarray(1.0), jnp.zeros(2)), 4.0)
    np.testing.assert_allclose(soft.tone[:, :100], 0.5, atol=1e-9)
    noisy = empty_crop()
    noisy = Crop(jnp.asarray(rng.uniform(size=(CROP_PX, CROP_PX, 3))), noisy.weight, noisy.scale, noisy.corner_px)
    assert blurred(noisy, 3.0).tone.std() < 0.3 * noisy.tone.std() and blurred(noisy, 0.0) is noisy


def test_light_is_white_and_frontal_a_priori():
    light = np.asarray(light_of(jnp.zeros((9, 3))))
    assert (light == light[:, :1]).all() and light[3, 0] > light[1, 0] == 0 and light[2, 0] > 0
    brighter = np.asarray(light_of(jnp.zeros((9, 3)).at[0, 0].set(1.0)))
    np.testing.assert_allclose(brighter / light[0, 0], brighter[0, 0] / light[0, 0] * light / light[0, 0])


def test_gradients_equal_finite_differences(problem, truth, rng):
    x, y = np.meshgrid(np.arange(CROP_PX) / CROP_PX, np.arange(CROP_PX) / CROP_PX)
    image = np.stack([0.3 + 0.4 * x, 0.2 + 0.5 * y, 0.6 - 0.3 * x * y], 2)  # bilinear, or nearly: no kinks
    crop = Crop(jnp.asarray(image), jnp.ones((CROP_PX, CROP_PX)), jnp.asarray(1.0), jnp.zeros(2))
    faces = np.asarray(problem.pixels.faces)[:12]
    points = SurfacePoints(jnp.asarray(faces), jnp.asarray(rng.dirichlet([2, 2, 2], len(faces))))
    surface = patches(problem.pixels, points, truth.shape)

    def residuals(z, joints, albedo, light, scale, centre):
        shape = dataclasses.replace(truth.shape, z=z, joints=joints)
        camera = WeakPerspective(scale, centre)
        return photometric_residuals(surface, crop, PixelUnknowns(shape, albedo, light), jnp.eye(3), camera)

    camera = problem.target.camera_start
    arguments = (truth.shape.z + 0.1, truth.shape.joints + 0.05, truth.albedo, truth.light)
    check_derivatives(residuals, *arguments, camera.scale_px_per_m, camera.centre_px, tolerance=2e-5)


def test_known_colours_are_found_again(problem, truth):
    crop, picture = photographed(problem, truth)
    unknown = PixelUnknowns(truth.shape, jnp.zeros_like(truth.albedo), jnp.zeros_like(truth.light))
    at = fit_colours(problem, crop, unknown, Weights(prior=1e-7))
    again = rendered(problem, crop, at)
    facing = np.asarray(picture.inside & (picture.facing > 0.3))
    assert np.abs(np.asarray(again.tone - picture.tone))[facing].mean() < 0.01


def test_what_lies_before_a_face_does_not_colour_it(problem, truth, rng):
    crop, picture = photographed(problem, truth)
    # Stripes that no skin and light explain, over the lower part.
    stripes = jnp.asarray(np.where(rng.uniform(size=(CROP_PX - 130, 1, 3)) < 0.5, 0.05, 0.95))
    covered = crop.tone.at[130:].set(jnp.broadcast_to(stripes, (CROP_PX - 130, CROP_PX, 3)))
    crop = Crop(covered, crop.weight, crop.scale, crop.corner_px)
    unknown = PixelUnknowns(truth.shape, jnp.zeros_like(truth.albedo), jnp.zeros_like(truth.light))
    facing = np.asarray(picture.inside & (picture.facing > 0.4))

    def off(at):
        difference = np.abs(np.asarray(rendered(problem, crop, at).tone - picture.tone))
        return difference[:130][facing[:130]].mean()

    found = off(colours_first(problem, crop, unknown, Weights()))
    assert found < 0.06 and found < 0.5 * off(unknown), (found, off(unknown))


def test_pixels_move_a_head_to_where_it_is(problem, truth):
    crop, _ = photographed(problem, truth, background=0.05)
    away = dataclasses.replace(truth.shape, camera=jnp.asarray([0.0, 0.6, -0.5]))
    config = FitConfig(shape_from_pixels=True, weights=Weights(photometric=400.0))
    found = fit_pixels(problem, crop, PixelUnknowns(away, truth.albedo, truth.light), config)
    assert np.abs(found.shape.camera[1:]).max() < 0.5 * np.abs(away.camera[1:]).max()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))


def test_unasked_pixels_tell_skin_and_light_alone(problem, truth):
    crop, _ = photographed(problem, truth, background=0.05)
    away = dataclasses.replace(truth.shape, camera=jnp.asarray([0.0, 0.6, -0.5]))
    found = fit_pixels(problem, crop, PixelUnknowns(away, 0.0 * truth.albedo, 0.0 * truth.light), FitConfig())
    jax.tree.map(np.testing.assert_array_equal, found.shape, away)
    assert np.abs(found.albedo).max() > 0.1 and np.abs(found.light).max() > 0.1


@pytest.mark.parametrize("moves", [False, True], ids=["colours", "shape too"])
def test_gradient_descent_lowers_a_round_s_loss_with_its_share_of_steps(problem, truth, moves):
    crop, _ = photographed(problem, truth, background=0.05)
    away = dataclasses.replace(truth.shape, camera=jnp.asarray([0.0, 0.6, -0.5]), z=truth.shape.z + 0.5)
    begin = PixelUnknowns(away, 0.5 * truth.albedo, 0.5 * truth.light)
    points, share = points_seen(problem, crop, begin)

    def descended(steps):
        config = FitConfig(solver="sgd", steps=steps)
        return _round(problem, points, share, blurred(crop, 4.0), begin, config, moves=moves)

    still, some, more = (descended(steps) for steps in (4, 20, 200))
    assert [int(one.steps) for one in (still, some, more)] == [0, 4, 40]
    assert float(more.loss) < float(some.loss) < float(still.loss)
    assert int(more.result) == BUDGET_USED and all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(more.value))
    jax.tree.map(np.testing.assert_array_equal, still.value, begin)
    assert (more.value.shape.z == away.z).all() != moves


def test_gradient_descent_moves_a_head_towards_where_it_is(problem, truth):
    crop, _ = photographed(problem, truth, background=0.05)
    away = dataclasses.replace(truth.shape, camera=jnp.asarray([0.0, 0.6, -0.5]))
    config = FitConfig(solver="sgd", steps=500, shape_from_pixels=True, weights=Weights(photometric=100.0))
    found = fit_pixels(problem, crop, PixelUnknowns(away, truth.albedo, truth.light), config)
    assert (np.abs(found.shape.camera[1:]) < 0.9 * np.abs(away.camera[1:])).all()  # it is slow
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))


def test_eyeballs_go_down_at_half_the_rate(coloured):
    head = coloured.global_local()
    sizes = [model.components_m.shape[0] for model in head.local_models.values()]
    local = np.repeat([0.5 if name.endswith("eyeball") else 1.0 for name in head.local_models], sizes)
    rates = np.r_[np.ones(head.n_identity + head.n_expression), local]
    np.testing.assert_array_equal(coefficient_rates(head), rates)
    assert (np.asarray(coefficient_rates(coloured)) == 1).all()
    begin = dataclasses.replace(start(head), z=jnp.ones(head.n_components))
    config = FitConfig(solver="sgd", weights=Weights(prior=1.0))
    found = solve(lambda at: [at[0].z], (begin, jnp.ones(2)), config, jnp.asarray(rates), steps=5, tolerance=0.0)
    # The best point is one that a loss was computed at, so the last step goes beyond it.
    np.testing.assert_allclose(found.value[0].z, (1 - 0.01 * rates) ** (int(found.steps) - 1), rtol=1e-9)


def test_nothing_seen_gives_the_prior(problem, truth):
    crop = Crop(jnp.zeros((CROP_PX, CROP_PX, 3)), jnp.zeros((CROP_PX, CROP_PX)), jnp.asarray(1.0), jnp.zeros(2))
    _, share = points_seen(problem, crop, truth)
    assert (np.asarray(share) == 0).all()
    unknown = PixelUnknowns(truth.shape, truth.albedo, truth.light)
    for at in (colours_first(problem, crop, unknown, Weights()), fit_pixels(problem, crop, unknown, FitConfig())):
        assert np.abs(at.albedo).max() < 1e-3 and np.abs(at.light).max() < 1e-3


def test_single_precision_stays(problem, truth, single_precision):
    problem, truth = as_float32(problem), as_float32(truth)
    crop = as_float32(empty_crop(0.4))
    assert rendered(problem, crop, fit_colours(problem, crop, truth, Weights())).tone.dtype == jnp.float32
