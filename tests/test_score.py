"""The command `score`: the figures of any tool's meshes, of our own results to the last digit, and what it refuses."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
import trimesh
from helpers import draw_nothing, tiny_arrays
from safetensors.numpy import save_file

from diverse3d._api import complete, observe_mesh
from diverse3d._names import EXPORT_FORMATS
from diverse3d.cli import main
from diverse3d.cli._score_files import read_given
from diverse3d.head import load_head
from diverse3d.metrics import UNITS, report, ruler_of

COUNT = 10


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """Nothing is written into the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """A head file, a true head in millimetres, what is visible of it, and ten completions as PLY."""
    folder = tmp_path_factory.mktemp("score")
    save_file(tiny_arrays(), folder / "head.safetensors", {"name": "tiny"})
    head = load_head(folder / "head.safetensors")
    rng = np.random.default_rng(3)
    heads = [np.asarray(head.shaped(head.prior_mean + 0.5 * rng.normal(size=head.n_components))) for _ in range(11)]
    faces = np.asarray(head.faces)
    np.savez(folder / "truth.npz", vertices=1e3 * heads[-1])
    visible = np.asarray(head.template_m)[:, 1] > 0
    np.save(folder / "visible.npy", visible)
    np.savez(folder / "visible.npz", visible=visible, other=np.zeros(3))
    (folder / "visible.txt").write_text("\n".join(map(str, np.flatnonzero(visible))) + "  # the upper half\n")
    (folder / "set").mkdir()
    for index, vertices in enumerate(heads[:COUNT]):
        trimesh.Trimesh(vertices, faces, process=False).export(folder / "set" / f"{index:02d}.ply")
    (folder / "set" / "notes.md").write_text("Other files are passed over.")
    return folder


def run(*arguments, files: Path) -> int:
    return main(["score", *map(str, arguments), "--head", str(files / "head.safetensors")])


def score(*arguments, files: Path, out: Path) -> dict:
    assert run(*arguments, "--out", out, "--force", "--quiet", files=files) == 0
    return json.loads(out.read_text(encoding="utf-8"))


def test_meshes_of_another_tool_get_the_figures_of_the_library(files, tmp_path, capsys):
    out = tmp_path / "figures.json"
    given = ["--truth", files / "truth.npz", "--visible", files / "visible.npy"]
    assert run(files / "set", *given, "--out", out, files=files) == 0
    printed = capsys.readouterr()
    assert "ASD-O (hidden)" in printed.out and "neck" in printed.out and "energy score" in printed.out
    assert "measuring (about" in printed.err
    figures = json.loads(out.read_text(encoding="utf-8"))
    head = load_head(files / "head.safetensors")
    meshes = [trimesh.load(path, process=False) for path in sorted((files / "set").glob("*.ply"))]
    heads = np.stack([np.asarray(mesh.vertices, np.float64) for mesh in meshes])
    truth, visible = 1e-3 * np.load(files / "truth.npz")["vertices"], np.load(files / "visible.npy")
    expected = report(heads, visible, ruler_of(head), truth=truth)
    for name, value in expected.items():
        np.testing.assert_allclose(figures[name], value, rtol=1e-9, err_msg=name)
        assert figures["units"][name] == UNITS[name.partition("/")[0]]
    assert figures["asd_o_front"] > 0 and figures["n"] == COUNT
    card = figures["calibration"]
    assert card["nominal"][-1] == 90 and card["observed"]["all"][-1] == figures["coverage_90"]
    assert (figures["set"]["unit"], figures["set"]["visible_vertices"]) == ("metres", int(visible.sum()))
    for mask in ("visible.npz", "visible.txt"):
        assert score(files / "set", *given[:3], files / mask, files=files, out=out) == figures, mask


