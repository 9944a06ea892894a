"""A pinned part: the closed form conditioned on it, what is kept and what is not, files, and what is refused."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import draw_nothing, tiny_arrays
from safetensors.numpy import save_file

import diverse3d as d3
from diverse3d._errors import InputError
from diverse3d.cli import main
from diverse3d.diversify import (
    ComponentConfig,
    ComponentResidual,
    DiversifyConfig,
    Pin,
    make_component_model,
    posterior,
)
from diverse3d.diversify._hold import hold_together
from diverse3d.diversify._pin import PIN_SIGMA_M, keep
from diverse3d.diversify._posterior import head_vertices
from diverse3d.fit import fit, isotropic_noise
from diverse3d.head import head_from_arrays, load_head
from diverse3d.observe import observe_mesh

CONFIG = DiversifyConfig().replace(pool=24)


def half(head, seed=3):
    """What is seen of a head's upper half."""
    rng = np.random.default_rng(seed)
    truth = np.asarray(head.shaped(head.prior_mean + jnp.asarray(rng.normal(size=head.n_components))))
    return observe_mesh(truth, head=head, hidden=~(truth[:, 1] > 0.05))


@pytest.fixture(scope="module")
def head():
    """A head with enough components that neither what is seen nor what is pinned says all of them."""
    return head_from_arrays(tiny_arrays(identity=60), name="many")


@pytest.fixture(scope="module")
def task(head):
    seen = half(head)
    return seen, fit(seen, head), isotropic_noise(head, 1e-3, "exact")


@pytest.fixture(scope="module")
def components(head):
    unknowns = head.n_components + 3 * head.n_joints + 6
    sizes = ComponentConfig(hidden=16, latent=4, clusters=6)
    return ComponentResidual("0" * 64, make_component_model(head, unknowns, sizes, key=jax.random.key(2)))


@pytest.fixture(scope="module")
def results(head, task, components):
    """A result of each method that is asked for."""
    seen, at, _ = task
    made = {}

    def result(name):
        if name not in made:
            weights = components if name.startswith("hybrid") else None
            made[name] = d3.complete(
                seen, head=head, n=5, method=name, key=jax.random.key(7), noise="exact", config=CONFIG,
                fitted=at, weights=weights,
            )  # fmt: skip
        return made[name]

    return result


def apart_mm(first, second):
    return 1e3 * np.linalg.norm(np.asarray(first) - np.asarray(second), axis=-1)


def test_it_is_dense_conditioning(head, task):
    """Stationary at the mean, and with the covariance of the dense formula."""
    _, at, noise = task
    closed = posterior(head, at, noise)
    goal = head_vertices(head, closed.samples(1, key=jax.random.key(4))[0])
    marks = np.asarray(head.template_m)[:, 1] < -0.08
    pin = Pin(marks, np.asarray(at.to_world(goal)), 0, (), "")
    as_seen, kept = keep(head, at, closed, None, pin)
    rows = np.repeat(marks, 3)
    jacobian = np.asarray(jax.jacfwd(lambda x: head_vertices(head, x).reshape(-1))(kept.mean))[rows]
    precision = np.asarray(closed.factor.T @ closed.factor)
    whole = precision + jacobian.T @ jacobian / PIN_SIGMA_M**2
    covariance, spread = np.linalg.inv(whole), np.asarray(kept.spread)
    assert np.abs(spread @ spread.T - covariance).max() < 0.02 * np.abs(covariance).max()
    left = np.asarray(goal - head_vertices(head, kept.mean)).reshape(-1)[rows]
    pull = precision @ np.asarray(closed.mean - kept.mean) + jacobian.T @ left / PIN_SIGMA_M**2
    # One Newton step from there would move it by next to nothing of its own spread.
    step = covariance @ pull
    assert np.sqrt(step @ whole @ step) < 0.1
    np.testing.assert_array_equal(as_seen.visible, np.asarray(at.visible) | marks)
    assert apart_mm(as_seen.vertices_m, goal)[marks].max() < 0.1
    # And of samples that are held together, by the covariance of those.
    hold = hold_together(head, at, noise, 1.0)
    _, held = keep(head, at, closed, hold, pin)
    drawn = np.asarray(jax.vmap(hold, 1, 1)(jnp.linalg.inv(closed.factor)))
    slope = jacobian @ drawn
    inner = np.linalg.inv(np.eye(len(precision)) + slope.T @ slope / PIN_SIGMA_M**2)
    expected = drawn @ inner @ drawn.T
    assert np.abs(np.asarray(held.spread @ held.spread.T) - expected).max() < 0.02 * np.abs(expected).max()


