"""Heads for other programs: every format holds the same vertices in the same order, by our readers and by trimesh."""

import json
from pathlib import Path

import numpy as np
import pytest
import trimesh
from helpers import tiny_arrays
from mutations import Random, in_glb
from PIL import Image
from readers import Reader, mutate, outcome
from safetensors.numpy import save_file

import diverse3d as d3
from diverse3d._names import EXPORT_FORMATS
from diverse3d.cli import main
from diverse3d.files import read_corners, read_mesh, read_npz, write_json
from diverse3d.head import load_head
from diverse3d.register._texture import coloured
from diverse3d.show import export, stored_shapes
from diverse3d.show._export import lidded
from diverse3d.show._glb import Skin, write_glb
from diverse3d.surface import texture_colours


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    path = tmp_path_factory.mktemp("head") / "head.safetensors"
    save_file(tiny_arrays(), path, {"name": "tiny"})
    return path, load_head(path)


@pytest.fixture(scope="module")
def result(head, tmp_path_factory) -> Path:
    """A result on the disk whose heads wear a texture: the vertices of `head`, moved."""
    folder = tmp_path_factory.mktemp("result")
    (folder / "meshes").mkdir()
    rng, model = np.random.default_rng(5), head[1]
    vertices = np.asarray(model.template_m, np.float32)
    texture = np.asarray(Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8)).resize((32, 32)))
    skin = Skin(rng.uniform(0.05, 0.95, (len(vertices), 2)).astype(np.float32), texture, rng.random(len(vertices)))
    for index, name in enumerate(("fit", "00", "01", "02")):
        moved = vertices + np.float32(0.001 * index)
        white = np.full(vertices.shape, 255, np.uint8)
        write_glb(folder / "meshes" / f"{name}.glb", moved, np.asarray(model.faces), white, skin=skin)
    write_json(folder / "run.json", {"input": {"name": "face.png"}, "seed": 3})
    return folder


def with_vertices(path: Path, faces: np.ndarray) -> np.ndarray:
    """Vertices of a file by our reader; of STL, by the triangles."""
    if path.suffix == ".npz":
        return read_npz(path)["vertices"]
    if path.suffix != ".stl":
        return read_mesh(path).vertices
    vertices = np.zeros((faces.max() + 1, 3))
    vertices[faces] = read_corners(path)[: len(faces)]
    return vertices


@pytest.mark.parametrize("kind", EXPORT_FORMATS)
def test_every_format_holds_the_same_vertices_in_the_same_order(kind, head, result, tmp_path, capsys):
    out, faces = tmp_path / kind, np.asarray(head[1].faces)
    assert main(["export", str(result), "--format", kind, "--out", str(out), "--unit", "m"]) == 0
    assert f"4 heads as {kind.upper()}" in capsys.readouterr().out
    for index, name in enumerate(("fit", "00", "01", "02")):
        path, expected = out / f"{name}.{kind}", np.asarray(head[1].template_m, np.float32) + np.float32(0.001 * index)
        np.testing.assert_array_equal(with_vertices(path, faces).astype(np.float32), expected)
        if kind != "npz":
            other = trimesh.load_mesh(path, process=False)
            if kind == "stl":
                np.testing.assert_array_equal(np.asarray(other.triangles, np.float32), expected[faces])
            else:
                np.testing.assert_array_equal(np.asarray(other.vertices, np.float32), expected)
                np.testing.assert_array_equal(other.faces, faces)
    record = json.loads((out / "export.json").read_text())
    assert record["heads"] == ["fit", "00", "01", "02"] and record["unit"] == "m" and record["of"]["seed"] == 3
    assert set(record["files"]) == {path.name for path in out.iterdir()} - {"export.json"}


