"""Training: masks, losses, the loop, checkpoints, weights, and the errors that people meet."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import trimesh

import meshvae
from meshvae import InputError, LossConfig, MeshSource, ModelConfig, TrainConfig
from meshvae._loss import energy_score
from meshvae._masks import DRAWN, draw_hidden

TINY = ModelConfig(strides=(2, 1, 2), channels=(8, 16), basis=4, latent_channels=4)
QUICK = TrainConfig(steps=12, batch=4, warmup=2, kl_warmup=4, validate_every=4, learning_rate=3e-3)

pytestmark = pytest.mark.usefixtures("optax_promotion")


@pytest.fixture(scope="module")
def ball():
    mesh = trimesh.creation.icosphere(subdivisions=2)
    return np.asarray(mesh.vertices), np.asarray(mesh.faces, np.int32)


def meshes(template, count, seed):
    """Ellipsoids: three numbers each, so that a mesh says all from any half of it."""
    stretch = np.random.default_rng(seed).normal(0.0, 0.2, (count, 1, 3))
    return (template[None] * stretch).astype(np.float32)


@pytest.fixture
def job(ball, single_precision):
    """Model, source and surface of a tiny training."""
    template, faces = ball
    hierarchy = meshvae.build_hierarchy(template, faces, method=TINY.hierarchy, strides=TINY.strides)
    model = meshvae.make_model(TINY, hierarchy, key=jax.random.key(0))
    source = MeshSource(
        draw=meshvae.from_array(meshes(template, 64, 0)),
        held_back=meshes(template, 8, 1),
        template=jnp.asarray(template, jnp.float32),
        pool=np.zeros((0, len(template)), bool),
        batch=4,
    )
    surface = meshvae.make_surface(template, faces, dtype=jnp.float32)
    return model, source, surface, hierarchy


# --- masks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", DRAWN)
def test_a_drawn_mask_hides_the_share_asked_for(shape, ball, key):
    vertices = jnp.asarray(ball[0])
    for share in (0.0, 0.1, 0.4, 1.0):
        hidden = shape(vertices, jnp.asarray(share), key)
        assert int(hidden.sum()) == round(share * len(vertices))


def test_masks_grow_with_progress_and_named_ones_are_used(ball, key):
    vertices = jnp.asarray(ball[0])
    pool = np.zeros((1, len(vertices)), bool)
    pool[0, :7] = True

    @partial(jax.jit, static_argnames="share")
    def draw(pool, progress, share, one):
        return draw_hidden(vertices, pool, progress=progress, pool_share=share, key=one)

    def hidden(number, progress, pool, share):
        return np.asarray(draw(jnp.asarray(pool), jnp.asarray(progress), share, jax.random.fold_in(key, number)))

    early = [hidden(i, 0.0, pool[:0], 0.5).mean() for i in range(60)]
    late = [hidden(i, 1.0, pool[:0], 0.5).mean() for i in range(60)]
    assert max(early) <= 0.08 + 0.01 and 0.3 < max(late) <= 0.4 + 0.01
    assert all((hidden(i, 1.0, pool, 1.0) == pool[0]).all() for i in range(5))


# --- losses -----------------------------------------------------------------------------------------------------------


def test_the_energy_score_is_that_of_the_definition(rng):
    drawn, truth = rng.normal(size=(5, 6, 3)), rng.normal(size=(6, 3))
    counted = np.array([False, True, True, False, True, True])

    def rms(difference):
        return np.sqrt((difference[counted] ** 2).sum() / counted.sum())

    error = np.mean([rms(one - truth) for one in drawn])
    spread = np.mean([rms(a - b) for i, a in enumerate(drawn) for j, b in enumerate(drawn) if i != j])
    value = energy_score(jnp.asarray(drawn), jnp.asarray(truth), jnp.asarray(counted))
    assert float(value) == pytest.approx(error - 0.5 * spread, abs=1e-6)


def test_the_surface_knows_flat_and_bent(ball):
    template, faces = ball
    surface = meshvae.make_surface(template, faces, dtype=jnp.float64)
    moved = jnp.ones_like(surface.template)
    assert float(jnp.abs(surface.laplacian(moved)).max()) < 1e-12  # a translation has no Laplacian
    normals = surface.face_normals(jnp.zeros_like(moved))
    np.testing.assert_allclose(jnp.linalg.norm(normals, axis=1), 1.0, rtol=1e-6)
    centres = np.asarray(surface.template)[faces].mean(1)
    assert (np.sum(np.asarray(normals) * centres, axis=1) > 0).all()  # outward on a ball
    collapsed = surface.face_normals(-surface.template)
    assert bool(jnp.isfinite(collapsed).all())


# --- the loop ---------------------------------------------------------------------------------------------------------


def learned_bytes(model):
    return b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array)))


def test_training_learns_resumes_bit_for_bit_and_is_drawn(job, tmp_path):
    model, source, surface, hierarchy = job
    whole = meshvae.train(model, source, QUICK, surface=surface, out=tmp_path / "whole")
    curves = (tmp_path / "whole" / "curves.csv").read_text().splitlines()
    first, last = (
        dict(zip(curves[0].split(","), map(float, line.split(",")), strict=True)) for line in (curves[1], curves[-1])
    )
    assert last["loss"] < first["loss"] and last["step"] == 12

    def stop(progress):
        if progress.step == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        meshvae.train(model, source, QUICK, surface=surface, out=tmp_path / "halves", report=stop)
    rest = meshvae.train(model, source, QUICK, surface=surface, out=tmp_path / "halves", resume=True)
    assert learned_bytes(rest.model) == learned_bytes(whole.model)
    assert (tmp_path / "halves" / "curves.csv").read_text().splitlines() == curves

    with pytest.raises(InputError, match="holds checkpoints already"):
        meshvae.train(model, source, QUICK, surface=surface, out=tmp_path / "halves")
    other = TrainConfig(steps=12, batch=4, warmup=2, kl_warmup=4, validate_every=4, learning_rate=1e-3)
    with pytest.raises(InputError, match="another mesh, model or training configuration"):
        meshvae.train(model, source, other, surface=surface, out=tmp_path / "halves", resume=True)

    meshvae.draw_curves(tmp_path / "whole" / "curves.csv", tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")

    trained = meshvae.Trained(whole.model, hierarchy, np.asarray(surface.template), 2.0, 2.0, {"data": "balls"})
    path = tmp_path / "weights.safetensors"
    digest = meshvae.save_model(trained, path)
    again = meshvae.load_model(path, fingerprint=hierarchy.fingerprint, sha256=digest)
    assert learned_bytes(again.model) == learned_bytes(whole.model)
    assert again.scale == 2.0 and again.card == {"data": "balls"} and again.sha256 == digest
    offsets, visible = jnp.asarray(source.held_back[0]), jnp.ones(surface.template.shape[0], bool)
    np.testing.assert_array_equal(again.model.encode(offsets, visible).mean, whole.model.encode(offsets, visible).mean)


def test_a_latent_that_dies_is_an_error(job, tmp_path):
    model, source, surface, _ = job
    heavy = TrainConfig(
        steps=240, batch=4, warmup=1, kl_warmup=1, validate_every=60, learning_rate=1e-2, average=0.9,
        loss=LossConfig(kl=1.0, free_bits=0.0),
    )  # fmt: skip
    with pytest.raises(meshvae.CollapsedError, match="Posterior collapse"):
        meshvae.train(model, source, heavy, surface=surface, out=tmp_path)


# --- weights that are not what they should be --------------------------------------------------------------------------


@pytest.fixture
def weights(job, tmp_path):
    model, _, surface, hierarchy = job
    path = tmp_path / "weights.safetensors"
    meshvae.save_model(meshvae.Trained(model, hierarchy, np.asarray(surface.template), 1.0, 1.0, {}), path)
    return path


def test_wrong_weights_are_refused(weights, tmp_path):
    with pytest.raises(InputError, match="no such file"):
        meshvae.load_model(tmp_path / "none.safetensors")
    with pytest.raises(InputError, match="another mesh topology"):
        meshvae.load_model(weights, fingerprint="0" * 64)
    with pytest.raises(InputError, match="not the file it should be"):
        meshvae.load_model(weights, sha256="0" * 64)
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(InputError, match="not a safetensors file"):
        meshvae.load_model(damaged)


def test_weights_of_another_configuration_are_refused(weights, tmp_path):
    from safetensors import safe_open
    from safetensors.numpy import load_file, save_file

    with safe_open(weights, framework="numpy") as file:
        texts = file.metadata()
    description = json.loads(texts["meshvae"])
    other = tmp_path / "other.safetensors"

    def refused(changed, sentence):
        save_file(load_file(weights), other, metadata={"meshvae": json.dumps(description | changed)})
        with pytest.raises(InputError, match=sentence):
            meshvae.load_model(other)

    refused({"config": description["config"] | {"basis": 5}}, "missing or of another shape")
    refused({"config": {"unknown": 1}}, "unknown field")
    refused({"format": "another"}, "no weights of this version")
    refused({"scale": "wide"}, "no weights of this version")
    refused({"scale": -1.0}, "scale is damaged")


def test_half_precision_changes_little(job, weights, tmp_path):
    model, source, surface, hierarchy = job
    path = tmp_path / "half.safetensors"
    meshvae.save_model(meshvae.Trained(model, hierarchy, np.asarray(surface.template), 1.0, 1.0, {}), path, half=True)
    assert path.stat().st_size < weights.stat().st_size
    half = meshvae.load_model(path).model
    offsets, visible = jnp.asarray(source.held_back[0]), jnp.ones(surface.template.shape[0], bool)
    exact = model.decode(model.encode(offsets, visible).mean)
    np.testing.assert_allclose(
        half.decode(half.encode(offsets, visible).mean), exact, atol=2e-3 * float(jnp.abs(exact).max())
    )


def test_too_much_is_refused_before_it_is_asked_for(job):
    hierarchy = job[3]
    meshvae.check_memory(TINY, hierarchy, batch=4)
    with pytest.raises(InputError, match="GiB of memory that are free"):
        meshvae.check_memory(TINY, hierarchy, batch=1 << 24)


# --- folders of meshes -------------------------------------------------------------------------------------------------


def write_coma(folder, template, faces, subjects=3):
    """CoMA's layout: subject / expression / frame.ply."""
    stretched = meshes(template, 2 * subjects, 5) + template
    for number, vertices in enumerate(stretched):
        path = folder / f"subject{number // 2}" / ("smile" if number % 2 else "frown") / "frame.ply"
        path.parent.mkdir(parents=True)
        trimesh.Trimesh(vertices, faces, process=False).export(path)
    return stretched


