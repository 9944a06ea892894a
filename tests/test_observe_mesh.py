"""Partial meshes: every way to mark what is hidden, every file kind, every error."""

import numpy as np
import pytest
import trimesh
from helpers import rotation_about

from diverse3d._errors import InputError
from diverse3d.observe import MeshObservation, observe_mesh


@pytest.fixture
def hidden(tiny_head):
    return np.asarray(tiny_head.template_m)[:, 1] < 0


@pytest.fixture
def vertices(tiny_head):
    return np.array(tiny_head.template_m)


@pytest.fixture
def faces(tiny_head):
    return np.array(tiny_head.faces)


def solid(vertices, faces, **attributes):
    return trimesh.Trimesh(vertices, faces, process=False, vertex_attributes=attributes)


def check(seen, vertices, hidden, atol=1e-7):
    np.testing.assert_array_equal(seen.mesh.visible, ~hidden)
    np.testing.assert_allclose(seen.mesh.vertices_m[~hidden], vertices[~hidden], atol=atol)
    np.testing.assert_array_equal(seen.mesh.vertices_m[hidden], 0)
    assert seen.mesh.vertices_m.dtype == np.float64 and isinstance(seen, MeshObservation) and len(seen.sha256) == 64


MASKS = {
    "mask.npy": lambda path, hidden: np.save(path, hidden),
    "numbers.npy": lambda path, hidden: np.save(path, hidden.astype(np.float32)),
    "mask.npz": lambda path, hidden: np.savez(path, hidden=hidden.astype(np.uint8)),
    "mask.txt": lambda path, hidden: np.savetxt(path, hidden, fmt="%d"),
}


@pytest.mark.parametrize("name", MASKS)
def test_mask_files(tmp_path, tiny_head, vertices, hidden, name):
    MASKS[name](tmp_path / name, hidden)
    check(observe_mesh(vertices, head=tiny_head, hidden=tmp_path / name), vertices, hidden)


def test_array_of_visibility_nan_marks_and_no_marks(tiny_head, vertices, hidden):
    check(observe_mesh(vertices, head=tiny_head, hidden=hidden), vertices, hidden)
    check(observe_mesh(vertices, head=tiny_head, hidden=hidden.astype(int)), vertices, hidden)
    marked = np.where(hidden[:, None], np.nan, vertices)
    check(observe_mesh(marked, head=tiny_head), vertices, hidden)
    marked[hidden, 0] = np.inf
    check(observe_mesh(marked, head=tiny_head, hidden=hidden), vertices, hidden)
    check(observe_mesh(vertices, head=tiny_head), vertices, np.zeros_like(hidden))


@pytest.mark.parametrize("name", ["visible", "visibility", "hidden", "Occluded", "_MASK"])
@pytest.mark.parametrize("kind", ["memory", "ply", "ascii ply"])
def test_vertex_attributes(tmp_path, tiny_head, vertices, faces, hidden, name, kind):
    values = (~hidden if name.startswith("vis") else hidden).astype(np.float32)
    mesh = solid(vertices, faces, **{name: values})
    if kind != "memory":
        path = tmp_path / "face.ply"
        path.write_bytes(trimesh.exchange.ply.export_ply(mesh, encoding=kind.split()[0].replace("ply", "binary")))
        mesh = path
    check(observe_mesh(mesh, head=tiny_head), vertices, hidden)


def test_integer_attribute_of_a_ply_file(tmp_path, tiny_head, vertices, faces, hidden):
    lines = ["ply", "format ascii 1.0", f"element vertex {len(vertices)}", *[f"property float {c}" for c in "xyz"]]
    lines += [
        "property uchar hidden",
        f"element face {len(faces)}",
        "property list uchar int vertex_indices",
        "end_header",
    ]
    lines += [f"{x:.9g} {y:.9g} {z:.9g} {int(h)}" for (x, y, z), h in zip(vertices, hidden, strict=True)]
    lines += [f"3 {a} {b} {c}" for a, b, c in faces]
    (tmp_path / "face.ply").write_text("\n".join(lines) + "\n")
    check(observe_mesh(tmp_path / "face.ply", head=tiny_head), vertices, hidden)


@pytest.mark.parametrize("suffix", ["ply", "obj", "glb", "gltf", "off", "npz"])
def test_file_kinds_keep_vertex_order(tmp_path, tiny_head, vertices, faces, hidden, suffix):
    path = tmp_path / f"face.{suffix}"
    if suffix == "npz":
        np.savez(path, vertices=vertices.astype(np.float32), visible=~hidden)
        check(observe_mesh(path, head=tiny_head), vertices, hidden)
    elif suffix == "gltf":
        write_gltf(path, vertices, faces)
    else:
        solid(vertices, faces).export(path)
    np.save(tmp_path / "mask.npy", hidden)
    check(observe_mesh(str(path), head=tiny_head, hidden=tmp_path / "mask.npy"), vertices, hidden)


