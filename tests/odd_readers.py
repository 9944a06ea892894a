"""Readers beyond those of photos, meshes and results: scans, landmarks, heads to import, weights, lists and tar files."""

import io
import json
import os
import struct
import tarfile
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import numpy as np
import trimesh
from flame_files import Python2, official_pickle, small_flame
from gnm_files import ball, full_layout
from helpers import tiny_arrays
from mutations import Random, in_json, in_npz, in_safetensors, in_safetensors_data

import diverse3d.head.ict._read as ict
import meshvae
from diverse3d.cli._batch_inputs import entries
from diverse3d.files import Limits, read_mesh
from diverse3d.head import HeadModel, load_head
from diverse3d.head._file import head_arrays
from diverse3d.head.flame import import_flame
from diverse3d.head.gnm import import_gnm
from diverse3d.register import read_landmarks


def read_a_scan(path: Path) -> np.ndarray:
    mesh = read_mesh(path, Limits.from_environment())
    vertices, faces = np.asarray(mesh.vertices), np.asarray(mesh.faces)
    assert vertices.ndim == 2 and vertices.shape[1] == 3 and vertices.dtype.kind == "f"
    assert not len(faces) or (faces.min() >= 0 and faces.max() < len(vertices))
    return vertices


def read_marks(path: Path) -> np.ndarray:
    points = read_landmarks(path)
    known = np.isfinite(points).all(axis=1)
    assert points.shape == (68, 3) and known.sum() >= 4 and np.isnan(points[~known]).all()
    return points


def read_a_flame(path: Path) -> np.ndarray:
    return _sound(_with_embedded_head(import_flame, path))


def read_a_gnm(path: Path) -> np.ndarray:
    return _sound(_with_embedded_head(import_gnm, path))


def _with_embedded_head(importer: Callable[[Path], Any], path: Path) -> Any:
    """Imported heads get the residual of the embedded one, which is larger than the tests' bounds: it is read before."""
    head, arrays = _embedded()
    module = "diverse3d.head._imported"
    with mock.patch(f"{module}.load_head", lambda **_: head), mock.patch(f"{module}.head_arrays", lambda: arrays):
        return importer(path)


@cache
def _embedded() -> tuple[HeadModel, dict[str, np.ndarray]]:
    with mock.patch.dict(os.environ):
        os.environ.pop("DIVERSE3D_MAX_HEAD_BYTES", None)
        return load_head(dtype=np.float32), head_arrays()


def _sound(imported: Any) -> np.ndarray:
    assert all(np.isfinite(array).all() for array in imported.arrays.values() if array.dtype.kind == "f")
    assert all(isinstance(text, str) for text in imported.metadata.values())
    return np.asarray(imported.arrays["template"])


def read_an_ict(path: Path) -> np.ndarray:
    """One file of the folder damaged, the others sound; of as few vertices as the made-up mesh has."""
    folder = path.parent / "ict"
    folder.mkdir(exist_ok=True)
    for name, content in _ict_files().items():
        (folder / name).write_bytes(content)
    (folder / path.name).write_bytes(path.read_bytes())
    with mock.patch.object(ict, "ICT_VERTICES", len(_ball()[0])):
        files = ict.read_ict(folder)
    assert np.isfinite(files.neutral).all() and files.landmarks.max() < len(files.neutral)
    return files.neutral


@cache
def _ball() -> tuple[np.ndarray, np.ndarray]:
    return ball(10.0, (0.0, 0.0, 0.0), 6, 10)


@cache
def _ict_files() -> dict[str, bytes]:
    points, faces = _ball()
    ends = b"".join(b"f %d/1/1 %d/1/1 %d/1/1\n" % tuple(face + 1) for face in faces)

    def obj(vertices: np.ndarray) -> bytes:
        return b"".join(b"v %.4f %.4f %.4f\n" % tuple(row) for row in vertices) + ends

    table = {"expressions": ["jawOpen"], "idx_to_landmark_verts": [i % len(points) for i in range(68)]}
    return {
        "generic_neutral_mesh.obj": obj(points),
        "identity000.obj": obj(1.01 * points),
        "jawOpen.obj": obj(points + 0.1),
        "vertex_indices.json": json.dumps(table).encode(),
    }


@cache
def _model() -> tuple[bytes, str]:
    """A trained model's file, and what says that it is of the mesh."""
    mesh = trimesh.creation.icosphere(subdivisions=2)
    config = meshvae.ModelConfig(strides=(2, 1), channels=(4,), basis=2, latent_channels=2)
    hierarchy = meshvae.build_hierarchy(mesh.vertices, mesh.faces, strides=config.strides)
    trained = meshvae.Trained(
        model=meshvae.make_model(config, hierarchy, key=jax.random.key(0)), hierarchy=hierarchy,
        template=np.array(mesh.vertices), scale=1.0, residual_scale=1.0, card={"head": "ball"},
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        meshvae.save_model(trained, Path(folder) / "weights.safetensors")
        content = (Path(folder) / "weights.safetensors").read_bytes()
    return content, meshvae.topology_fingerprint(mesh.faces, len(mesh.vertices))


def read_weights(path: Path) -> np.ndarray:
    trained = meshvae.load_model(path, fingerprint=_model()[1])
    leaves = [leaf for leaf in jax.tree.leaves(trained.model) if hasattr(leaf, "dtype") and leaf.dtype.kind == "f"]
    assert all(np.isfinite(leaf).all() for leaf in leaves) and np.isfinite([trained.scale]).all()
    return np.asarray(trained.template)


def read_entries(path: Path) -> int:
    found = entries([path], out=path.parent / "out")
    for entry in found[:3]:
        assert entry.name.isprintable()
    return len(found)


@cache
def _landmarks() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(68, 3))


