"""Every reader with a sound file for it, and what must be true of reading any other.

Shared by the property tests (test_readers.py, test_hostile_files.py) and the longer run (tools/fuzz.py).
"""

import base64
import contextlib
import ctypes
import dataclasses
import io
import json
import struct
import warnings
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
import trimesh
from helpers import tiny_arrays
from mutations import (
    Mutator,
    Random,
    damage,
    glb,
    in_glb,
    in_json,
    in_npz,
    in_png,
    in_safetensors,
    in_safetensors_data,
    png,
    png_chunks,
    text_bomb,
)
from odd_readers import ROWS
from PIL import Image
from safetensors.numpy import save

from diverse3d._errors import InputError
from diverse3d.cli._replay import _difference
from diverse3d.cli._stored import read_record
from diverse3d.diversify import DiversifyConfig
from diverse3d.files import npz_bytes
from diverse3d.fit import FitConfig
from diverse3d.head import HeadModel, head_from_arrays, head_metadata, load_head
from diverse3d.observe import observe_mesh, read_mask, read_photo

SMALL_LIMITS = {
    "DIVERSE3D_MAX_IMAGE_PIXELS": "1000000",
    "DIVERSE3D_MAX_MESH_BYTES": "4000000",
    "DIVERSE3D_MAX_MESH_ELEMENTS": "100000",
    "DIVERSE3D_MAX_HEAD_BYTES": "4000000",
    "DIVERSE3D_MAX_HEAD_VERTICES": "10000",
    "DIVERSE3D_MAX_RESULT_BYTES": "4000000",
    "DIVERSE3D_MAX_JSON_VALUES": "20000",
    "DIVERSE3D_MAX_IMPORT_UNPACKED_BYTES": "4000000",
}
"""Limits under which no file, however damaged, may take more than `MEMORY_BOUND`."""

MEMORY_BOUND = 32 << 20
"""Bytes that reading one file may take under `SMALL_LIMITS`: 32 for each of the million pixels allowed."""


@dataclasses.dataclass(frozen=True)
class Reader:
    """One reader with a sound file for it."""

    name: str
    """The file's name."""
    sound: Callable[[], bytes]
    """Content of the sound file."""
    read: Callable[[Path], Any]
    """Reads a file and checks what can be said of any result."""
    inner: tuple[Mutator, ...] = ()
    """Damage beneath checksums and lengths, which are put right afterwards."""
    neutral: tuple[Mutator, ...] = ()
    """Changes that must not change the result."""


def outcome(reader: Reader, folder: Path, data: bytes) -> str:
    """`valid` or `refused`; anything but a sound result or one clear `InputError` raises."""
    path = folder / reader.name
    path.write_bytes(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            reader.read(path)
    except InputError as error:
        text = str(error)
        assert "\n" not in text and text.endswith((".", ")")), text
        assert reader.name in text or "the stored" in text, text
        assert len(text) < 800, text
        return "refused"
    return "valid"


def start_peak() -> int | None:
    """Start a new peak of this process's memory; its bytes now, None where the system can't say."""
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)  # else what was freed before would be used again, unseen
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return _memory("VmRSS:")
    except OSError:
        return None


def peak_growth(before: int | None) -> int:
    """By how many bytes memory has grown at its peak since `start_peak` (0 where the system can't say)."""
    return 0 if before is None else _memory("VmHWM:") - before


def _memory(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(name))


def mutate(reader: Reader, rng: Random) -> bytes:
    """The sound file, damaged."""
    return damage(reader.sound(), reader.inner, rng)


# Sound files.


@cache
def tiny_head() -> HeadModel:
    return head_from_arrays(tiny_arrays(), name="tiny")


@cache
def _tiny_mesh() -> trimesh.Trimesh:
    arrays = tiny_arrays()
    hidden = (arrays["template"][:, 1] < 0).astype(np.float32)
    return trimesh.Trimesh(arrays["template"], arrays["faces"], process=False, vertex_attributes={"hidden": hidden})


def _hidden() -> np.ndarray:
    return np.asarray(_tiny_mesh().vertex_attributes["hidden"])


@cache
def picture(kind: str, mode: str = "RGB") -> bytes:
    """A small smooth picture with an orientation tag."""
    coarse = Image.fromarray(np.random.default_rng(3).integers(0, 256, (5, 7, 3), dtype=np.uint8))
    image = coarse.resize((40, 30), Image.Resampling.BICUBIC).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = 6
    whole = io.BytesIO()
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    if kind == "TIFF":
        options["compression"] = "tiff_lzw" if mode == "RGB" else "tiff_deflate"
    if kind in ("PNG", "JPEG", "WEBP", "TIFF"):
        options["exif"] = exif
    image.save(whole, format=kind, **options)
    return whole.getvalue()