def test_the_skin_goes_along(head, result, tmp_path):
    skin = read_mesh(result / "meshes" / "01.glb")
    texture = skin.picture.pixels()
    for kind in ("obj", "ply", "npz", "glb"):
        options = ["--out", str(tmp_path / kind), "--only", "1", "--quiet"]
        assert main(["export", str(result), "--format", kind, *options]) == 0
    assert sorted(path.name for path in (tmp_path / "obj").iterdir()) == ["01.mtl", "01.obj", "01.png", "export.json"]
    loaded = trimesh.load_mesh(tmp_path / "obj" / "01.obj", process=False)
    np.testing.assert_allclose(loaded.visual.uv, skin.uv, atol=1e-6)
    np.testing.assert_array_equal(np.asarray(loaded.visual.material.image.convert("RGB")), texture)
    painted = texture_colours(texture, skin.uv)
    np.testing.assert_array_equal(read_mesh(tmp_path / "ply" / "01.ply").colours, painted)
    ply = trimesh.load_mesh(tmp_path / "ply" / "01.ply", process=False)
    np.testing.assert_array_equal(ply.visual.vertex_colors[:, :3], painted)
    stored = read_npz(tmp_path / "npz" / "01.npz")
    np.testing.assert_array_equal(stored["texture"], texture)
    np.testing.assert_allclose(stored["uv"], skin.uv, atol=1e-6)
    again = read_mesh(tmp_path / "glb" / "01.glb")
    np.testing.assert_array_equal(again.picture.pixels(), texture)


def test_a_texel_is_where_its_place_says():
    texture = np.zeros((2, 4, 3), np.uint8)
    texture[0, 3] = 200  # the upper right corner
    colours = texture_colours(texture, np.array([[3.5 / 4, 0.75], [0.125, 0.25], [0.75, 0.75]]))
    np.testing.assert_array_equal(colours[:, 0], [200, 0, 100])


def test_a_printable_head_is_closed_and_in_millimetres(head, result, tmp_path):
    faces = np.asarray(head[1].faces)
    open_mesh = trimesh.Trimesh(np.asarray(head[1].template_m), faces[5:], process=False)
    assert not open_mesh.is_watertight
    vertices, closed = lidded(np.asarray(head[1].template_m, np.float32), faces[5:])
    made = trimesh.Trimesh(vertices, closed, process=False)
    assert made.is_watertight and made.is_winding_consistent and made.volume > 0
    np.testing.assert_array_equal(closed[: len(faces) - 5], faces[5:])
    assert main(["export", str(result), "--format", "stl", "--out", str(tmp_path / "out"), "--closed", "--quiet"]) == 0
    printed = trimesh.load_mesh(tmp_path / "out" / "00.stl")
    assert printed.is_watertight and 100 < printed.extents.max() < 400


def test_the_embedded_head_closes(tmp_path):
    embedded = load_head()
    path = d3.write_mesh(tmp_path / "head.stl", embedded.template_m, embedded.faces, closed=True)
    mesh = trimesh.load_mesh(path)
    assert mesh.is_watertight and mesh.is_winding_consistent and mesh.volume > 1e6
    assert len(mesh.faces) == len(embedded.faces) + 42


@pytest.mark.parametrize("kind", EXPORT_FORMATS)
def test_the_template_as_a_file(kind, head, tmp_path):
    path, model = head
    out = tmp_path / f"template.{kind}"
    assert main(["head", "template", str(path), "--out", str(out), "--unit", "m", "--quiet"]) == 0
    expected = np.asarray(model.template_m, np.float32)
    np.testing.assert_array_equal(with_vertices(out, np.asarray(model.faces)).astype(np.float32), expected)
    assert [file.name for file in tmp_path.iterdir()] == [out.name]


def test_what_a_glb_wears_is_read(head, result, tmp_path):
    mesh, notes = read_mesh(result / "meshes" / "00.glb"), []
    painted = coloured(mesh, notes)
    np.testing.assert_array_equal(painted.colours, texture_colours(mesh.picture.pixels(), mesh.uv))
    damaged = mesh._replace(picture=mesh.picture._replace(data=mesh.picture.data[:200]))
    assert coloured(damaged, notes).colours is None
    assert len(notes) == 1 and notes[0].startswith("Its texture was left out. The picture ")
    vertices = np.asarray(head[1].template_m, np.float32)
    colours = np.random.default_rng(1).integers(0, 256, vertices.shape, np.uint8)
    write_glb(tmp_path / "a.glb", vertices, np.asarray(head[1].faces), colours)
    read = read_mesh(tmp_path / "a.glb")
    assert (
        read.picture is None and np.abs(read.colours.astype(int) - colours).max() < 14
    )  # linear bytes are coarse where dark
    assert np.abs(read.colours.astype(int) - colours)[colours > 100].max() <= 1


