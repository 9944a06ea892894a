"""Algorithm 2's photometric term: a photo's pixels after its fit, and what they do to N heads."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import as_float32, check_derivatives, no_evidence, rotation_about

from diverse3d import complete
from diverse3d._optimise import CONVERGED
from diverse3d.diversify import METHODS, Algorithm2, DiversifyConfig
from diverse3d.fit import FitReport, PhotoFit, canonical, crop_face, prepare, render_face, seen_pixels
from diverse3d.fit._crop import CROP_PX, blurred
from diverse3d.fit._photometric import ROBUST_SCALE, appearance_of
from diverse3d.fit._pixels import (
    PixelUnknowns,
    nearest_faces,
    patches,
    photometric_residuals,
    posed_surface,
    spread_points,
)
from diverse3d.fit._refine import EVERY, FINEST_PX
from diverse3d.fit._state import start
from diverse3d.observe import Photo, PhotoObservation, observe_mesh
from diverse3d.surface import WeakPerspective, srgb_from_linear

SIDE, CENTRE, SCALE = 260, 130.0, 700.0


@pytest.fixture
def problem(coloured):
    return prepare(coloured)


@pytest.fixture
def unknowns(problem, rng):
    shape = dataclasses.replace(start(problem.head), z=jnp.asarray(0.5 * rng.normal(size=problem.head.n_components)))
    return PixelUnknowns(shape, jnp.asarray([1.5, 0.5, -0.4, 0.3]), 0.3 * jnp.asarray(rng.normal(size=(9, 3))))


@pytest.fixture
def at(problem, unknowns):
    """A photo's fit that knows skin and light."""
    head, zero = problem.head, jnp.zeros(())
    vertices = canonical(head, unknowns.shape)
    return PhotoFit(
        unknowns=unknowns.shape,
        vertices_m=vertices,
        held_m=vertices,
        visible=vertices[:, 2] > 0.02,
        turn=jnp.asarray(rotation_about([0.2, 1, 0], 0.3)),
        shift_m=jnp.zeros(3),
        camera=WeakPerspective(jnp.asarray(SCALE), jnp.asarray([CENTRE, CENTRE])),
        landmarks68_px=jnp.zeros((68, 2)),
        evidence=no_evidence(unknowns.shape),
        report=FitReport(zero, zero, zero, jnp.asarray(0), jnp.asarray(CONVERGED), zero, zero),
        appearance=appearance_of(unknowns),
    )


def photo_of(rgb, hide=np.s_[:0]) -> PhotoObservation:
    hidden = np.zeros((SIDE, SIDE), bool)
    hidden[hide] = True
    landmarks = np.random.default_rng(0).uniform(CENTRE - 70, CENTRE + 70, (468, 2))
    return PhotoObservation(photo=Photo(rgb, hidden, landmarks, np.ones(468, bool), 1), source="", sha256="")


@pytest.fixture
def shown(problem, at, rng):
    """A photo of the fitted head itself: its lower quarter hidden by noise."""
    blank = photo_of(np.zeros((SIDE, SIDE, 3), np.uint8))
    crop = crop_face(blank.photo, at.vertices_m.dtype)
    posed = at.to_world(at.vertices_m)[problem.pixels.kept]
    picture = render_face(problem.pixels, crop, posed, at.camera, at.appearance)
    linear = np.where(np.asarray(picture.inside)[..., None], np.asarray(picture.tone) ** 2.2, 0.5)
    # The crop's pixels, carried to the photo's by the nearest.
    centres = (np.arange(SIDE) + 0.5)[None, :] - np.asarray(crop.corner_px)[:, None]
    column, row = np.floor(float(crop.scale) * centres).astype(int).clip(0, CROP_PX - 1)
    rgb = srgb_from_linear(linear[row[:, None], column[None, :]])
    rgb[190:] = rng.integers(0, 256, rgb[190:].shape)
    return photo_of(rgb, np.s_[190:])


def moved(at, rng, n=3):
    """Heads around a fit, flattened."""
    return (at.vertices_m[None] + jnp.asarray(2e-3 * rng.normal(size=(n, *at.vertices_m.shape)))).reshape(n, -1)


def loss_of(at, points, pixels, config):
    z = jnp.zeros((len(points), 4))
    return Algorithm2(len(z), config.algorithm2, config.kernel, pixels).loss_of(points, z, at, 1.0)


def test_a_head_equal_to_the_fit_has_the_fit_s_residual(problem, at, unknowns, shown):
    pixels = seen_pixels(shown, problem.pixels, at)
    crop = crop_face(shown.photo, at.vertices_m.dtype)
    posed, normals = posed_surface(problem.pixels, unknowns.shape, at.turn)
    fragments = nearest_faces(problem.pixels, posed, crop.camera(at.camera))
    points, share = spread_points(problem.pixels, fragments, normals, np.asarray(crop.weight))
    surface = patches(problem.pixels, points, unknowns.shape)
    expected = photometric_residuals(surface, blurred(crop, FINEST_PX), unknowns, at.turn, at.camera)[::EVERY]
    np.testing.assert_allclose(pixels.differences(at.vertices_m), expected, atol=1e-12)
    assert pixels.weight.shape == (400,) and (np.asarray(share[::EVERY]) > 0).all()
    square = np.sum(np.asarray(expected) ** 2, axis=1)
    covered = np.mean((np.asarray(fragments.face) >= 0) * np.asarray(crop.weight))
    mean = covered / 3 * np.mean(square / (1 + square / ROBUST_SCALE**2))
    np.testing.assert_allclose(pixels(at.vertices_m), mean, rtol=1e-9)
    np.testing.assert_allclose(jnp.sum(pixels.weight), covered)


