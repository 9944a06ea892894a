"""`diverse3d train`, end to end on a head of a hundred vertices."""

import json

import jax
import numpy as np
import pytest
import trimesh
from helpers import tiny_arrays
from safetensors.numpy import save_file

import meshvae
from diverse3d.cli import main
from diverse3d.diversify import load_learned
from diverse3d.diversify._components import load_components
from diverse3d.head import load_head

pytestmark = pytest.mark.usefixtures("single_precision", "optax_promotion")
QUICK = ("--steps", "4", "--batch", "2", "--validate-every", "2", "--views", "16")


@pytest.fixture
def head_file(tmp_path):
    path = tmp_path / "head.safetensors"
    save_file(tiny_arrays(), path, {"name": "tiny"})
    return path


@pytest.mark.parametrize("model", ["masked", "residual"])
def test_both_models_train_and_load(model, head_file, tmp_path, capsys):
    out = tmp_path / "vae"
    assert main(["train", "--out", str(out), "--model", model, "--head", str(head_file), *QUICK]) == 0
    head = load_head(head_file)
    trained = meshvae.load_model(
        out / "weights.safetensors", fingerprint=meshvae.topology_fingerprint(np.asarray(head.faces), head.n_vertices)
    )
    said = capsys.readouterr()
    assert trained.sha256 in said.out and "step 4 of 4" in said.err
    assert trained.card["head_sha256"] == head.sha256 and trained.card["steps"] == 4
    assert not any("second" in name for name in trained.card)  # the same run gives the same bytes
    assert trained.card["settings"] == (["exact", "realistic"] if model == "residual" else [])
    assert (out / "curves.png").is_file() and len((out / "curves.csv").read_text().splitlines()) == 3
    truth, visible = jax.numpy.zeros((head.n_vertices, 3)), jax.numpy.ones(head.n_vertices, bool)
    if model == "masked":
        decoded = trained.model.decode(trained.model.encode(truth, visible).mean)
    else:
        condition = trained.model.condition(truth, visible)
        decoded = trained.model.decode_conditioned(condition.prior.mean, condition)
    assert decoded.shape == truth.shape and bool(jax.numpy.isfinite(decoded).all())

    assert main(["train", "--out", str(out), "--model", model, "--head", str(head_file), *QUICK]) == 2
    assert "holds trained weights already" in capsys.readouterr().err


def test_the_component_model_trains_and_loads(head_file, tmp_path, capsys):
    out = tmp_path / "components"
    arguments = ["train", "--out", str(out), "--model", "components", "--head", str(head_file), *QUICK]
    assert main(arguments) == 0
    head = load_head(head_file)
    learned = load_learned(head, "residual", out / "weights.safetensors")
    said = capsys.readouterr()
    assert learned.sha256 in said.out and "heads drawn: 8 of 8" in said.err and "step 4 of 4" in said.err
    _, card, _ = load_components(head, out / "weights.safetensors")
    assert (card["heads"], card["views"], card["settings"]) == (8, 16, ["exact", "realistic"])


def test_a_folder_of_meshes_is_trained_on(head_file, tmp_path, capsys):
    head = load_head(head_file)
    rng = np.random.default_rng(0)
    for subject in range(12):
        z = rng.normal(size=head.n_components).astype(np.float32)
        path = tmp_path / "data" / f"subject{subject}" / "smile" / "frame.ply"
        path.parent.mkdir(parents=True)
        trimesh.Trimesh(np.asarray(head.shaped(jax.numpy.asarray(z))), np.asarray(head.faces), process=False).export(
            path
        )
    arguments = ["train", "--out", str(tmp_path / "vae"), "--head", str(head_file), *QUICK]
    assert main([*arguments, "--data", str(tmp_path / "data"), "--quiet"]) == 2  # one subject held back, two wanted
    assert "fewer validation meshes than a batch" in capsys.readouterr().err
    quick = [
        *arguments[: -len(QUICK)],
        "--steps",
        "2",
        "--batch",
        "1",
        "--validate-every",
        "2",
        "--views",
        "16",
        "--half",
    ]
    assert main([*quick, "--data", str(tmp_path / "data"), "--quiet"]) == 0
    card = meshvae.load_model(tmp_path / "vae" / "weights.safetensors").card
    assert "11 registered meshes to train on and 1 held back" in card["data"]


@pytest.mark.parametrize(
    "options, sentence",
    [
        (["--views", "3"], "an eighth is held back"),
        (["--energy-samples", "1"], "2 samples or more"),
        (["--steps", "0"], "must be at least 1"),
        (["--data", "nowhere"], "holds no mesh"),
        (["--head", "nowhere.safetensors"], "nowhere.safetensors"),
    ],
)
def test_bad_options_are_one_sentence(options, sentence, head_file, tmp_path, capsys):
    head = [] if "--head" in options else ["--head", str(head_file)]
    assert main(["train", "--out", str(tmp_path / "vae"), *head, *options]) == 2
    said = capsys.readouterr().err
    assert sentence in said and len(said.strip().splitlines()) == 1
    assert not (tmp_path / "vae").exists()


def test_the_record_of_training_is_plain_data():
    record = meshvae.training_record(meshvae.TrainConfig())
    assert json.loads(json.dumps(record)) == record and record["loss"]["hidden"] > 1