def test_a_damaged_skin_is_a_clear_error_or_none(result, tmp_path):
    def read(path):
        mesh = read_mesh(path)
        worn = coloured(mesh, [])
        assert worn.colours is None or worn.colours.shape == mesh.vertices.shape
        assert mesh.uv is None or (mesh.uv.shape == (len(mesh.vertices), 2) and np.isfinite(mesh.uv).all())

    sound = (result / "meshes" / "00.glb").read_bytes()
    reader = Reader("skin.glb", lambda: sound, read, (in_glb,))
    found = [outcome(reader, tmp_path, mutate(reader, Random(seed))) for seed in range(300)]
    assert {"valid", "refused"} == set(found)


REFUSALS = {
    "no result": (["{tmp}", "--format", "ply"], "{tmp} holds no result; give a folder that `complete`"),
    "no folder": (["{tmp}/none", "--format", "ply"], "There is no folder {tmp}/none."),
    "no such head": (["{result}", "--format", "ply", "--only", "7"], "{result} holds no head number 7; its heads are 0 to 2."),
    "closed ply": (["{result}", "--format", "ply", "--closed"], "Only STL is written closed: lids would add vertices"),
    "glb in mm": (["{result}", "--format", "glb", "--unit", "mm"], "GLB files are in metres by their format"),
    "into the result": (["{result}", "--format", "ply", "--out", "{result}"], "{result} can't be replaced while it is in use"),
    "into another's folder": (["{result}", "--format", "ply", "--out", "{other}"], "{other} holds files that are not a result"),
}  # fmt: skip


@pytest.mark.parametrize("arguments, sentence", REFUSALS.values(), ids=REFUSALS.keys())
def test_what_cannot_be_exported_gets_one_sentence(arguments, sentence, result, tmp_path, capsys):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("mine")
    names = {"tmp": tmp_path, "result": result, "other": tmp_path / "other"}
    given = [argument.format(**names) for argument in arguments]
    given += [] if "--out" in given else ["--out", str(tmp_path / "out")]
    assert main(["export", *given, "--force", "--quiet"]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("diverse3d: " + sentence.format(**names)) and printed.err.count("\n") == 1
    assert not (tmp_path / "out").exists() and (tmp_path / "other" / "mine.txt").read_text() == "mine"
    assert sorted(path.name for path in result.iterdir()) == ["meshes", "run.json"]


def test_stl_in_another_order_is_not_scored(head, tmp_path, capsys):
    model = head[1]
    faces = np.asarray(model.faces)[::-1]
    (tmp_path / "set").mkdir()
    d3.write_mesh(tmp_path / "set" / "0.stl", model.template_m, faces)
    np.save(tmp_path / "visible.npy", np.ones(model.n_vertices, bool))
    options = ["--visible", str(tmp_path / "visible.npy"), "--head", str(head[0]), "--quiet"]
    assert main(["score", str(tmp_path / "set"), *options]) == 2
    assert "triangles in their order" in capsys.readouterr().err


def test_a_failure_leaves_nothing(result, tmp_path):
    def broken():
        yield next(stored_shapes(result)[1])
        raise d3.InputError("no more")

    with pytest.raises(d3.InputError):
        export(broken(), tmp_path / "out", "ply")
    with pytest.raises(d3.InputError, match="names no format"):
        d3.write_mesh(tmp_path / "head.fbx", np.zeros((3, 3)), np.zeros((1, 3)))
    assert not list(tmp_path.iterdir())