def test_a_head_that_looks_like_the_photo_has_the_least(problem, at, shown):
    pixels = seen_pixels(shown, problem.pixels, at)
    here = float(pixels(at.vertices_m))
    for shift in np.concatenate([np.eye(3)[:2], -np.eye(3)[:2]]):
        assert float(pixels(at.vertices_m + jnp.asarray(6e-3 * shift)[None])) > 1.2 * here
    # However wrong a colour is, it counts for no more than the robust scale.
    assert float(pixels(at.vertices_m + 1.0)) < ROBUST_SCALE**2 / 3


def test_gradients_of_n_heads_equal_finite_differences(problem, at, shown, rng):
    pixels = seen_pixels(shown, problem.pixels, at)
    x, y = np.meshgrid(np.arange(CROP_PX) / CROP_PX, np.arange(CROP_PX) / CROP_PX)
    smooth = jnp.asarray(np.stack([0.3 + 0.4 * x, 0.2 + 0.5 * y, 0.6 - 0.3 * x * y], 2))  # no kinks between pixels
    pixels = eqx.tree_at(lambda p: p.picture, pixels, pixels.picture._replace(tone=smooth))
    config = DiversifyConfig().replace(visible_weight=0.0, dpp_weight=0.0)

    def loss(z):
        shapes = jax.vmap(lambda row: canonical(problem.head, dataclasses.replace(at.unknowns, z=row)))(z)
        return loss_of(at, shapes.reshape(len(z), -1), pixels, config)

    z = at.unknowns.z[None] + 0.3 * jnp.asarray(rng.normal(size=(3, at.unknowns.z.size)))
    assert np.abs(jax.grad(loss)(z)).min(axis=1).max() > 0
    check_derivatives(loss, z, tolerance=2e-5)


def test_hidden_pixels_have_no_influence(problem, at, shown, rng):
    rgb = shown.photo.rgb.copy()
    rgb[190:] = rng.integers(0, 256, rgb[190:].shape)
    other = eqx.tree_at(lambda seen: seen.photo.rgb, shown, rgb)
    points = moved(at, rng)
    one, two = (
        jax.value_and_grad(lambda p, s=s: loss_of(at, p, seen_pixels(s, problem.pixels, at), DiversifyConfig()))(points)
        for s in (shown, other)
    )
    assert (rgb != shown.photo.rgb).any()
    jax.tree.map(np.testing.assert_array_equal, one, two)


def test_a_photo_that_shows_nothing_says_nothing(problem, at, shown, rng):
    everything = eqx.tree_at(lambda seen: seen.photo.hidden, shown, np.ones((SIDE, SIDE), bool))
    pixels = seen_pixels(everything, problem.pixels, at)
    value, slope = jax.value_and_grad(pixels)(moved(at, rng, 1)[0].reshape(-1, 3))
    assert float(value) == 0 and (np.asarray(slope) == 0).all()


def test_no_weight_or_no_pixels_leave_the_loss_as_it_was(problem, at, shown, rng):
    points, config = moved(at, rng), DiversifyConfig().replace(photometric_weight=0.0)
    pixels = seen_pixels(shown, problem.pixels, at)
    without = loss_of(at, points, None, DiversifyConfig())
    assert (
        float(loss_of(at, points, pixels, config))
        == float(without)
        < float(loss_of(at, points, pixels, DiversifyConfig()))
    )
    assert seen_pixels(shown, problem.pixels, dataclasses.replace(at, appearance=None)) is None
    assert seen_pixels(shown, None, at) is None
    assert seen_pixels(observe_mesh(np.asarray(at.vertices_m), head=problem.head), problem.pixels, at) is None


@pytest.mark.usefixtures("optax_promotion")
def test_pixels_hold_completions_of_photos_alone(problem, at, shown, key):
    pixels = seen_pixels(shown, problem.pixels, at)
    mesh = observe_mesh(np.asarray(at.vertices_m), head=problem.head)

    def made(seen, weight, method="global-dpp"):
        config = DiversifyConfig().replace(
            steps=40, visible_weight=10.0, photometric_weight=weight, visible_tolerance_mm=1e3
        )
        result = complete(seen, head=problem, n=3, method=method, key=key, config=config, fitted=at)
        return np.asarray(result.vertices), float(jnp.mean(jax.vmap(pixels)(result.vertices @ at.turn)))

    held, term = made(shown, 500.0)
    free, loose = made(shown, 0.0)
    assert term < 0.8 * loose
    np.testing.assert_array_equal(made(mesh, 500.0)[0], free)
    np.testing.assert_array_equal(made(mesh, 0.0)[0], free)
    assert [name for name, method in METHODS.items() if method.choice == "algorithm2"] == [
        "global-dpp", "global-local-dpp", "vae-dpp", "vae-dpp-kriging",
    ]  # fmt: skip


def test_single_precision_stays(problem, at, shown, single_precision):
    at, pixels = as_float32(at), as_float32(problem.pixels)
    found = seen_pixels(shown, pixels, at)
    assert found(at.vertices_m).dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(eqx.filter(found, eqx.is_inexact_array))} == {jnp.dtype("float32")}
