"""The kriging correction against dense algebra; paths with equal steps and a held visible part; their files."""

import dataclasses
import io
import json
import shutil
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pygltflib
import pytest
from helpers import as_float32, draw_nothing, smooth_fields, tiny_arrays
from PIL import Image
from safetensors.numpy import save_file
from test_posterior import fit_at, noise_with_patterns
from test_show import glb_array

import diverse3d as d3
from diverse3d._errors import InputError
from diverse3d.cli import main
from diverse3d.diversify import krige, kriging, path, posterior, prior_root
from diverse3d.diversify._interpolate import LARGEST_FRAMES
from diverse3d.diversify._posterior import expand
from diverse3d.fit import isotropic_noise
from diverse3d.head import head_from_arrays
from diverse3d.show._animation import animated_glb_bytes, gif_bytes, there_and_back


@pytest.fixture(scope="module")
def still_head():
    """A head whose joints stay at rest."""
    return head_from_arrays({key: value for key, value in tiny_arrays().items() if key != "joint_std"})


@pytest.fixture(params=["still", "posed"])
def case(request, still_head, tiny_head, rng):
    """A head with its upper half seen, noise with patterns, and the posterior."""
    head = still_head if request.param == "still" else tiny_head
    truth = np.asarray(head.shaped(head.prior_mean + jnp.asarray(rng.normal(size=head.n_components))))
    fit = fit_at(head, truth + 1e-3 * rng.normal(size=truth.shape), truth[:, 1] > 0.0)
    noise = noise_with_patterns(head, rng)
    return head, fit, posterior(head, fit, noise), noise


# The kriging correction


def test_prior_samples_become_posterior_samples(case):
    """Matheron's rule, by the covariance of the result: the correction's own Jacobians over prior and noise."""
    head, fit, belief, noise = case
    at, flat = expand(head, fit, noise), (head.n_vertices, 3)
    count = at.point.size - len(noise.factors_m)

    def corrected(vertices, held):
        return krige(head, fit, belief, noise, vertices.reshape(flat), held_m=held.reshape(flat)).reshape(-1)

    on_vertices, on_held = jax.jacfwd(corrected, (0, 1))(fit.vertices_m.reshape(-1), fit.held_m.reshape(-1))
    shape = np.asarray(at.jacobian_m[:, :count])
    patterns = np.asarray(noise.factors_m).reshape(len(noise.factors_m), -1)
    # The rigid unknowns are all but free a priori: their huge variance, which the correction takes out, costs digits.
    prior = np.diag(1.0 / np.asarray(prior_root(head, noise)[:count]) ** 2)
    errors = np.diag(np.repeat(np.asarray(noise.sigma_m) ** 2, 3)) + patterns.T @ patterns
    moved = np.asarray(on_vertices) @ shape
    got = moved @ prior @ moved.T + np.asarray(on_held) @ errors @ np.asarray(on_held).T
    covariance = np.linalg.inv(np.asarray(belief.factor.T @ belief.factor))[:count, :count]
    expected = shape @ covariance @ shape.T
    np.testing.assert_allclose(got, expected, atol=1e-7 * np.diag(expected).max(), rtol=0)
    # And their mean: the linearised head at the prior's mean becomes the linearised posterior mean.
    centre = at.observed_m - at.jacobian_m @ at.point
    np.testing.assert_allclose(
        corrected(centre, fit.held_m.reshape(-1)), centre + shape @ np.asarray(belief.mean)[:count], atol=1e-9
    )


def test_correction_is_linear_in_what_is_off_and_does_nothing_where_nothing_is(case, rng):
    head, fit, belief, noise = case
    correct = kriging(head, fit, belief, noise)
    first, second = (jnp.asarray(1e-2 * rng.normal(size=fit.held_m.shape)) for _ in range(2))

    def moved(off):
        return correct(fit.held_m - off, fit.held_m) - (fit.held_m - off)

    np.testing.assert_allclose(moved(2.0 * first - second), 2.0 * moved(first) - moved(second), atol=1e-14)
    only_hidden = jnp.where(fit.visible[:, None], 0.0, first)
    np.testing.assert_array_equal(moved(only_hidden), 0.0)
    # What comes from nowhere else moves as the same correction from another place does.
    np.testing.assert_allclose(correct(first, first + second) - first, moved(second), atol=1e-14)