def test_folders_are_read_and_split(ball, tmp_path):
    template, faces = ball
    stretched = write_coma(tmp_path, template, faces)
    read, subjects, expressions = meshvae.read_meshes(tmp_path, len(template))
    np.testing.assert_allclose(np.sort(read, axis=0), np.sort(stretched, axis=0), atol=1e-6)
    assert set(subjects) == {"subject0", "subject1", "subject2"} and set(expressions) == {"smile", "frown"}
    for by, names in (("subject", subjects), ("expression", expressions)):
        kept, back = meshvae.split_by_subject(subjects, expressions, by=by)
        assert len(kept) and len(back) and not {names[i] for i in kept} & {names[i] for i in back}
    with pytest.raises(InputError, match="one subject"):
        meshvae.split_by_subject(["a", "a"], ["", ""])


def test_folders_that_cannot_be_used(ball, tmp_path):
    template, _ = ball
    with pytest.raises(InputError, match="holds no mesh"):
        meshvae.read_meshes(tmp_path, 162)
    np.save(tmp_path / "a.npy", template[:-1])
    with pytest.raises(InputError, match="mesh of 162 vertices"):
        meshvae.read_meshes(tmp_path, 162)
    np.save(tmp_path / "a.npy", np.where(np.arange(162)[:, None] == 3, np.nan, template))
    with pytest.raises(InputError, match="not finite"):
        meshvae.read_meshes(tmp_path, 162)
    (tmp_path / "a.npy").write_bytes(b"nonsense")
    with pytest.raises(InputError, match="can't be read"):
        meshvae.read_meshes(tmp_path, 162)
    np.savez(tmp_path / "a.npz", other=template)
    (tmp_path / "a.npy").unlink()
    with pytest.raises(InputError, match="no array named 'vertices'"):
        meshvae.read_meshes(tmp_path, 162)