def test_an_obj_file_with_texture_seams_keeps_vertex_order(tmp_path, tiny_head, vertices, faces, hidden, rng):
    lines = [f"v {x:.9g} {y:.9g} {z:.9g}" for x, y, z in vertices]
    lines += [f"vt {u:.4f} {v:.4f}" for u, v in rng.uniform(size=(3 * len(faces), 2))]  # a seam at every edge
    lines += ["f " + " ".join(f"{c + 1}/{3 * i + k + 1}" for k, c in enumerate(face)) for i, face in enumerate(faces)]
    (tmp_path / "face.obj").write_text("\n".join(lines) + "\n")
    check(observe_mesh(tmp_path / "face.obj", head=tiny_head, hidden=hidden), vertices, hidden)


def test_an_obj_file_with_unused_and_coinciding_vertices(tmp_path, tiny_head, vertices, faces, hidden):
    vertices[1] = vertices[0]
    lines = [f"v {x:.9g} {y:.9g} {z:.9g}" for x, y, z in vertices]
    lines += ["f " + " ".join(str(c + 1) for c in face) for face in faces[40:]]
    (tmp_path / "face.obj").write_text("\n".join(lines) + "\n")
    check(observe_mesh(tmp_path / "face.obj", head=tiny_head, hidden=hidden), vertices, hidden)


@pytest.mark.parametrize("unit_m", [1.0, 0.1, 0.01, 0.001])
@pytest.mark.parametrize("size", [0.8, 1.25])
def test_units_are_recognised_wherever_the_head_stands(tiny_head, vertices, hidden, unit_m, size):
    moved = (size * vertices @ rotation_about([1, 2, 3], 2.0).T + [3.0, -1.0, 0.5]) / unit_m
    seen = observe_mesh(moved, head=tiny_head, hidden=hidden)
    assert seen.mesh.unit_m == unit_m
    check(seen, moved * unit_m, hidden, atol=1e-12)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_nothing_or_next_to_nothing_visible_is_no_error(tiny_head, vertices, count):
    visible = np.arange(len(vertices)) < count
    check(observe_mesh(vertices, head=tiny_head, hidden=~visible), vertices, ~visible)


def test_hash_depends_on_what_is_visible_and_on_nothing_else(tiny_head, vertices, hidden):
    digest = observe_mesh(vertices, head=tiny_head, hidden=hidden).sha256
    elsewhere = np.where(hidden[:, None], 7.0, vertices)
    assert observe_mesh(elsewhere, head=tiny_head, hidden=hidden).sha256 == digest
    assert observe_mesh(vertices, head=tiny_head).sha256 != digest
    vertices[np.flatnonzero(~hidden)[0], 0] += 1e-6
    assert observe_mesh(vertices, head=tiny_head, hidden=hidden).sha256 != digest


def write_gltf(path, vertices, faces=((0, 1, 2),), embed=True):
    scene = trimesh.Scene(solid(vertices, np.array(faces)))
    for name, data in trimesh.exchange.gltf.export_gltf(scene, embed_buffers=embed).items():
        (path if name == "model.gltf" else path.with_name(name)).write_bytes(data)


def with_nan(vertices):
    vertices[60] = np.nan
    return vertices


ARRAY_ERRORS = {
    "another vertex count": (lambda v: (v[:-1], {}), "103 vertices.*104"),
    "flat vertices": (lambda v: (v[:, :2], {}), r"\[104, 2\]|\(104, 2\)"),
    "a number": (lambda v: (np.array(3.0), {}), "shape"),
    "no numbers": (lambda v: ([["a", "b", "c"]] * 104, {}), "no numbers"),
    "nan in a visible vertex": (lambda v: (with_nan(v), {"hidden": np.zeros(104, bool)}), "1 vertices.*not finite"),
    "visibility of another length": (lambda v: (v, {"hidden": np.zeros(90, bool)}), "90 values.*104"),
    "a head as large as a house": (lambda v: (50 * v, {}), "times the size"),
    "a head between two units": (lambda v: (3.2 * v, {}), "times the size"),
    "all in one point": (lambda v: (0 * v, {}), "one point"),
}


@pytest.mark.parametrize(("make", "says"), ARRAY_ERRORS.values(), ids=ARRAY_ERRORS.keys())
def test_bad_arrays(tiny_head, vertices, make, says):
    mesh, marks = make(vertices)
    with pytest.raises(InputError, match=says):
        observe_mesh(mesh, head=tiny_head, **marks)


def truncated_npz(path, arrays):
    np.savez(path, **arrays)
    path.write_bytes(path.read_bytes()[:-40])