def test_correction_brings_the_visible_part_back_and_takes_the_hidden_one_along(still_head, rng):
    truth = still_head.shaped(still_head.prior_mean)
    fit = fit_at(still_head, truth, np.asarray(truth)[:, 1] > 0.0)
    noise = isotropic_noise(still_head, 1e-5, "x")
    belief = posterior(still_head, fit, noise)
    other = still_head.shaped(still_head.prior_mean + jnp.asarray(rng.normal(size=still_head.n_components)))
    off = np.linalg.norm(np.asarray(other - truth), axis=1)
    left = np.linalg.norm(np.asarray(krige(still_head, fit, belief, noise, other) - truth), axis=1)
    visible = np.asarray(fit.visible)
    # Ten components leave nothing open: what brings the upper half back brings the lower half back.
    assert off[visible].max() > 3e-3 and off[~visible].max() > 3e-3
    assert left[visible].max() < 2e-5 and left[~visible].max() < 1e-4


def test_nothing_visible_corrects_nothing(still_head, rng):
    fit = fit_at(still_head, np.zeros((still_head.n_vertices, 3)), np.zeros(still_head.n_vertices, bool))
    noise = isotropic_noise(still_head, 1e-3, "x")
    vertices = jnp.asarray(rng.normal(size=fit.held_m.shape))
    got = krige(still_head, fit, posterior(still_head, fit, noise), noise, vertices)
    np.testing.assert_array_equal(got, vertices)


def test_many_at_once_compiled_and_in_single_precision(case, rng):
    head, fit, belief, noise = case
    heads = fit.vertices_m[None] + jnp.asarray(1e-2 * rng.normal(size=(3, head.n_vertices, 3)))
    one_by_one = jnp.stack([krige(head, fit, belief, noise, vertices) for vertices in heads])
    many = jax.jit(jax.vmap(lambda vertices: krige(head, fit, belief, noise, vertices)))(heads)
    np.testing.assert_allclose(many, one_by_one, atol=1e-13)
    near = kriging(*map(as_float32, (head, fit, posterior(*map(as_float32, (head, fit, noise))), noise)))
    got = jax.vmap(near, (0, None))(as_float32(heads), as_float32(fit.held_m))
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, many, atol=2e-6)


# Paths


class Bent(eqx.Module):
    """A decoder whose vertices move along a curve, slowly at first, and take the visible ones with them."""

    base: jax.Array
    push: jax.Array

    def __call__(self, latent):
        return self.base + 2.0 * jnp.tanh(latent[0] ** 3) * self.push[0] + 0.5 * jnp.sin(3.0 * latent[1]) * self.push[1]


@pytest.fixture
def bent(case, rng):
    head, fit, belief, noise = case
    # What the components can do, which the correction takes back, and where hidden what they can't, which it leaves.
    hidden = ~np.asarray(fit.visible)[None, :, None]
    push = 0.004 * smooth_fields(rng, np.asarray(head.template_m), 2) * hidden
    decode = Bent(fit.vertices_m, jnp.asarray(push) + head.components_m[:2].reshape(2, -1, 3))
    latents = jnp.asarray([[0.0, 0.1], [1.5, 0.9]])
    # The ends are held to the visible part, as completions are, so they are not where their latents are.
    correct = kriging(head, fit, belief, noise)
    return decode, latents, jax.vmap(lambda z: correct(decode(z), fit.held_m))(latents), ~fit.visible, correct


def rms(points, chosen):
    return np.sqrt((np.asarray(points)[..., np.asarray(chosen), :] ** 2).sum(-1).mean(-1))


@pytest.mark.parametrize("frames", [2, 3, 9])
def test_ends_are_exact_and_steps_equal(bent, frames):
    decode, latents, ends, hidden, correct = bent
    for correction in (None, correct):
        heads, alpha = path(decode, *latents, frames, ends_m=ends, moving=hidden, correct=correction)
        np.testing.assert_array_equal(heads[jnp.array([0, -1])], ends)
        assert heads.shape == (frames, *ends.shape[1:]) and (alpha[0], alpha[-1]) == (0.0, 1.0)
        assert (np.diff(alpha) > 0).all()
        step = rms(np.diff(heads, axis=0), hidden)
        assert step.max() / step.mean() < 1.02
    # Equal shares of the latents are far from equal steps here.
    even = jax.vmap(decode)(latents[:1] + jnp.linspace(0.0, 1.0, 9)[:, None] * (latents[1:] - latents[:1]))
    step = rms(np.diff(even, axis=0), hidden)
    assert step.max() / step.mean() > 1.3