# --- killed and resumed -------------------------------------------------------------------------------------------------

SCRIPT = """
import sys
from pathlib import Path
import jax, jax.numpy as jnp, numpy as np, trimesh, meshvae

mesh = trimesh.creation.icosphere(subdivisions=1)
template, faces = np.asarray(mesh.vertices), np.asarray(mesh.faces, np.int32)
stretch = np.random.default_rng(0).normal(0.0, 0.2, (64, 1, 3))
meshes = (template[None] * stretch).astype(np.float32)
model = meshvae.ModelConfig(strides=(2, 2), channels=(4,), basis=2, latent_channels=2)
hierarchy = meshvae.build_hierarchy(template, faces, method=model.hierarchy, strides=model.strides)
source = meshvae.MeshSource(
    draw=meshvae.from_array(meshes[8:]), held_back=meshes[:8], template=jnp.asarray(template, jnp.float32),
    pool=np.zeros((0, len(template)), bool), batch=4,
)
config = meshvae.TrainConfig(steps=60, batch=4, warmup=2, kl_warmup=60, validate_every=10, patience=100)
out = Path(sys.argv[1])
result = meshvae.train(
    meshvae.make_model(model, hierarchy, key=jax.random.key(0)), source, config,
    surface=meshvae.make_surface(template, faces, dtype=jnp.float32), out=out, resume=len(sys.argv) > 2,
)
meshvae.save_model(meshvae.Trained(result.model, hierarchy, template, 1.0, 1.0, {}), out / "weights.safetensors")
"""