@pytest.mark.parametrize("suffix", ["glb", "obj", "off", "gltf"])
def test_every_format_that_is_read_gives_the_same_figures(files, tmp_path, suffix):
    folder = tmp_path / "meshes"
    folder.mkdir()
    for path in (files / "set").glob("*.ply"):
        scene = trimesh.Scene(trimesh.load(path, process=False))
        if suffix == "gltf":
            (folder / f"{path.stem}.gltf").write_bytes(
                trimesh.exchange.gltf.export_gltf(scene, embed_buffers=True)["model.gltf"]
            )
        else:
            (scene if suffix == "glb" else trimesh.load(path, process=False)).export(folder / f"{path.stem}.{suffix}")
    if suffix == "glb":  # as `complete` writes it beside them, and no completion
        (folder / "fit.glb").write_bytes((folder / "00.glb").read_bytes())
    options = ["--truth", files / "truth.npz", "--visible", files / "visible.npy"]
    one = score(files / "set", *options, files=files, out=tmp_path / "one.json")
    other = score(folder, *options, files=files, out=tmp_path / "other.json")
    assert other["n"] == COUNT
    np.testing.assert_allclose(other["asd_o"], one["asd_o"], rtol=1e-4)


def test_one_file_of_all_meshes_in_millimetres_is_the_same_set(files, tmp_path, capsys):
    paths = sorted((files / "set").glob("*.ply"))
    heads = np.stack([np.asarray(trimesh.load(path, process=False).vertices, np.float64) for path in paths])
    (tmp_path / "set").mkdir()
    np.savez(tmp_path / "set" / "all.npz", vertices=1e3 * heads)
    given = ["--truth", files / "truth.npz", "--visible", files / "visible.npy"]
    first = score(files / "set", *given, files=files, out=tmp_path / "first.json")
    assert run(tmp_path / "set", *given, "--out", tmp_path / "second.json", files=files) == 0
    assert "The meshes are in millimetres, by their size." in capsys.readouterr().err
    second = json.loads((tmp_path / "second.json").read_text(encoding="utf-8"))
    for name in first["units"]:
        np.testing.assert_allclose(second[name], first[name], rtol=1e-9, atol=1e-9, err_msg=name)
    moved = heads[:1] + [0.0, 0.5, 0.0]
    np.savez(tmp_path / "set" / "all.npz", vertices=moved)
    assert run(tmp_path / "set", *given, files=files) == 0
    said = capsys.readouterr().err
    assert "A single mesh has no spread: ASD-V and ASD-O are 0, and APD, TMD and coverage are not defined." in said
    assert "mm from what is visible: are they in the same frame?" in said


def test_own_results_get_the_very_figures_of_their_record(files, tmp_path, single_precision, monkeypatch):
    draw_nothing(monkeypatch)
    head = load_head(files / "head.safetensors")
    truth = 1e-3 * np.load(files / "truth.npz")["vertices"] + [0.3, -1.7, 0.2]
    visible = np.load(files / "visible.npy")
    seen = observe_mesh(truth, head=head, hidden=~visible)
    result = complete(seen, head=head, n=COUNT, method="posterior", key=jax.random.key(1), noise="exact")
    result.save(tmp_path / "result")
    recorded = json.loads((tmp_path / "result" / "metrics.json").read_text(encoding="utf-8"))
    recorded.pop("units")
    figures = score(tmp_path / "result", files=files, out=tmp_path / "figures.json")
    assert {name: figures[name] for name in recorded} == recorded and len(recorded) == 4
    assert "seam" in figures and "cse" not in figures and figures["calibration"] is None
    np.savez(tmp_path / "truth.npz", vertices=truth)
    known = score(tmp_path / "result", "--truth", tmp_path / "truth.npz", files=files, out=tmp_path / "figures.json")
    for name, value in result.metrics(truth).items():
        np.testing.assert_allclose(known[name], value, rtol=1e-9, err_msg=name)
    # Exported, they are the same heads in every format, and the command writes what the method writes.
    for kind in EXPORT_FORMATS:
        exported = read_given(result.export(tmp_path / kind, kind), head)
        np.testing.assert_allclose(exported.vertices, result.vertices, atol=2e-7, err_msg=kind)
        assert exported.unit == ("millimetres" if kind == "stl" else "metres")
    given = [str(tmp_path / "result"), "--format", "ply", "--out", str(tmp_path / "again"), "--quiet"]
    assert main(["export", *given]) == 0
    for name in ("fit", "00", "09"):
        assert (tmp_path / "again" / f"{name}.ply").read_bytes() == (tmp_path / "ply" / f"{name}.ply").read_bytes()
    # The mask of a result serves other sets.
    mask = ["--visible", tmp_path / "result" / "completions.npz"]
    other = score(files / "set", *mask, files=files, out=tmp_path / "figures.json")
    assert other["set"]["visible_vertices"] == int(visible.sum()) and "visible_error" not in other