def test_visible_part_is_held_along_the_path(bent):
    decode, latents, ends, hidden, correct = bent
    drift = {}
    for name, correction in (("plain", None), ("held", correct)):
        heads, alpha = path(decode, *latents, 9, ends_m=ends, moving=hidden, correct=correction)
        blend = (1 - alpha)[:, None, None] * ends[0][None] + alpha[:, None, None] * ends[1][None]
        drift[name] = rms(heads - blend, ~hidden).max()
    assert drift["plain"] > 5e-4
    assert drift["held"] < 0.2 * drift["plain"]  # the noise is of a millimetre, so not all of it


def test_equal_ends_stand_still(bent):
    decode, latents, ends, hidden, correct = bent
    same = jnp.stack([ends[0], ends[0]])
    heads, alpha = path(decode, latents[0], latents[0], 5, ends_m=same, moving=hidden, correct=correct)
    np.testing.assert_allclose(heads, np.broadcast_to(ends[0], heads.shape), atol=1e-12)
    np.testing.assert_array_equal(alpha, np.linspace(0, 1, 5))


# The two calls


def save_head(folder: Path) -> Path:
    """The made-up head as a file."""
    save_file(tiny_arrays(), folder / "tiny.safetensors", {"name": "tiny"})
    return folder / "tiny.safetensors"


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> dict[str, Path]:
    """Stored completions of a partial mesh by several methods, with the head file."""
    folder = tmp_path_factory.mktemp("results")
    head_file = save_head(folder)
    head = d3.load_head(head_file)
    truth = np.asarray(head.shaped(head.prior_mean + 0.4)) + [0.0, 1.7, 0.0]
    np.savez(folder / "partial.npz", vertices=truth, visible=truth[:, 1] > 1.69)
    made = {"head": head_file}
    with pytest.MonkeyPatch.context() as patch:
        draw_nothing(patch)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        for method in ("posterior", "map"):
            made[method] = folder / method
            options = ["--out", str(made[method]), "--method", method, "-n", "3", "--head", str(head_file), "--quiet"]
            assert main(["complete", str(folder / "partial.npz"), *options]) == 0
    return made


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """Nothing is written into the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(autouse=True)
def grey_heads(monkeypatch):
    """Each picture of heads is one grey, a little lighter than the one before: drawing is tested elsewhere."""
    level = iter(range(60, 256, 20))

    def grey(views, faces, *, height, width, frame):
        return np.concatenate([np.full((2, height, width, 3), next(level), np.uint8) for _ in views[::2]])

    monkeypatch.setattr("diverse3d.show._path.render_views", grey)


@pytest.fixture
def run(results, capsys):
    """Run the command on a stored result and return its exit code and what it printed."""

    def go(folder, *arguments, head=True):
        options = ["--head", str(results["head"])] if head else []
        code = main(["interpolate", str(folder), *map(str, arguments), *options])
        return code, capsys.readouterr()

    return go


def test_command_writes_a_path(results, run, tmp_path):
    folder = tmp_path / "result"
    shutil.copytree(results["posterior"], folder)
    before = sorted(entry.name for entry in folder.iterdir())
    code, printed = run(folder, 2, 0, "--frames", 5)
    assert code == 0, printed.err
    out = folder / "interpolation-2-0"
    assert f"5 heads from completion 2 to 0 in {out} (visible part " in printed.out
    assert sorted(entry.name for entry in folder.iterdir()) == sorted([*before, out.name])
    files = ["meshes", "path.gif", "path.glb", "path.json", "path.npz", "path.png"]
    assert sorted(entry.name for entry in out.iterdir()) == files
    assert sorted(entry.name for entry in (out / "meshes").iterdir()) == [f"{k:02d}.glb" for k in range(5)]
    with np.load(folder / "completions.npz", allow_pickle=False) as stored, np.load(out / "path.npz") as made:
        vertices, visible = made["vertices"], stored["visible"]
        np.testing.assert_array_equal(vertices[[0, -1]], stored["vertices"][[2, 0]])
        assert made["alpha"].tolist() == sorted(made["alpha"]) and vertices.dtype == np.float32
        deviation = made["visible_deviation_mm"]
    step = rms(np.diff(vertices.astype(float), axis=0), ~visible)
    numbers = json.loads((out / "path.json").read_text(encoding="utf-8"))
    assert numbers["largest_step_over_mean"] == pytest.approx(step.max() / step.mean(), rel=1e-3)
    assert numbers["largest_step_over_mean"] < 1.05 and numbers["length_mm"] > 0.1
    assert numbers["largest_visible_deviation_mm"] == pytest.approx(deviation.max(), rel=1e-4)
    assert numbers["largest_visible_deviation_mm"] <= max(deviation[0], deviation[-1]) + 0.01
    assert numbers["largest_visible_drift_mm"] < 0.01
    with Image.open(out / "path.gif") as moving, Image.open(out / "path.png") as strip:
        assert (moving.n_frames, moving.info["loop"]) == (8, 0)
        greys = np.asarray(strip)[200, 28 + 75 :: 150, 0]
        assert greys[:5].tolist() == [60, 80, 100, 120, 140]
    # A path is replaced on demand alone, and only a path.
    assert run(folder, 2, 0)[0] == 2
    assert run(folder, 2, 0, "--frames", 2, "--plain", "--force", "--quiet")[0] == 0
    assert json.loads((out / "path.json").read_text(encoding="utf-8"))["plain"] is True
    code, printed = run(folder, 2, 0, "--force", "--out", folder)
    assert code == 2 and "holds files that are not a result" in printed.err


@pytest.fixture
def again(results):
    """The head, and the stored observation completed again by a method."""
    head = d3.load_head(results["head"])
    seen = d3.observe_mesh(results["head"].with_name("partial.npz"), head=head)

    def complete(method):
        config = d3.DiversifyConfig().replace(steps=10)
        with jax.numpy_dtype_promotion("standard"):
            return d3.complete(seen, head=head, n=3, method=method, key=jax.random.key(0), config=config)

    return head, complete


def test_call_equals_command(results, run, again, tmp_path):
    assert run(results["posterior"], 0, 1, "--frames", 3, "--out", tmp_path / "out", "--quiet")[0] == 0
    head, complete = again
    result = complete("posterior")
    made = d3.interpolate(result, 0, 1, frames=3, head=head)
    with np.load(tmp_path / "out" / "path.npz", allow_pickle=False) as stored:
        np.testing.assert_allclose(made.vertices, stored["vertices"], atol=1e-6)
    assert made.save(tmp_path / "again") == tmp_path / "again"
    with pytest.raises(InputError, match="was made with the head 'tiny', not 'diverse3d embedded head'"):
        d3.interpolate(result, 0, 1)
    with pytest.raises(InputError, match="hold no latents"):
        d3.interpolate(dataclasses.replace(result, latents=None), 0, 1, head=head)


@pytest.mark.parametrize("method", ["posterior", "global-local-dpp"])
def test_coefficients_lead_in_a_straight_line_held_or_not(again, method):
    head, complete = again
    result = complete(method)
    held, plain = (d3.interpolate(result, 0, 1, frames=3, head=head, plain=plain) for plain in (False, True))
    np.testing.assert_allclose(held.vertices[1], 0.5 * (result.vertices[0] + result.vertices[1]), atol=1e-9)
    np.testing.assert_allclose(plain.vertices, held.vertices, atol=1e-9)
    assert held.largest_step == pytest.approx(1.0) and held.visible_drift_mm.max() < 1e-5


@pytest.mark.parametrize(
    "method, arguments, sentence",
    [
        ("posterior", (0, 3), "There is no completion 3; give two different numbers from 0 to 2."),
        ("posterior", (1, 1), "Both ends are completion 1; give two different ones."),
        ("posterior", (0, 1, "--frames", 1), f"1 frames were asked for; ask for 2 to {LARGEST_FRAMES}."),
        ("posterior", (0, 1, "--frames", 1000), f"1000 frames were asked for; ask for 2 to {LARGEST_FRAMES}."),
        ("map", (0, 1), "The method 'map' makes a single completion, and a path joins two."),
    ],
    ids=["not there", "the same", "one frame", "many frames", "map"],
)
def test_refusals(results, run, method, arguments, sentence):
    code, printed = run(results[method], *arguments)
    assert (code, printed.err) == (2, f"diverse3d: {sentence}\n")


def test_refuses_what_is_no_result(results, run, tmp_path):
    code, printed = run(tmp_path, 0, 1)
    assert code == 2 and "holds no run.json; give a folder that `complete` or `demo` wrote" in printed.err
    code, printed = run(results["posterior"], 0, 1, head=False)
    assert code == 2 and "was made with the head 'tiny'" in printed.err
    folder = tmp_path / "result"

    def refused(change, says):
        shutil.copytree(results["posterior"], folder)
        change()
        code, printed = run(folder, 0, 1, "--quiet")
        assert code == 2 and printed.err.count("\n") == 1 and says in printed.err, printed.err
        shutil.rmtree(folder)

    def store(name, **changes):
        with np.load(folder / name) as old:
            np.savez(folder / name, **{**old, **changes})

    with np.load(results["posterior"] / "completions.npz") as arrays:
        vertices = arrays["vertices"]
    refused(lambda: (folder / "completions.npz").unlink(), "holds no completions.npz")
    refused(lambda: store("completions.npz", vertices=vertices[:, :, :2]), "does not hold the arrays of a result")
    refused(lambda: store("completions.npz", vertices=np.nan * vertices), "does not hold the arrays of a result")
    refused(lambda: store("completions.npz", latents=np.zeros((3, 4), np.float32)), "hold no latents of the head")
    refused(lambda: store("completions.npz", vertices=vertices[:2], latents=np.zeros((2, 10))), "does not describe")
    refused(lambda: store("completions.npz", fit=vertices[0] + 0.01), "one of its files was changed")
    record = json.loads((results["posterior"] / "run.json").read_text(encoding="utf-8"))
    refused(lambda: (folder / "run.json").write_text(json.dumps({**record, "noise": 3})), "names no noise")
    refused(lambda: (folder / "run.json").write_text(json.dumps({**record, "samples": ["x"] * 3})), "does not describe")


def test_every_option_is_in_the_help(capsys):
    assert main(["interpolate", "--help"]) == 0
    printed = capsys.readouterr().out
    assert all(option in printed for option in ("--frames", "--out", "--plain", "--seed", "--quiet", "--force"))


# Animations


def test_animated_glb_plays_the_path_there_and_back(tiny_head, rng):
    heads = np.asarray(tiny_head.template_m)[None] + 0.01 * rng.normal(size=(4, tiny_head.n_vertices, 3))
    faces, colours = np.asarray(tiny_head.faces), rng.integers(0, 256, (tiny_head.n_vertices, 3)).astype(np.uint8)
    content = animated_glb_bytes(heads, faces, colours, step_seconds=0.5)
    assert content == animated_glb_bytes(heads.copy(), faces, colours, step_seconds=0.5)
    file = pygltflib.GLTF2.load_from_bytes(content)
    assert (len(file.meshes), len(file.meshes[0].primitives), len(file.animations)) == (1, 1, 1)
    primitive, animation = file.meshes[0].primitives[0], file.animations[0]
    base = glb_array(file, primitive.attributes.POSITION)
    np.testing.assert_array_equal(base, heads[0].astype(np.float32))
    np.testing.assert_array_equal(glb_array(file, primitive.indices).reshape(-1, 3), faces)
    targets = np.stack([glb_array(file, target["POSITION"]) for target in primitive.targets])
    np.testing.assert_allclose(base + targets, heads[1:], atol=1e-7)
    normals = glb_array(file, primitive.attributes.NORMAL)
    for target in primitive.targets:
        turned = normals + glb_array(file, target["NORMAL"])
        np.testing.assert_allclose(np.linalg.norm(turned, axis=1), 1, atol=1e-5)
    assert file.meshes[0].weights == [0.0] * 3 and file.meshes[0].extras["targetNames"] == ["01", "02", "03"]
    channel, sampler = animation.channels[0], animation.samplers[0]
    assert (channel.target.node, channel.target.path, sampler.interpolation) == (0, "weights", "LINEAR")
    times = glb_array(file, sampler.input)[:, 0]
    weights = glb_array(file, sampler.output).reshape(len(times), 3)
    np.testing.assert_allclose(times, 0.5 * np.arange(7))
    shown = base + np.einsum("tk,kvc->tvc", weights, targets)
    np.testing.assert_allclose(shown, heads[there_and_back(4)], atol=1e-7)
    # What the format asks of accessors: bounds of positions and times, and a place at a multiple of four.
    for number in (primitive.attributes.POSITION, sampler.input, *(t["POSITION"] for t in primitive.targets)):
        values, entry = glb_array(file, number), file.accessors[number]
        np.testing.assert_allclose((entry.min, entry.max), (values.min(0), values.max(0)), rtol=1e-6)
    assert all((view.byteOffset or 0) % 4 == 0 for view in file.bufferViews)
    assert file.buffers[0].byteLength == len(file.binary_blob())


def test_gif_goes_there_and_back(rng):
    pictures = [np.full((12, 16, 3), 20 * k, np.uint8) for k in range(1, 6)]
    with Image.open(io.BytesIO(gif_bytes(pictures))) as moving:
        assert moving.n_frames == 8
        levels, durations = [], []
        for index in range(moving.n_frames):
            moving.seek(index)
            durations.append(moving.info["duration"])
            levels.append(int(np.asarray(moving.convert("RGB"))[5, 5, 0]))
    assert durations == [700, 140, 140, 140, 700, 140, 140, 140]
    np.testing.assert_allclose(levels, [20, 40, 60, 80, 100, 80, 60, 40], atol=2)