FILE_ERRORS = {
    "missing.ply": (lambda path, v: None, "no file"),
    "empty.ply": (lambda path, v: path.write_bytes(b""), "can't be read"),
    "noise.ply": (lambda path, v: path.write_bytes(np.random.default_rng(0).bytes(500)), "can't be read"),
    "noise.glb": (lambda path, v: path.write_bytes(np.random.default_rng(0).bytes(500)), "can't be read"),
    "noise.npz": (lambda path, v: path.write_bytes(np.random.default_rng(0).bytes(500)), "can't be read"),
    "truncated.npz": (lambda path, v: truncated_npz(path, {"vertices": v}), "can't be read"),
    "nothing.npz": (lambda path, v: np.savez(path, other=v), "^[^(]*holds no array 'vertices'"),
    "pickle.npz": (lambda path, v: np.savez(path, vertices=np.array([{}], object)), "can't be read"),
    "text.npz": (lambda path, v: np.savez(path, vertices=np.array(["a"] * 104)), "no numbers"),
    "marks.npz": (lambda path, v: np.savez(path, vertices=v, visible=np.ones(9)), "9 values.*104"),
    "points.ply": (lambda path, v: trimesh.PointCloud(v).export(path), "no faces"),
    "points.obj": (lambda path, v: path.write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\n"), "no faces|can't be read"),
    "broken.obj": (lambda path, v: path.write_text("v 0 0 0\nf 1 2 3\n"), "can't be read|vertices"),
    "unknown.xyzzy": (lambda path, v: path.write_bytes(b"hello"), "can't be read"),
    "other.stl": (lambda path, v: trimesh.creation.box().export(path), "format that is not read.*keep the order"),
    "outside.gltf": (lambda path, v: write_gltf(path, v, embed=False), "data in another file.*gltf_buffer_0.bin"),
}


@pytest.mark.parametrize("name", FILE_ERRORS)
def test_bad_mesh_files_are_named(tmp_path, tiny_head, vertices, name):
    make, says = FILE_ERRORS[name]
    make(tmp_path / name, vertices)
    with pytest.raises(InputError, match=says) as caught:
        observe_mesh(tmp_path / name, head=tiny_head)
    assert name in str(caught.value)


MASK_ERRORS = {
    "missing.npy": (lambda path: None, "no mask file"),
    "short.npy": (lambda path: np.save(path, np.ones(5)), "5 values.*104"),
    "square.npy": (lambda path: np.save(path, np.ones((104, 2))), "104"),
    "pickle.npy": (lambda path: np.save(path, np.array([{}] * 104, object)), "can't be read"),
    "words.npy": (lambda path: np.save(path, np.array(["a"] * 104)), "no numbers"),
    "nan.npy": (lambda path: np.save(path, np.full(104, np.nan)), "neither 0 nor 1"),
    "empty.npz": (lambda path: np.savez(path), "0 arrays"),
    "two.npz": (lambda path: np.savez(path, a=np.ones(104), b=np.ones(104)), "2 arrays"),
    "truncated.npz": (lambda path: truncated_npz(path, {"a": np.ones(104)}), "can't be read"),
    "noise.npy": (lambda path: path.write_bytes(np.random.default_rng(0).bytes(500)), "can't be read"),
    "words.txt": (lambda path: path.write_text("one two\n"), "can't be read"),
    "noise.txt": (lambda path: path.write_bytes(np.random.default_rng(0).bytes(500)), "can't be read"),
    "few.txt": (lambda path: path.write_text("1 0 1"), "3 values"),
}


@pytest.mark.parametrize("name", MASK_ERRORS)
def test_bad_mask_files_are_named(tmp_path, tiny_head, vertices, name):
    make, says = MASK_ERRORS[name]
    make(tmp_path / name)
    with pytest.raises(InputError, match=says) as caught:
        observe_mesh(vertices, head=tiny_head, hidden=tmp_path / name)
    assert name in str(caught.value)


def test_a_mesh_without_faces(tiny_head, vertices):
    with pytest.raises(InputError, match="no faces"):
        observe_mesh(trimesh.Trimesh(vertices, np.zeros((0, 3), int), process=False), head=tiny_head)


def test_too_large_a_file_is_refused_unread(tmp_path, tiny_head):
    for name in ("sparse.ply", "sparse.npz"):
        with (tmp_path / name).open("wb") as file:
            file.truncate((512 << 20) + 1)
        with pytest.raises(InputError, match="larger than 512 MiB"):
            observe_mesh(tmp_path / name, head=tiny_head)


def test_a_declared_size_is_checked_before_it_is_unpacked(tmp_path, tiny_head):
    np.savez_compressed(tmp_path / "bomb.npz", vertices=np.zeros((9_000_000, 8)))  # 576 MB in half a megabyte
    with pytest.raises(InputError, match="bomb.npz.*MiB"):
        observe_mesh(tmp_path / "bomb.npz", head=tiny_head)
