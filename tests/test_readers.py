"""Every reader, on sound and on damaged files; the limits; what the command line says."""

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
import pytest
import trimesh
from helpers import tiny_arrays
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odd_readers import SLOW
from readers import (
    MEMORY_BOUND,
    READERS,
    SMALL_LIMITS,
    data_uri,
    head_bytes,
    mutate,
    outcome,
    peak_growth,
    picture,
    start_peak,
    tiny_head,
)

from diverse3d._errors import InputError
from diverse3d.cli import main
from diverse3d.files import Limits, read_mesh

CASES = 25
"""Damaged files a reader here; tools/fuzz.py makes thousands."""


@pytest.mark.parametrize("name", READERS)
def test_sound_files_are_read_alike_each_time(tmp_path, name):
    reader = READERS[name]
    (tmp_path / name).write_bytes(reader.sound())
    first, second = reader.read(tmp_path / name), reader.read(tmp_path / name)
    np.testing.assert_array_equal(first, second) if isinstance(first, np.ndarray) else _same(first, second)


def _same(first, second):
    assert first == second


MESHES = [name for name in READERS if name != "cloud.ply" and (name.startswith("mesh.") or name.endswith(".ply"))]


@pytest.mark.parametrize("name", MESHES)
def test_every_mesh_format_gives_the_same_vertices(tmp_path, name):
    (tmp_path / name).write_bytes(READERS[name].sound())
    read, template = READERS[name].read(tmp_path / name), tiny_arrays()["template"]
    marked = name not in ("mesh.obj", "mesh.off")
    visible = template[:, 1] >= 0 if marked else np.ones(len(template), bool)
    np.testing.assert_array_equal(read[:, 3], visible)
    np.testing.assert_allclose(read[:, :3], np.where(visible[:, None], template, 0), atol=1e-7)


@pytest.mark.parametrize("name", [name for name in READERS if name not in SLOW])
@settings(
    max_examples=CASES,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(rng=st.randoms(use_true_random=False))
def test_damaged_files(tmp_path_factory, name, rng):
    folder = tmp_path_factory.getbasetemp()
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in SMALL_LIMITS.items():
            patch.setenv(variable, value)
        data = mutate(READERS[name], rng)
        before = start_peak()
        outcome(READERS[name], folder, data)
        assert peak_growth(before) < MEMORY_BOUND


NEUTRAL = [(name, change) for name, reader in READERS.items() for change in reader.neutral]


@pytest.mark.parametrize(("name", "change"), NEUTRAL, ids=[f"{name}-{i}" for i, (name, _) in enumerate(NEUTRAL)])
def test_comments_metadata_and_references_change_nothing(tmp_path, name, change):
    reader = READERS[name]
    (tmp_path / name).write_bytes(reader.sound())
    before = reader.read(tmp_path / name)
    changed = change(reader.sound(), None)
    assert changed != reader.sound()
    (tmp_path / name).write_bytes(changed)
    after = reader.read(tmp_path / name)
    np.testing.assert_array_equal(before, after) if isinstance(before, np.ndarray) else _same(before, after)


def test_the_memory_check_sees_what_is_allocated():
    before = start_peak()
    if before is None:
        pytest.skip("this system doesn't say how much memory a process took at its peak")
    np.ones(40 << 17)  # 40 MiB
    assert 35 << 20 < peak_growth(before) < 60 << 20


# What only few files have, and must be read right all the same.


def test_a_scene_is_placed_and_joined_as_trimesh_does(tmp_path, rng):
    scene, parts = trimesh.Scene(), []
    for i in range(3):
        matrix = trimesh.transformations.random_rotation_matrix(rng.uniform(size=3))
        matrix[:3, 3] = rng.normal(size=3)
        box = trimesh.creation.box(extents=rng.uniform(1, 2, 3))
        scene.add_geometry(box, transform=matrix, node_name=f"n{i}", geom_name=f"g{i}")
        parts.append(trimesh.transform_points(box.vertices, matrix))
    (tmp_path / "scene.glb").write_bytes(scene.export(file_type="glb"))
    read = read_mesh(tmp_path / "scene.glb", Limits())
    np.testing.assert_allclose(read.vertices, np.concatenate(parts), atol=1e-6)
    assert len(read.faces) == 36 and read.visible is None


def test_whole_numbers_and_parts_that_share_their_vertices(tmp_path):
    points = np.array([[32767, 0, -32768], [0, 16384, 1], [5, 6, 7]], np.int16)
    padded = np.column_stack([points, np.zeros(3, np.int16)]).tobytes()
    indices = np.array([0, 1, 2], np.uint16).tobytes()
    part = {"attributes": {"POSITION": 0}, "indices": 1}
    tree = {
        "asset": {"version": "2.0"},
        "extensionsRequired": ["KHR_mesh_quantization"],
        "scenes": [{"nodes": [0]}],
        "nodes": [
            {"translation": [1, 0, 0], "scale": [2, 2, 2], "rotation": [0, 0, 1, 0], "children": [1]},
            {"mesh": 0},
        ],
        "meshes": [{"primitives": [part, part, {"attributes": {"POSITION": 0}, "mode": 0}]}],
        "buffers": [{"uri": data_uri(padded + indices), "byteLength": 30}],
        "bufferViews": [
            {"buffer": 0, "byteLength": 24, "byteStride": 8},
            {"buffer": 0, "byteOffset": 24, "byteLength": 6},
        ],
        "accessors": [
            {"bufferView": 0, "componentType": 5122, "count": 3, "type": "VEC3", "normalized": True},
            {"bufferView": 1, "componentType": 5123, "count": 3, "type": "SCALAR"},
        ],
    }
    (tmp_path / "a.gltf").write_text(json.dumps(tree))
    read = read_mesh(tmp_path / "a.gltf", Limits())
    expected = np.maximum(points / 32767, -1.0) * [-2, -2, 2] + [1, 0, 0]  # half a turn about z
    np.testing.assert_allclose(read.vertices, expected, atol=1e-12)
    assert len(read.faces) == 2


def test_symbolic_links_are_followed(tmp_path):
    (tmp_path / "whole.ply").write_bytes(READERS["mesh.ply"].sound())
    (tmp_path / "mesh.ply").symlink_to(tmp_path / "whole.ply")
    READERS["mesh.ply"].read(tmp_path / "mesh.ply")


def test_places_that_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "pipe.ply")
    long = tmp_path / ("x" * 300 + ".ply")
    for path, says in ((tmp_path / "pipe.ply", "not a file"), (tmp_path, "by its name"), (long, "can't be read")):
        with pytest.raises(InputError, match=says):
            READERS["mesh.ply"].read(path)