@cache
def mesh_bytes(suffix: str) -> bytes:
    mesh = _tiny_mesh()
    if suffix == "gltf":
        return trimesh.exchange.gltf.export_gltf(trimesh.Scene(mesh), embed_buffers=True)["model.gltf"]
    if suffix in ("ply", "ascii.ply"):
        return trimesh.exchange.ply.export_ply(mesh, encoding="ascii" if suffix == "ascii.ply" else "binary")
    made = mesh.export(file_type=suffix)
    return made if isinstance(made, bytes) else made.encode()


@cache
def _big_endian_ply() -> bytes:
    """A binary PLY file of the other byte order, with lists of unequal lengths before and after the vertices."""
    mesh, hidden = _tiny_mesh(), _hidden()
    header = (
        "ply\nformat binary_big_endian 1.0\ncomment made by a test\nelement group 2\nproperty list ushort double member\n"
        f"element vertex {len(mesh.vertices)}\nproperty double x\nproperty double y\nproperty double z\n"
        f"property uchar hidden\nelement face {len(mesh.faces) + 1}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    body = struct.pack(">HdHdd", 1, 0.5, 2, 1.0, 2.0)
    body += b"".join(struct.pack(">dddB", *v, int(h)) for v, h in zip(mesh.vertices, hidden, strict=True))
    body += struct.pack(">B4i", 4, 0, 1, 2, 3) + b"".join(struct.pack(">B3i", 3, *face) for face in mesh.faces)
    return header.encode() + body


@cache
def _npy(numbers: str) -> bytes:
    whole = io.BytesIO()
    np.save(whole, _hidden().astype(numbers))
    return whole.getvalue()


@cache
def _npz() -> bytes:
    whole = io.BytesIO()
    np.savez_compressed(whole, vertices=np.asarray(_tiny_mesh().vertices), visible=_hidden() < 0.5)
    return whole.getvalue()


@cache
def _completions() -> bytes:
    vertices = np.asarray(_tiny_mesh().vertices, np.float32)
    return npz_bytes({"vertices": np.stack([vertices] * 3), "fit": vertices, "order": np.arange(3, dtype=np.int32)})


@cache
def head_bytes() -> bytes:
    return save(tiny_arrays(), {"name": "tiny", "licence": "CC0"})


@cache
def record_bytes() -> bytes:
    settings = {"n": 3, "method": "posterior", "noise": None, "key_impl": "threefry2x32", "key_data": [0, 5]}
    settings |= {"fit": dataclasses.asdict(FitConfig()), "diversify": dataclasses.asdict(DiversifyConfig())}
    record = {"head": {"name": "tiny", "sha256": None}, "configuration": settings, "versions": {"jax": "0.10.2"}}
    return json.dumps(record, indent=2).encode()


# Readers, each with what is true of any result.


def read_a_photo(path: Path) -> np.ndarray:
    rgb = read_photo(path, max_side=64)
    assert rgb.dtype == np.uint8 and rgb.ndim == 3 and rgb.shape[2] == 3 and 1 <= max(rgb.shape[:2]) <= 64
    return rgb


def read_a_mask(path: Path) -> np.ndarray:
    hidden = read_mask(path, (40, 30))
    assert hidden.shape == (40, 30) and hidden.dtype == bool
    return hidden


def read_a_mesh(path: Path) -> np.ndarray:
    return _checked(observe_mesh(path, head=tiny_head()))


def read_vertex_marks(path: Path) -> np.ndarray:
    return _checked(observe_mesh(np.asarray(tiny_head().template_m), head=tiny_head(), hidden=path))


def _checked(seen: Any) -> np.ndarray:
    vertices, visible = seen.mesh.vertices_m, seen.mesh.visible
    assert vertices.shape == (104, 3) and np.isfinite(vertices).all()
    assert visible.shape == (104,) and visible.dtype == bool and not vertices[~visible].any()
    return np.column_stack([vertices, visible])


def read_a_head(path: Path) -> np.ndarray:
    head = load_head(path, dtype=np.float32)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(head))
    assert int(np.max(head.faces)) < head.n_vertices and all(
        isinstance(text, str) for text in head_metadata(path).values()
    )
    return np.asarray(head.components_m)


def read_a_record(path: Path) -> Any:
    record, run = read_record(path.parent)
    assert isinstance(record, dict) and run.key().size == 1
    return run


def read_completions(path: Path) -> str:
    said, apart_mm = _difference(path.read_bytes(), _completions())
    assert apart_mm >= 0.0 or np.isnan(apart_mm)
    if "can't be read" in said or "holds" in said or "unpacks" in said or "is packed" in said:
        raise InputError(said if said.endswith(".") else f"{said}.")
    assert "mm apart" in said or "of shape" in said, said
    return said