@pytest.mark.parametrize("name", ["posterior", "posterior-support", "hybrid-dpp"])
def test_what_is_pinned_stays_and_the_rest_does_not(results, components, name):
    result = results(name)
    weights = components if name.startswith("hybrid") else None
    again = d3.pin(result, 3, "neck", key=jax.random.key(1), weights=weights)
    neck = np.isin(np.arange(result.head.n_vertices), result.head.regions["neck"])
    assert apart_mm(again.vertices, result.vertices[3])[:, neck].max() < 0.1
    seen, rest = np.asarray(result.visible), ~np.asarray(result.visible) & ~neck
    np.testing.assert_array_equal(again.visible, result.visible)
    # The visible part is held as before, the hidden rest differs from head to head and from what was there.
    before, after = (apart_mm(one.vertices, one.held)[:, seen].mean() for one in (result, again))
    assert after < 1.5 * before + 0.02
    assert again.uncertainty[rest].mean() > 10 * again.uncertainty[neck].mean()
    assert apart_mm(again.vertices, result.vertices[3])[:, rest].mean(axis=1).min() > 2 * PIN_SIGMA_M * 1e3
    assert (again.method, again.noise, len(again.vertices)) == (name, "exact", 5)
    assert (np.asarray(again.results) == 0).all()


def test_pins_add_up_and_a_path_keeps_them(results):
    result = results("posterior")
    head, where = result.head, np.asarray(result.head.template_m)
    first = d3.pin(result, 1, "neck", 4, key=jax.random.key(1))
    marks = (where[:, 1] < 0.0) & (where[:, 1] > -0.04)
    second = d3.pin(first, 2, marks, 4, key=jax.random.key(2))
    neck = np.isin(np.arange(head.n_vertices), head.regions["neck"])
    assert apart_mm(second.vertices, first.vertices[2])[:, marks | neck].max() < 0.1
    assert second.pin.regions == ("neck",) and second.pin.vertices.sum() == (marks | neck).sum()
    path = d3.interpolate(first, 0, 3, frames=5, head=head)
    assert apart_mm(path.vertices, result.vertices[1])[:, neck].max() < 0.1
    assert path.largest_step < 1.5 and path.step_mm.min() > 0.0


def test_wider_and_narrower(results):
    result = results("posterior")
    narrow, wide = (
        d3.pin(result, 0, "neck", 5, key=jax.random.key(1), config=CONFIG.replace(contraction=scale)).uncertainty.mean()
        for scale in (0.5, 1.0)
    )
    assert 1.8 < wide / narrow < 2.2


def test_what_is_refused(results):
    result = results("posterior")

    def refused(says, *arguments, of=result, **options):
        with pytest.raises(InputError, match=says):
            d3.pin(of, *arguments, key=jax.random.key(0), **options)

    refused("no completion 5; give a number from 0 to 4", 5, "neck")
    refused("no completion -1", -1, "neck")
    refused("has no region 'nek'; did you mean 'neck'", 0, "nek")
    refused("Nothing is pinned", 0, [])
    refused("mask of what is pinned is bool of shape", 0, np.ones(3, bool))
    refused("0 completions", 0, "neck", 0)
    refused("'map' makes a single head", 0, "neck", method="map")
    refused(
        "does not draw from the closed form.*use posterior,",
        0,
        "neck",
        of=dataclasses.replace(result, method="vae-dpp"),
    )
    bent = result.vertices.at[0].add(0.01 * jax.random.normal(jax.random.key(3), result.vertices[0].shape))
    refused("Completion 0 can't be kept there: .* mm off", 0, "neck", of=dataclasses.replace(result, vertices=bent))


def test_the_command_and_its_folder(tmp_path, monkeypatch, capsys):
    draw_nothing(monkeypatch)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file = tmp_path / "tiny.safetensors"
    save_file(tiny_arrays(), file, {"name": "tiny"})
    seen = half(load_head(file))
    given = tmp_path / "partial.npz"
    np.savez(given, vertices=seen.mesh.vertices_m, visible=seen.mesh.visible)
    first, second = tmp_path / "first", tmp_path / "second"
    options = ["--head", str(file), "--quiet"]
    assert main(["complete", str(given), "--out", str(first), "-n", "3", "--method", "posterior", *options]) == 0
    assert main(["pin", str(first), "1", "--region", "neck,nose", "--out", str(second), "-n", "2", *options]) == 0
    record = json.loads((second / "run.json").read_text(encoding="utf-8"))
    assert record["pin"]["completion"] == 1 and record["pin"]["regions"] == ["neck", "nose"]
    assert record["configuration"]["command"] == "pin" and record["configuration"]["of"] == "first"
    assert any(note.startswith("Pinned in every head: neck, nose of completion 1") for note in record["warnings"])
    with np.load(first / "completions.npz") as old, np.load(second / "completions.npz") as new:
        marks = np.load(second / "pin.npz")["vertices"]
        assert apart_mm(new["vertices"], old["vertices"][1])[:, marks].max() < 0.1
    assert main(["replay", str(second), "--head", str(file)]) == 0
    assert "identical" in capsys.readouterr().out
    for arguments, says in (
        (["1"], "Say what is kept"),
        (["9", "--region", "neck"], "no completion 9"),
        (["1", "--region", "ear"], "has no region 'ear'"),
        (["1", "--vertices", str(tmp_path / "none.npy")], "no mask file"),
    ):
        assert main(["pin", str(first), *arguments, "--out", str(tmp_path / "third"), *options]) == 2
        assert says in capsys.readouterr().err and not (tmp_path / "third").exists()
    (second / "pin.npz").unlink()
    assert main(["replay", str(second), "--head", str(file)]) == 2
    assert "holds no pin.npz" in capsys.readouterr().err