# The limits themselves.


def test_every_limit_can_be_set_and_is_named_where_it_refuses(tmp_path, monkeypatch):
    (tmp_path / "photo.png").write_bytes(picture("PNG"))
    monkeypatch.setenv("DIVERSE3D_MAX_IMAGE_PIXELS", "1199")
    with pytest.raises(
        InputError, match=r"than 1199 pixels; if you trust it, raise DIVERSE3D_MAX_IMAGE_PIXELS \(1199\)"
    ):
        READERS["photo.png"].read(tmp_path / "photo.png")
    monkeypatch.setenv("DIVERSE3D_MAX_IMAGE_PIXELS", "1200")
    READERS["photo.png"].read(tmp_path / "photo.png")
    for field in dataclasses.fields(Limits):
        monkeypatch.setenv(f"DIVERSE3D_MAX_{field.name.upper()}", "7")
    assert set(dataclasses.astuple(Limits.from_environment())) == {7}


@pytest.mark.parametrize("value", ["many", "0", "-1", "1.5", "1e6", "9" * 30, "²"])
def test_a_limit_that_is_no_number_is_said(monkeypatch, value):
    monkeypatch.setenv("DIVERSE3D_MAX_JSON_DEPTH", value)
    with pytest.raises(InputError, match=f"DIVERSE3D_MAX_JSON_DEPTH is '{value}'; give a whole number"):
        Limits.from_environment()
    with pytest.raises(InputError, match="must be at least 1"):
        Limits(json_depth=0)


def test_the_page_lists_every_limit_with_its_default():
    page = (Path(__file__).parents[1] / "docs" / "limits.md").read_text(encoding="utf-8")
    rows = {line.split("`")[1]: line for line in page.splitlines() if line.startswith("| `DIVERSE3D_MAX_")}
    assert list(rows) == [f"DIVERSE3D_MAX_{field.name.upper()}" for field in dataclasses.fields(Limits)]
    for field in dataclasses.fields(Limits):
        assert f"| {field.default:,} " in rows[f"DIVERSE3D_MAX_{field.name.upper()}"], field.name


# On the command line: one sentence, exit code 2, nothing written.


def test_commands_refuse_with_one_sentence(tmp_path, monkeypatch, capsys):
    head, stl, result, out = tmp_path / "head.safetensors", tmp_path / "a.stl", tmp_path / "result", tmp_path / "out"
    head.write_bytes(head_bytes())
    stl.write_bytes(b"solid")
    result.mkdir()
    (result / "run.json").write_bytes(b"[" * 100_000)
    (result / "completions.npz").write_bytes(b"")
    cases = [
        (
            ["complete", str(stl), "--out", str(out), "--head", str(head), "--quiet"],
            f"{stl.name} has 0 usable points",
        ),
        (["replay", str(result)], f"{result / 'run.json'} is nested deeper than 64 levels"),
        (["head", "info", str(stl)], f"{stl} is not a safetensors head file"),
    ]
    for arguments, sentence in cases:
        assert main(arguments) == 2
        printed = capsys.readouterr()
        assert printed.out == "" and printed.err.count("\n") == 1
        assert printed.err.startswith(f"diverse3d: {sentence}")
    monkeypatch.setenv("DIVERSE3D_MAX_HEAD_BYTES", "1000")
    assert main(["head", "info", str(head)]) == 2
    assert "raise DIVERSE3D_MAX_HEAD_BYTES (1000)" in capsys.readouterr().err
    assert not out.exists()
    assert tiny_head().n_vertices == 104