def _with_materials(data: bytes, _rng: Random) -> bytes:
    """Materials and textures from elsewhere, none of which is to be opened."""
    binary = data.startswith(b"glTF")
    size = int.from_bytes(data[12:16], "little")
    tree = json.loads(data[20 : 20 + size] if binary else data)
    tree |= {"images": [{"uri": "file:///etc/passwd"}, {"uri": "http://localhost:9/x.png"}]}
    tree |= {"textures": [{"source": 0}], "materials": [{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}]}
    text = json.dumps(tree).encode()
    return glb(text, data[20 + size :]) if binary else text


def _with_metadata(data: bytes, _rng: Random) -> bytes:
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header["__metadata__"]["note"] = "x" * 1000
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + size :]


def _with_more(data: bytes, _rng: Random) -> bytes:
    return json.dumps(json.loads(data) | {"note": ["anything"] * 9}).encode()


def _with_texts(data: bytes, _rng: Random) -> bytes:
    chunks = png_chunks(data)
    profile = (b"iCCP", b"x\0\0" + zlib.compress(bytes(9 << 20), 9))
    return png([chunks[0], profile, text_bomb(), *chunks[1:-1], text_bomb(), chunks[-1]])


def _after(mark: bytes, addition: bytes) -> Mutator:
    def add(data: bytes, _rng: Random) -> bytes:
        start, end = data.split(mark, 1)
        return start + mark + addition + end

    return add


_COMMENTED_PLY = (_after(b"1.0\n", b"comment element vertex 99999999999\nobj_info TextureFile /etc/passwd\n"),)

READERS = {
    reader.name: reader
    for reader in (
        Reader("photo.png", lambda: picture("PNG"), read_a_photo, (in_png,), (_with_texts,)),
        Reader("palette.png", lambda: picture("PNG", "P"), read_a_photo, (in_png,), (_with_texts,)),
        Reader(
            "photo.jpg", lambda: picture("JPEG"), read_a_photo, (), (_after(b"\xff\xd8", b"\xff\xfe\0\7hello"),)
        ),
        Reader("photo.webp", lambda: picture("WEBP"), read_a_photo),
        Reader("photo.bmp", lambda: picture("BMP"), read_a_photo),
        Reader("photo.tiff", lambda: picture("TIFF"), read_a_photo),
        Reader("grey.tiff", lambda: picture("TIFF", "I;16"), read_a_photo),
        Reader("photo.gif", lambda: picture("GIF"), read_a_photo),
        Reader("mask.png", lambda: picture("PNG", "LA"), read_a_mask, (in_png,), (_with_texts,)),
        Reader("mesh.ply", lambda: mesh_bytes("ply"), read_a_mesh, (), _COMMENTED_PLY),
        Reader("text.ply", lambda: mesh_bytes("ascii.ply"), read_a_mesh, (), _COMMENTED_PLY),
        Reader("other.ply", _big_endian_ply, read_a_mesh, (), _COMMENTED_PLY),
        Reader(
            "mesh.obj", lambda: mesh_bytes("obj"), read_a_mesh, (),
            (lambda data, _: b"mtllib /etc/passwd\n# v 1 2\nusemtl x\n" + data,),
        ),
        Reader("mesh.off", lambda: mesh_bytes("off"), read_a_mesh, (), (_after(b"OFF\n", b"# 9 9 9\n\n"),)),
        Reader("mesh.glb", lambda: mesh_bytes("glb"), read_a_mesh, (in_glb,), (_with_materials,)),
        Reader("mesh.gltf", lambda: mesh_bytes("gltf"), read_a_mesh, (in_json,), (_with_materials,)),
        Reader("mesh.npz", _npz, read_a_mesh, (in_npz,)),
        Reader("marks.npy", lambda: _npy("uint8"), read_vertex_marks),
        Reader("marks.txt", lambda: b"# hidden\n" + b"".join(b"%d\n" % h for h in _hidden()), read_vertex_marks),
        Reader("head.safetensors", head_bytes, read_a_head, (in_safetensors, in_safetensors_data), (_with_metadata,)),
        Reader("run.json", record_bytes, read_a_record, (in_json,), (_with_more,)),
        Reader("completions.npz", _completions, read_completions, (in_npz,)),
        *(Reader(*row) for row in ROWS),
    )
}  # fmt: skip


def gltf_tree() -> dict[str, Any]:
    """The description of a sound glTF file with embedded data, to be changed."""
    return json.loads(mesh_bytes("gltf"))


def data_uri(content: bytes) -> str:
    return "data:application/octet-stream;base64," + base64.b64encode(content).decode()
