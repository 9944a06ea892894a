"""Meshes with their triangles in every format, folders of registered meshes, units, files whole or not at all."""

import json
from base64 import b64encode

import numpy as np
import pytest
import trimesh
from trimesh.exchange.gltf import export_gltf
from trimesh.exchange.ply import export_ply
from trimesh.exchange.stl import export_stl_ascii

import meshvae
from diverse3d import InputError
from diverse3d.diversify._components import load_components
from diverse3d.files import (
    UNITS_M,
    read_mesh,
    read_registered,
    read_safetensors,
    read_safetensors_texts,
    unit_by_size,
    whole_file,
    write_safetensors,
)

POLYGONS = [(0, 1, 2), (0, 1, 2, 3), (0, 1, 2, 3, 4)]
FANS = [(0, 1, 2), (0, 1, 2), (0, 2, 3), (0, 1, 2), (0, 2, 3), (0, 3, 4)]
POINTS = np.arange(15.0).reshape(5, 3)
HEADER = (
    "ply\nformat {} 1.0\nelement vertex 5\nproperty float x\nproperty float y\nproperty float z\n"
    "element face 3\nproperty uchar kind\nproperty list uchar int vertex_indices\nend_header\n"
)


@pytest.fixture
def ball():
    return trimesh.creation.icosphere(subdivisions=1)


WRITERS = {
    "mesh.ply": lambda mesh: export_ply(mesh),
    "text.ply": lambda mesh: export_ply(mesh, encoding="ascii"),
    "mesh.obj": lambda mesh: mesh.export(file_type="obj").encode(),
    "mesh.off": lambda mesh: mesh.export(file_type="off").encode(),
    "mesh.glb": lambda mesh: mesh.export(file_type="glb"),
    "mesh.gltf": lambda mesh: export_gltf(trimesh.Scene(mesh), embed_buffers=True)["model.gltf"],
    "mesh.stl": lambda mesh: mesh.export(file_type="stl"),
    "text.stl": lambda mesh: export_stl_ascii(mesh).encode(),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_triangles(ball, tmp_path, name):
    (tmp_path / name).write_bytes(WRITERS[name](ball))
    read = read_mesh(tmp_path / name)
    assert read.faces.dtype == np.int32 and read.vertices.shape == ball.vertices.shape, "an STL file's are merged"
    np.testing.assert_allclose(read.vertices[read.faces], ball.vertices[ball.faces], atol=1e-6)


def polygon_files():
    points = "".join(" ".join(map(str, point)) + "\n" for point in POINTS)
    text = HEADER.format("ascii") + points + "".join(f"7 {len(p)} {' '.join(map(str, p))}\n" for p in POLYGONS)
    rows = b"".join(bytes([7, len(p)]) + np.array(p, ">i4").tobytes() for p in POLYGONS)
    binary = HEADER.format("binary_big_endian").encode() + POINTS.astype(">f4").tobytes() + rows
    obj = "".join(f"v {line}\n" for line in points.splitlines())
    obj += "".join("f " + " ".join(f"{i - 5 if len(p) == 4 else i + 1}/1//" for i in p) + "\n" for p in POLYGONS)
    off = f"OFF\n5 3 0\n{points}" + "".join(f"{len(p)} {' '.join(map(str, p))} 255 0 0\n" for p in POLYGONS)
    return {"text.ply": text.encode(), "mesh.ply": binary, "mesh.obj": obj.encode(), "mesh.off": off.encode()}


@pytest.mark.parametrize("name", polygon_files())
def test_polygons_become_fans(tmp_path, name):
    (tmp_path / name).write_bytes(polygon_files()[name])
    read = read_mesh(tmp_path / name)
    np.testing.assert_array_equal(read.faces, FANS)
    np.testing.assert_array_equal(read.vertices, POINTS)


BAD = {
    "a corner that is not there": ("mesh.obj", b"v 0 0 0\n" * 3 + b"f 1 2 4\n", "not among its vertices"),
    "a corner before the first": ("mesh.off", b"OFF 3 1 0\n" + b"0 0 0\n" * 3 + b"3 0 1 -1\n", "not among its vertices"),
    "a corner that is a word": ("mesh.obj", b"v 0 0 0\n" * 3 + b"f 1 2 x\n", "no whole numbers"),
    "a corner too large": ("mesh.obj", b"v 0 0 0\n" * 3 + b"f 1 2 99999999999\n", "no whole numbers"),
    "stl cut short": ("mesh.stl", bytes(80) + b"\2\0\0\0" + bytes(50), "no whole STL"),
    "text stl with half a triangle": ("mesh.stl", b"solid\nvertex 0 0 0\nvertex 1 0 0\n", "without its corners"),
    "stl of too many triangles": ("mesh.stl", bytes(80) + b"\xff\xff\0\0" + bytes(50 * 65535), "MAX_MESH_ELEMENTS"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_damaged_meshes_are_refused(tmp_path, monkeypatch, case):
    monkeypatch.setenv("DIVERSE3D_MAX_MESH_ELEMENTS", "60000")
    name, content, says = BAD[case]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=says):
        read_mesh(tmp_path / name)


def test_a_mirrored_part_is_turned_over(ball, tmp_path):
    scene = trimesh.Scene(ball)
    scene.graph.update(frame_to=next(iter(scene.graph.nodes_geometry)), matrix=np.diag([-1.0, 1.0, 1.0, 1.0]))
    (tmp_path / "a.glb").write_bytes(scene.export(file_type="glb"))
    read = read_mesh(tmp_path / "a.glb")
    assert trimesh.Trimesh(read.vertices, read.faces, process=False).volume == pytest.approx(ball.volume, rel=1e-5)


@pytest.mark.parametrize(
    ("mode", "triangles"), [(4, [(0, 1, 2)]), (5, [(0, 1, 2), (3, 2, 1)]), (6, [(0, 1, 2), (0, 2, 3)])]
)
def test_lists_strips_and_fans_of_a_scene(tmp_path, mode, triangles):
    tree = {
        "asset": {"version": "2.0"},
        "nodes": [{"mesh": 0}, {"mesh": 0, "translation": [1, 0, 0]}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "mode": mode}]}],
        "buffers": [{"uri": "data:application/octet-stream;base64," + b64encode(POINTS[:4].astype("<f4")).decode()}],
        "bufferViews": [{"buffer": 0, "byteLength": 48}],
        "accessors": [{"bufferView": 0, "componentType": 5126, "count": 4, "type": "VEC3"}],
    }
    (tmp_path / "a.gltf").write_text(json.dumps(tree))
    faces = np.array(triangles)
    np.testing.assert_array_equal(read_mesh(tmp_path / "a.gltf").faces, np.concatenate([faces, faces + 4]))


