"""Numbers at the edges, as laws: one head, more than there are directions, duplicates, zero and huge values."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from helpers import draw_nothing
from test_posterior import fit_at

from diverse3d import InputError, complete
from diverse3d.diversify import DiversifyConfig
from diverse3d.fit import isotropic_noise
from diverse3d.observe import observe_mesh
from diverse3d.show import completion_arrays

QUICK = DiversifyConfig().replace(pool=60)


@pytest.fixture(scope="module")
def truth(tiny_head):
    rng = np.random.default_rng(3)
    return np.asarray(tiny_head.shaped(tiny_head.prior_mean + jnp.asarray(rng.normal(size=10))), np.float64)


@pytest.fixture(scope="module")
def task(tiny_head, truth):
    """An observation of the upper half, and a fit at the mean."""
    seen = observe_mesh(truth, head=tiny_head, hidden=~(truth[:, 1] > 0.0))
    return seen, fit_at(tiny_head, seen.mesh.vertices_m, seen.mesh.visible)


def go(head, task, key, n, method="posterior", noise="realistic", **more):
    seen, at = task
    return complete(seen, head=head, n=n, method=method, key=key, noise=noise, config=QUICK, fitted=at, **more)


@pytest.mark.parametrize("method", ["posterior", "posterior-dpp"])
@pytest.mark.parametrize("n", [1, 12])
def test_one_head_and_more_than_there_are_directions(tiny_head, task, key, method, n):
    """The tiny head has ten components: twelve heads can't be independent, and are all different still."""
    got = go(tiny_head, task, key, n, method)
    heads = np.asarray(got.vertices)
    assert heads.shape[0] == n and np.isfinite(heads).all() and set(got.results.tolist()) == {0}
    assert len(np.unique(heads.reshape(n, -1), axis=0)) == n and np.isfinite(got.uncertainty).all()
    if n == 1:
        assert not got.uncertainty.any() and got.metrics()["asd_o"] == 0.0


@pytest.mark.parametrize("sigma_m", [0.0, 1e-42, 1e-9, 1e3])
def test_no_noise_and_any_amount_of_it(tiny_head, task, key, sigma_m):
    """Of metres of noise, nothing visible tells where the head is: that is refused, and not written."""
    noise = isotropic_noise(tiny_head, sigma_m, "x")
    if sigma_m > 1.0:
        with pytest.raises(InputError, match="none is written"):
            go(tiny_head, task, key, 3, noise=noise)
    else:
        heads = np.asarray(go(tiny_head, task, key, 3, noise=noise).vertices)
        assert np.isfinite(heads).all() and np.abs(heads).max() < 0.3


def test_twice_the_same_vertex_and_a_degenerate_triangle(tiny_head, truth, key):
    """Coinciding and collinear vertices of what is given change no count, and nothing that isn't there."""
    twin = truth.copy()
    a, b, c = np.asarray(tiny_head.faces)[20]
    twin[b] = twin[a]
    hidden = ~(truth[:, 1] > 0.0)
    got = complete(observe_mesh(twin, head=tiny_head, hidden=hidden), head=tiny_head, n=2, method="posterior", key=key)
    assert np.isfinite(np.asarray(got.vertices)).all() and int(np.max(got.faces)) == tiny_head.n_vertices - 1


@pytest.mark.parametrize("value", [1e-310, -1e-310, 5e-324, -0.0])
def test_denormal_coordinates_are_zero(tiny_head, truth, value):
    hidden = ~(truth[:, 1] > 0.0)
    small, plain = truth.copy(), truth.copy()
    at = np.flatnonzero(~hidden)[:5]
    small[at, 0], plain[at, 0] = value, 0.0
    seen, same = (observe_mesh(mesh, head=tiny_head, hidden=hidden).mesh.vertices_m for mesh in (small, plain))
    np.testing.assert_allclose(seen, same, atol=1e-300)


@pytest.mark.parametrize("times", [10.0, 1e4, 1e12, 1e30])
def test_heads_that_can_not_be_are_refused_or_kept_possible(tiny_head, key, times):
    """Whatever coefficients what is given seems to have, no completion is larger than a head."""
    huge = np.asarray(tiny_head.shaped(tiny_head.prior_mean + times * jnp.linspace(-1.0, 1.0, 10)), np.float64)
    hidden = ~(np.asarray(tiny_head.template_m)[:, 1] > 0.0)
    try:
        seen = observe_mesh(huge, head=tiny_head, hidden=hidden)
        got = np.asarray(complete(seen, head=tiny_head, n=2, method="posterior", key=key).vertices)
    except InputError as error:
        assert str(error).endswith(".")
        return
    assert np.isfinite(got).all() and np.ptp(got, axis=1).max() < 0.6


@pytest.mark.parametrize("part", ["vertices", "fit_vertices", "map_vertices", "latents"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_reaches_no_file(tiny_head, task, key, tmp_path, monkeypatch, part, value):
    draw_nothing(monkeypatch)
    got = go(tiny_head, task, key, 2)
    broken = dataclasses.replace(got, **{part: getattr(got, part).at[0, 0].set(value)})
    with pytest.raises(InputError, match=r"not finite.*nothing was written"):
        completion_arrays(broken)
    with pytest.raises(InputError, match="not finite"):
        broken.save(tmp_path / "out", report=False)
    assert not list(tmp_path.iterdir())