@pytest.fixture(scope="module")
def bad(files, tmp_path_factory) -> Path:
    """Folders and files that cannot be scored."""
    folder = tmp_path_factory.mktemp("bad")
    (folder / "empty").mkdir()
    (folder / "empty" / "notes.md").write_text("")
    head = load_head(files / "head.safetensors")
    vertices, faces = np.asarray(head.template_m, np.float64), np.asarray(head.faces)

    def mesh_folder(name, *sets):
        (folder / name).mkdir()
        for index, part in enumerate(sets):
            np.savez(folder / name / f"{index}.npz", vertices=part)

    mesh_folder("mixed", vertices, vertices[:-1])
    mesh_folder("other", vertices[:-3])
    hole = vertices.copy()
    hole[5, 1] = np.nan
    mesh_folder("nan", vertices, hole)
    mesh_folder("units", vertices, 100 * vertices)
    mesh_folder("size", 4 * vertices)
    mesh_folder("order", np.random.default_rng(0).permutation(vertices))
    mesh_folder("shape", vertices[:, :2])
    mesh_folder("none", vertices[None][:0])
    (folder / "damaged").mkdir()
    (folder / "damaged" / "0.ply").write_bytes((files / "set" / "00.ply").read_bytes()[:2000])
    (folder / "pickle").mkdir()
    np.savez(folder / "pickle" / "0.npz", vertices=np.array([{}], dtype=object))
    shutil.copytree(files / "set", folder / "result")
    np.savez(folder / "result" / "completions.npz", vertices=vertices[None])
    trimesh.Trimesh(vertices[:-1], faces[(faces < len(vertices) - 1).all(1)], process=False).export(
        folder / "short.ply"
    )
    np.savez(folder / "two.npz", vertices=np.stack([vertices, vertices]))
    np.save(folder / "short.npy", np.ones(len(vertices) - 1, bool))
    np.save(folder / "grey.npy", np.linspace(0, 1, len(vertices)))
    np.savez(folder / "two_masks.npz", a=np.ones(len(vertices)), b=np.ones(len(vertices)))
    (folder / "words.txt").write_text("1 2 three")
    (folder / "high.txt").write_text(f"1 2 {len(vertices)}")
    (folder / "flags.txt").write_text("0 1 1 0 0 1")
    return folder