@cache
def _marks_npy() -> bytes:
    whole = io.BytesIO()
    np.save(whole, _landmarks())
    return whole.getvalue()


@cache
def _marks_json() -> bytes:
    names = ("nose_tip", "chin", "right_eye_outer", "left_eye_outer", "48", "54")
    return json.dumps({name: list(row) for name, row in zip(names, _landmarks(), strict=False)}).encode()


@cache
def _marks_pp() -> bytes:
    rows = zip(("nose_tip", "chin", "36", "45", "48"), _landmarks(), strict=False)
    points = [b'<point x="%.4f" y="%.4f" z="%.4f" name="%s" active="1"/>' % (*row, name.encode()) for name, row in rows]
    return b"<!DOCTYPE PickedPoints>\n<PickedPoints>\n" + b"\n".join(points) + b"\n</PickedPoints>\n"


@cache
def _stl(binary: bool) -> bytes:
    arrays = tiny_arrays()
    mesh = trimesh.Trimesh(arrays["template"], arrays["faces"], process=False)
    made = mesh.export(file_type="stl" if binary else "stl_ascii")
    return made if isinstance(made, bytes) else made.encode()


@cache
def _coloured_cloud() -> bytes:
    points = tiny_arrays()["template"]
    header = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(points)}\n"
    header += "".join(f"property float {axis}\n" for axis in "xyz")
    header += "".join(f"property uchar {colour}\n" for colour in ("red", "green", "blue")) + "end_header\n"
    return header.encode() + b"".join(struct.pack("<3f3B", *row, 10, 200, 30) for row in points)


@cache
def _gnm() -> bytes:
    whole = io.BytesIO()
    np.savez_compressed(whole, **full_layout())
    return whole.getvalue()


@cache
def _flame(protocol: int) -> bytes:
    return official_pickle(small_flame(np.random.default_rng(5)), protocol)


@cache
def _masks() -> bytes:
    return Python2().dumps({"face": np.arange(40), "nose": np.arange(9)})


@cache
def _list() -> bytes:
    return b"# faces\na.png\nb/c.npz\tb/c.mask.npy\n\n../d.ply\n"


@cache
def _tar() -> bytes:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as tar:
        for name, form in (("a.png", tarfile.USTAR_FORMAT), ("x" * 130 + ".png", tarfile.GNU_FORMAT)):
            member = tarfile.TarInfo(name)
            member.size = 700
            whole.write(member.tobuf(form) + b"\1" * 700 + bytes(324))
            tar.offset = whole.tell()
        member = tarfile.TarInfo("é" * 90 + ".png")
        tar.addfile(member)
    return whole.getvalue()


def in_pickle(data: bytes, rng: Random) -> bytes:
    """An opcode of a pickle replaced by another one: what is called, built and put where."""
    at, opcodes = (
        rng.randint(0, len(data) - 1),
        b"(.0125FGIJKLMNPQRSTUVX])abcdeghijlopqrstu}\x80\x81\x85\x86\x87\x88\x89\x8a",
    )
    return data[:at] + bytes([rng.choice(opcodes)]) + data[at + 1 :]


ROWS: tuple[tuple[Any, ...], ...] = (
    ("scan.stl", lambda: _stl(True), read_a_scan),
    ("text.stl", lambda: _stl(False), read_a_scan),
    ("cloud.ply", _coloured_cloud, read_a_scan),
    ("places.npy", _marks_npy, read_marks),
    ("places.json", _marks_json, read_marks, (in_json,)),
    ("places.pp", _marks_pp, read_marks),
    ("places.txt", lambda: b"".join(b"%.4f %.4f %.4f\n" % tuple(row) for row in _landmarks()), read_marks),
    ("flame.pkl", lambda: _flame(2), read_a_flame, (in_pickle,)),
    ("text_flame.pkl", lambda: _flame(0), read_a_flame, (in_pickle,)),
    ("gnm_head.npz", _gnm, read_a_gnm, (in_npz,)),
    ("generic_neutral_mesh.obj", lambda: _ict_files()["generic_neutral_mesh.obj"], read_an_ict),
    ("vertex_indices.json", lambda: _ict_files()["vertex_indices.json"], read_an_ict, (in_json,)),
    ("weights.safetensors", lambda: _model()[0], read_weights, (in_safetensors, in_safetensors_data)),
    ("list.txt", _list, read_entries),
    ("shard.tar", _tar, read_entries),
)
"""Name, sound content, what reads it, and damage that suits its kind; the arguments of a `Reader`."""

SLOW = ("flame.pkl", "text_flame.pkl", "gnm_head.npz")
"""These take a second a file: the former start a process for each."""
