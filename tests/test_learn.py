"""Training data made of a head: masks, the closed form in bulk, and the correction that keeps the visible part."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import as_float32

from diverse3d._errors import InputError
from diverse3d.diversify import N_RIGID
from diverse3d.fit import isotropic_noise
from diverse3d.head import load_head
from diverse3d.learn import HeadCorrector, ResidualSource, linearise, make_views, population_data, region_masks
from diverse3d.learn._residual import posterior_means

SIGMA_M = 1e-4


@pytest.fixture(scope="module")
def head(tiny_head):
    return tiny_head


@pytest.fixture(scope="module")
def closed_form(head):
    """The linearised head, its noise, and the masks: nothing hidden, one half, everything."""
    noise = isotropic_noise(head, SIGMA_M, "exact")
    half = np.asarray(head.template_m)[:, 1] < 0
    hidden = np.stack([np.zeros_like(half), half, np.ones_like(half)])
    linear = linearise(head, noise)
    return linear, noise, hidden, make_views(linear, noise, hidden)


def source_of(head, closed_form, rows, draw, errors=None):
    linear, noise, hidden, _ = closed_form
    views = make_views(linear, noise, hidden[rows])
    return ResidualSource(
        draw=draw,
        held_back_m=np.asarray(draw(2, jax.random.key(3))),
        linear=linear,
        views=views,
        held_views=views,
        errors_m=jnp.zeros((0, head.n_vertices * 3)) if errors is None else errors,
        held_errors_m=jnp.zeros((0, head.n_vertices * 3)),
        template_m=head.template_m,
        scale_m=0.01,
        residual_scale_m=1e-3,
        batch=2,
    )


def draw_from(head):
    def draw(count, key):
        z = jax.random.normal(key, (count, head.n_components), head.dtype)
        return jax.vmap(head.shaped)(z + head.prior_mean[None, :])

    return draw


def test_a_head_that_is_seen_whole_leaves_nothing_over(head, closed_form, key):
    examples = source_of(head, closed_form, [0], draw_from(head)).examples(3, progress=1.0, key=key)
    assert examples.target.shape == (3, head.n_vertices, 3) and bool(examples.visible.all())
    assert float(jnp.abs(examples.target).max()) < 0.2  # units of a millimetre, at a noise of a tenth


def rigid_part(source, heads_m, key):
    """What the posterior means of these heads move rigidly."""
    _, view_key = jax.random.split(key)
    _, _, mean, _ = posterior_means(source, source.views, source.errors_m, heads_m, key=view_key)
    return (mean[:, -N_RIGID:] @ source.linear.shape_m[-N_RIGID:]).reshape(heads_m.shape)


def test_base_rigid_motion_and_target_add_up_to_the_head(head, closed_form, key):
    source = source_of(head, closed_form, [1], draw_from(head))
    examples = source.examples(4, progress=0.0, key=key)
    heads_key, _ = jax.random.split(key)
    truth = source.draw(4, heads_key)
    base = head.template_m[None] + source.scale_m * examples.base + rigid_part(source, truth, key)
    np.testing.assert_allclose(base + source.residual_scale_m * examples.target, truth, atol=1e-12)
    seen = np.asarray(examples.visible)
    target = np.abs(np.asarray(examples.target))
    assert 0 < target[seen].max() < target[~seen].max()


def test_the_base_is_the_posterior_mean(head, closed_form, key):
    """Against the textbook formula, from scratch."""
    linear, _, hidden, _ = closed_form
    source = source_of(head, closed_form, [1], draw_from(head))
    examples = source.examples(1, progress=0.0, key=key)
    truth = np.asarray(source.draw(1, jax.random.split(key)[0]))[0]
    jacobian, prior = np.asarray(linear.jacobian_m), np.diag(np.asarray(linear.root) ** 2)
    rows = jacobian[:, np.repeat(~hidden[1], 3)]
    innovation = (truth.reshape(-1) - np.asarray(linear.centre_m))[np.repeat(~hidden[1], 3)]
    mean = np.linalg.solve(rows @ rows.T / SIGMA_M**2 + prior, rows @ innovation / SIGMA_M**2)
    mean[linear.shape_m.shape[0] - N_RIGID : linear.shape_m.shape[0]] = 0.0
    base = np.asarray(linear.centre_m) + mean @ jacobian
    got = np.asarray(head.template_m) + source.scale_m * np.asarray(examples.base)[0]
    np.testing.assert_allclose(got.reshape(-1), base, atol=1e-7)


def test_a_corrected_residual_keeps_the_visible_part(head, closed_form, rng):
    linear, _, hidden, views = closed_form
    corrector = HeadCorrector(linear.shape_m, linear.dual)
    z = rng.normal(size=head.n_components)
    residual = jnp.asarray((z @ np.asarray(head.components_m)).reshape(-1, 3))
    factors = [factor[: factor.shape[1]] for factor in views.factor]
    whole, half, none = (np.asarray(corrector(factor, residual)) for factor in factors)
    size = np.abs(residual).max()
    assert np.abs(whole).max() < 0.02 * size
    assert np.abs(half[~hidden[1]]).max() < 0.05 * size
    np.testing.assert_allclose(none, residual, atol=1e-9)  # nothing is seen: everything is free
    np.testing.assert_allclose(corrector(factors[1], 2.0 * residual), 2.0 * half, atol=1e-12)


def test_draws_have_the_covariance_of_the_posterior(head, closed_form, key):
    linear, _, hidden, views = closed_form
    rows = np.asarray(linear.jacobian_m)[:, np.repeat(~hidden[1], 3)]
    covariance = np.linalg.inv(rows @ rows.T / SIGMA_M**2 + np.diag(np.asarray(linear.root) ** 2))
    factor = views.factor[1]
    kept = linear.shape_m.shape[0]
    np.testing.assert_allclose(factor[:kept] @ factor[:kept].T, covariance[:kept, :kept], atol=1e-9)
    corrector, zero = HeadCorrector(linear.shape_m, linear.dual), jnp.zeros((head.n_vertices, 3))
    draws = jax.vmap(lambda one: corrector.draw(factor[:kept], zero, jnp.asarray(0.5), key=one))
    got = np.asarray(draws(jax.random.split(key, 4000))).reshape(4000, -1)
    shape = np.asarray(linear.shape_m)
    np.testing.assert_allclose(got.std(0), 0.5 * np.sqrt(((shape.T @ covariance[:kept, :kept]) * shape.T).sum(1)),
                               rtol=0.08)  # fmt: skip


def test_errors_of_the_visible_part_do_not_reach_the_truth(head, closed_form, rng, key):
    clean = source_of(head, closed_form, [1], draw_from(head))
    noisy = source_of(
        head, closed_form, [1], draw_from(head), 1e-3 * jnp.asarray(rng.normal(size=(2, 3 * head.n_vertices)))
    )
    heads_key, _ = jax.random.split(key)
    truth = clean.draw(2, heads_key)
    examples = [source.examples(2, progress=0.0, key=key) for source in (clean, noisy)]
    assert float(jnp.abs(examples[1].base - examples[0].base).max()) > 1e-3
    whole = [
        source.scale_m * e.base + source.residual_scale_m * e.target + rigid_part(source, truth, key)
        for source, e in zip((clean, noisy), examples, strict=True)
    ]
    np.testing.assert_allclose(whole[0], whole[1], atol=1e-12)


def test_where_a_head_lies_is_not_told(head, closed_form, key):
    """A population's heads lie where it has them, a user's anywhere: a model must not see it."""
    here = draw_from(head)

    def there(count, key):
        return here(count, key) + jnp.array([[[2e-3, -1e-3, 3e-3]]])

    seen, moved = (source_of(head, closed_form, [1], draw).examples(3, progress=0.0, key=key) for draw in (here, there))
    np.testing.assert_allclose(moved.base, seen.base, atol=1e-6)
    np.testing.assert_allclose(moved.target, seen.target, atol=1e-4)


def test_masks_are_those_of_the_regions(single_precision):
    head = load_head()
    data = population_data(head, validation=4)
    masks, names = region_masks(head, data.reference_m[:8], 20, key=jax.random.key(0))
    assert masks.shape == (20, head.n_vertices) and set(names) >= {"random", "glasses", "face-mask", "eyes"}
    assert all(0 < mask.sum() < 0.6 * mask.size for mask in masks)
    front, _ = region_masks(head, data.reference_m[:8], 2, front=True, key=jax.random.key(0))
    assert (front >= masks[:2]).all() and (front.sum(1) > masks[:2].sum(1)).all()
    one, other = (np.asarray(data.draw_m(2, jax.random.key(k))) for k in (0, 1))
    assert one.shape == (2, head.n_vertices, 3) and not np.allclose(one, other)


def test_a_head_without_a_population_says_so(head):
    with pytest.raises(InputError, match="no population of its own"):
        population_data(as_float32(head), validation=4)