REFUSALS = {
    "no folder": (["{bad}/nowhere"], "There is no folder {bad}/nowhere."),
    "empty folder": (["{bad}/empty"], "{bad}/empty holds no meshes: put the completions there as .ply, .obj, .off, "),
    "mixed vertex counts": (["{bad}/mixed"], "{bad}/mixed/1.npz has 103 vertices, and {bad}/mixed/0.npz has 104: all"),
    "wrong topology": (["{bad}/other"], "{bad}/other/0.npz has 101 vertices, but the head 'tiny' has 104: meshes must be"),
    "NaN": (["{bad}/nan"], "{bad}/nan/1.npz has 1 vertices that are not finite; a completion must be whole."),
    "mixed units": (["{bad}/units"], "{bad}/units/0.npz is in metres and {bad}/units/1.npz in centimetres, by their size"),
    "no head's size": (["{bad}/size"], "{bad}/size/0.npz: the visible part is 4 times the size of a head in metres"),
    "another order": (["{bad}/order"], "The vertices of {bad}/order/0.npz are not in the order of the head 'tiny'"),
    "flat": (["{bad}/shape"], "{bad}/shape/0.npz has vertices of shape (1, 104, 2); [meshes, 104, 3] is needed."),
    "no meshes in a file": (["{bad}/none"], "{bad}/none/0.npz has vertices of shape (0, 104, 3)"),
    "damaged": (["{bad}/damaged"], "{bad}/damaged/0.ply can't be read as a mesh: it is too short"),
    "pickle": (["{bad}/pickle"], "{bad}/pickle/0.npz, array 'vertices', can't be read: "),
    "no result": (["{bad}/result"], "{bad}/result/completions.npz does not hold the arrays of a result"),
    "no mask": (["{files}/set", None], "{files}/set does not say what is visible; give it with --visible."),
    "no such mask": (["{files}/set", "{bad}/no.npy"], "There is no file {bad}/no.npy."),
    "mask of another length": (["{files}/set", "{bad}/short.npy"], "{bad}/short.npy is of shape (103,), but the head 'tiny'"),
    "grey mask": (["{files}/set", "{bad}/grey.npy"], "{bad}/grey.npy holds values that are neither 0 nor 1; give one true"),
    "two masks": (["{files}/set", "{bad}/two_masks.npz"], "{bad}/two_masks.npz holds no array 'visible'."),
    "words": (["{files}/set", "{bad}/words.txt"], "{bad}/words.txt holds 'three', which is no index of a vertex from 0 to"),
    "index too high": (["{files}/set", "{bad}/high.txt"], "{bad}/high.txt holds '104', which is no index of a vertex from"),
    "flags as text": (["{files}/set", "{bad}/flags.txt"], "{bad}/flags.txt names vertex 1 twice; give the index of each"),
    "truth in another topology": (
        ["{files}/set", "{files}/visible.npy", "--truth", "{bad}/short.ply"],
        "{bad}/short.ply has 103 vertices, but the head 'tiny' has 104: meshes must be in the head's topology",
    ),
    "two truths": (
        ["{files}/set", "{files}/visible.npy", "--truth", "{bad}/two.npz"],
        "{bad}/two.npz holds 2 meshes; give one.",
    ),
    "out exists": (
        ["{files}/set", "{files}/visible.npy", "--out", "{bad}/words.txt"],
        "{bad}/words.txt exists; name another file, or replace it with --force.",
    ),
    "out nowhere": (
        ["{files}/set", "{files}/visible.npy", "--out", "{bad}/no/figures.json"],
        "{bad}/no/figures.json can't be written: name a file in a folder that exists.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("arguments, sentence", REFUSALS.values(), ids=REFUSALS.keys())
def test_what_cannot_be_scored_gets_one_sentence(arguments, sentence, bad, files, capsys):
    folder, mask, *rest = [*arguments, "{files}/visible.npy"][:2] + arguments[2:]
    given = [folder, *(["--visible", mask] if mask else []), *rest]
    names = {"bad": bad, "files": files}
    assert run(*(argument.format(**names) for argument in given), "--quiet", files=files) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1
    assert printed.err.startswith("diverse3d: " + sentence.format(**names))


def test_a_set_beyond_the_limit_is_refused(files, monkeypatch, capsys):
    monkeypatch.setenv("DIVERSE3D_MAX_RESULT_BYTES", "9000")
    assert run(files / "set", "--visible", files / "visible.npy", "--quiet", files=files) == 2
    assert "if you trust it, raise DIVERSE3D_MAX_RESULT_BYTES (9000)" in capsys.readouterr().err


def test_help_names_seed_and_quiet(capsys):
    assert main(["score", "--help"]) == 0
    printed = capsys.readouterr().out
    assert all(option in printed for option in ("--truth", "--visible", "--seed", "--quiet"))