def test_registered_meshes_of_all_kinds_are_thinned_evenly(ball, tmp_path):
    meshes = np.stack([ball.vertices * (1 + i) for i in range(6)])
    for i, name in enumerate(("anna/smile/1.ply", "anna/2.obj", "bert.npz")):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("npz"):
            np.savez(path, vertices=meshes[2:])
        else:
            trimesh.Trimesh(meshes[i], ball.faces, process=False).export(path)
    read = read_registered(tmp_path, len(ball.vertices))
    assert read.subjects == ["anna", "anna", *["bert"] * 4] and read.expressions == ["", "smile", *[""] * 4]
    np.testing.assert_allclose(read.vertices, meshes[[1, 0, 2, 3, 4, 5]], atol=1e-6)
    few = read_registered(tmp_path, len(ball.vertices), most=3)
    assert few.total == 6
    np.testing.assert_array_equal(few.vertices, read.vertices[[0, 2, 5]])
    with pytest.raises(InputError, match="42 vertices, the head 43|no meshes of 43 vertices"):
        read_registered(tmp_path, 43)
    with pytest.raises(InputError, match="holds no mesh"):
        (tmp_path / "empty").mkdir()
        read_registered(tmp_path / "empty", 43)


def test_a_description_nested_without_end_is_refused(tmp_path, tiny_head):
    path = tmp_path / "weights.safetensors"
    for name in ("components", "meshvae"):
        write_safetensors(path, {"a": np.zeros(3)}, {name: "[" * 200_000})
        assert read_safetensors_texts(path) == read_safetensors(path).texts == {name: "[" * 200_000}
        with pytest.raises(InputError, match="of this version"):
            load_components(tiny_head, path) if name == "components" else meshvae.load_model(path)


@pytest.mark.parametrize("metadata", [[1], {"a": 1}, "text"])
def test_metadata_that_is_no_table_of_texts_is_refused(tmp_path, metadata):
    header = json.dumps({"__metadata__": metadata}).encode()
    (tmp_path / "a.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    for read in (read_safetensors, read_safetensors_texts):
        with pytest.raises(InputError, match="no table of texts"):
            read(tmp_path / "a.safetensors")


@pytest.mark.parametrize("name", UNITS_M)
def test_units_are_recognised_within_a_factor(name):
    for factor in (0.6, 1.0, 1.7):
        assert unit_by_size(0.3 * factor / UNITS_M[name], 0.3) == (name, UNITS_M[name])
    assert all(unit_by_size(size, 0.3) is None for size in (0.0, np.inf, np.nan, 3000.0, 0.003, 0.3 * 10**0.5))


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    with whole_file(tmp_path / "a.txt") as aside:
        aside.write_text("old")
    with pytest.raises(KeyboardInterrupt), whole_file(tmp_path / "a.txt") as aside:
        aside.write_text("half")
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"] and (tmp_path / "a.txt").read_text() == "old"
    with pytest.raises(meshvae.InputError, match="Can't write"), whole_file(tmp_path / "no" / "a.txt") as aside:
        aside.write_text("new")
    assert InputError is meshvae.InputError