def start(*arguments):
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    return subprocess.Popen([sys.executable, "-c", SCRIPT, *map(str, arguments)], env=environment)


def test_a_killed_run_goes_on_bit_for_bit(tmp_path):
    whole, killed = start(tmp_path / "whole"), start(tmp_path / "killed")
    deadline = time.monotonic() + 300
    while not (tmp_path / "killed" / "checkpoints" / "10").is_dir() and killed.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL  # it was not done yet
    assert whole.wait(timeout=300) == 0
    again = start(tmp_path / "killed", "resume")
    assert again.wait(timeout=300) == 0
    one, other = (tmp_path / name / "weights.safetensors" for name in ("whole", "killed"))
    assert one.read_bytes() == other.read_bytes()


def test_the_command_says_what_is_wrong(ball, tmp_path, monkeypatch, capsys):
    from meshvae.__main__ import main

    template, faces = ball
    trimesh.Trimesh(template, faces, process=False).export(tmp_path / "template.ply")
    (tmp_path / "data").mkdir()
    np.save(tmp_path / "data" / "a.npy", np.stack([template, template]))
    np.save(tmp_path / "data" / "b.npy", template)

    def refused(*arguments):
        monkeypatch.setattr(sys, "argv", ["meshvae", *map(str, arguments)])
        assert main() == 2
        return capsys.readouterr().err

    train = ("train", tmp_path / "template.ply", "--out", tmp_path / "out", "--data")
    assert "holds no mesh" in refused(*train, tmp_path / "none")
    assert "equal the template" in refused(*train, tmp_path / "data")
    assert "no such file" in refused(
        "train", tmp_path / "no.ply", "--out", tmp_path / "out", "--data", tmp_path / "data"
    )
    assert "no such file" in refused("info", tmp_path / "none.safetensors")
    assert not (tmp_path / "out").exists()


LIES = {
    "wide channels": lambda d: d["config"].update(channels=[16384] * len(d["config"]["channels"])),
    "a large basis": lambda d: d["config"].update(basis=16384),
    "a huge whole scale": lambda d: d.update(scale=10**400),
    "a huge scale": lambda d: d.update(scale=1e30),
    "an infinite scale": lambda d: d.update(scale=float("inf")),
    "a huge residual scale": lambda d: d.update(residual_scale=1e30),
    "an infinite part": lambda d: d["config"].update(mean_scale=float("inf")),
    "a huge whole part": lambda d: d["config"].update(mean_scale=10**400),
    "depth": lambda d: d.update(card={"a": "DEEP"}),
    "length": lambda d: d.update(card={"a": "x" * (2 << 20)}),
}


@pytest.mark.parametrize("lie", LIES)
def test_what_a_header_declares_is_not_believed(weights, tmp_path, lie):
    """It is refused before anything of that size is made."""
    from safetensors import safe_open
    from safetensors.numpy import load_file, save_file

    with safe_open(weights, framework="numpy") as file:
        description = json.loads(file.metadata()["meshvae"])
    LIES[lie](description)
    text = json.dumps(description).replace('"DEEP"', "[" * 100_000 + "]" * 100_000)
    path = tmp_path / "lie.safetensors"
    save_file(load_file(weights), path, {"meshvae": text})
    start = time.perf_counter()
    with pytest.raises(InputError, match=r"lie\.safetensors|Every scale|cannot be"):
        meshvae.load_model(path)
    assert time.perf_counter() - start < 5


def test_a_checkpoint_that_cannot_be_written_is_one_sentence(job, tmp_path, monkeypatch):
    model, source, surface, _ = job

    def full(*_, **__):
        raise ValueError("RESOURCE_EXHAUSTED: Failed to write\n30621696 bytes: No space left on device [os_error_code]")

    monkeypatch.setattr("orbax.checkpoint.CheckpointManager.save", full)
    with pytest.raises(InputError, match="checkpoints can't be written .no space is left on its disk.; make room"):
        meshvae.train(model, source, QUICK, surface=surface, out=tmp_path)
