"""Files in FLAME's official layouts, and hostile ones, written opcode by opcode as Python 2 would have."""

import io
import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class Chumpy(NamedTuple):
    """An array that the file shall hold as a chumpy object."""

    array: np.ndarray


class Sparse(NamedTuple):
    """A matrix that the file shall hold as scipy's csc_matrix."""

    matrix: np.ndarray


class Selected(NamedTuple):
    """A chumpy selection a.ravel()[idxs].reshape(shape)."""

    array: np.ndarray
    index: np.ndarray
    shape: tuple[int, ...]


class Python2:
    """A writer of Python 2 pickles (protocol 2 in binary, or 0 in text), for the few types that FLAME's files hold."""

    def __init__(self, protocol: int = 2) -> None:
        self.binary = protocol == 2
        self.out = b"\x80\x02" if self.binary else b""

    def dumps(self, value: Any) -> bytes:
        self.put(value)
        return self.out + b"."

    def name(self, module: str, name: str) -> None:
        self.out += f"c{module}\n{name}\n".encode()

    def put(self, value: Any) -> None:
        if value is None:
            self.out += b"N"
        elif isinstance(value, bool):
            self.out += b"I01\n" if value else b"I00\n"
        elif isinstance(value, int):
            self.out += b"J" + struct.pack("<i", value) if self.binary else f"I{value}\n".encode()
        elif isinstance(value, str | bytes):
            self.string(value.encode("latin-1") if isinstance(value, str) else value)
        elif type(value) is tuple:
            self.out += b"("
            for item in value:
                self.put(item)
            self.out += b"t"
        elif isinstance(value, list):
            self.out += b"(l"
            for item in value:
                self.put(item)
                self.out += b"a"
        elif isinstance(value, dict):
            self.out += b"(d"
            for key, item in value.items():
                self.put(key)
                self.put(item)
                self.out += b"s"
        elif isinstance(value, np.ndarray):
            self.array(value)
        else:
            self.instance(value)

    def string(self, value: bytes) -> None:
        if not self.binary:
            # Python 2's repr: quotes and backslashes escaped, bytes outside ASCII as \xNN.
            self.out += b"S" + repr(value)[1:].encode("ascii") + b"\n"
        elif len(value) < 256:
            self.out += b"U" + bytes([len(value)]) + value
        else:
            self.out += b"T" + struct.pack("<i", len(value)) + value

    def array(self, value: np.ndarray) -> None:
        self.name("numpy.core.multiarray", "_reconstruct")
        self.out += b"("
        self.name("numpy", "ndarray")
        self.put((0,))
        self.put("b")
        self.out += b"tR"
        fortran = not value.flags.c_contiguous
        self.out += b"("
        self.put(1)
        self.put(value.shape)
        self.name("numpy", "dtype")
        self.put((value.dtype.str[1:], 0, 1))
        self.out += b"R"
        self.put((3, value.dtype.str[0], None, None, None, -1, -1, 0))
        self.out += b"b"
        self.put(fortran)
        self.put(value.tolist() if value.dtype == object else value.tobytes("F" if fortran else "C"))
        self.out += b"tb"

    def instance(self, value: Any) -> None:
        if isinstance(value, Sparse):
            self.object("scipy.sparse.csc", "csc_matrix", csc(value.matrix))
        elif isinstance(value, Chumpy):
            state = {"x": value.array, "_itr": None, "_make_dense": False, "_depends_on_deps": {}}
            self.object("chumpy.ch", "Ch", state, dirty=True)
        elif isinstance(value, Selected):
            state = {"a": Chumpy(value.array), "idxs": value.index, "preferred_shape": value.shape}
            self.object("chumpy.reordering", "Select", state)
        else:
            raise TypeError(type(value))

    def object(self, module: str, name: str, state: dict, *, dirty: bool = False) -> None:
        """A new-style object: NEWOBJ in the binary protocol, copy_reg._reconstructor in the text one."""
        if self.binary:
            self.name(module, name)
            self.out += b")\x81"
        else:
            self.name("copy_reg", "_reconstructor")
            self.out += b"("
            self.name(module, name)
            self.name("__builtin__", "object")
            self.out += b"NtR"
        self.put(state)
        if dirty:  # the set of names that chumpy keeps
            self.put("_dirty_vars")
            self.name("__builtin__", "set")
            self.put((["x"],))
            self.out += b"Rs"
        self.out += b"b"


def csc(matrix: np.ndarray) -> dict[str, Any]:
    """State of scipy's csc_matrix."""
    column, row = np.nonzero(matrix.T)
    starts = np.searchsorted(column, np.arange(matrix.shape[1] + 1)).astype(np.int32)
    state = {"format": "csc", "_shape": matrix.shape, "maxprint": 50}
    return state | {"data": matrix[row, column], "indices": row.astype(np.int32), "indptr": starts}


def small_flame(rng: np.random.Generator, identity: int = 24, expression: int = 13) -> dict[str, np.ndarray]:
    """A FLAME model of a hundred vertices, as plain float64 arrays under the official names."""
    from helpers import tiny_arrays

    head = tiny_arrays()
    vertices = len(head["template"])
    directions = np.linalg.qr(rng.normal(size=(vertices * 3, identity + expression)))[0]
    size = 0.05 / (1 + np.r_[np.arange(identity), np.arange(expression)])
    weights = head["skinning_weights"].astype(np.float64)
    regressor = head["joint_regressor"].astype(np.float64)
    return {
        "v_template": head["template"].astype(np.float64),
        "f": head["faces"].astype(np.uint32),
        "shapedirs": (directions * size).reshape(vertices, 3, -1),
        "posedirs": np.ascontiguousarray(head["pose_basis"].transpose(1, 2, 0).astype(np.float64)),
        "J_regressor": regressor / regressor.sum(1, keepdims=True),
        "weights": weights / weights.sum(1, keepdims=True),
        "kintree_table": np.array([[2**32 - 1, 0, 1, 1, 1], [0, 1, 2, 3, 4]], np.uint32),
    }


def official_pickle(model: dict[str, np.ndarray], protocol: int = 2) -> bytes:
    """The model as FLAME's releases hold it: chumpy arrays, a sparse regressor, Fortran order, things besides."""
    table: dict[str, Any] = dict(model)
    table["shapedirs"] = Chumpy(np.asfortranarray(model["shapedirs"]))
    table["v_template"] = Chumpy(model["v_template"])
    if "J_regressor" in model:
        table["J_regressor"] = Sparse(model["J_regressor"])
    return Python2(protocol).dumps(table | {"bs_style": "lbs", "bs_type": "lrotmin", "vert_sym_idxs": None})


def shared_flame(folder: Path) -> dict[str, np.ndarray]:
    """The real template, 60 shape components and joint regressor, with skinning weights and four expressions made up."""
    with np.load(folder / "flame2023_60.npz") as flame:
        template, shape = flame["v_template"].astype(np.float64), flame["shapedirs"].astype(np.float64)
        faces = flame["faces"].astype(np.uint32)
    with np.load(folder / "joint_regressor.npz") as joints:
        regressor = joints["joint_regressor"].astype(np.float64)
    with np.load(folder / "flame_masks.npz") as masks:
        regions = {name: masks[name] for name in masks.files}
    centre = regressor @ template
    weights = np.exp(-((np.linalg.norm(template[:, None] - centre[None], axis=2) / 0.06) ** 2))
    weights[:, 0] *= 0.5
    weights[:, 2] *= template[:, 1] < centre[2, 1] - 0.02
    weights[:, 3:] = 0
    for name, joint in (("left_eyeball", 3), ("right_eyeball", 4)):
        weights[regions[name]] = np.eye(5)[joint]
    # Expressions: smooth bumps on the lips and brows, made orthogonal to each other.
    bumps = []
    for number, name in enumerate(("lips", "nose", "forehead", "eye_region")):
        middle = template[regions[name]].mean(0)
        size = np.exp(-((np.linalg.norm(template - middle, axis=1) / 0.03) ** 2))
        bumps.append((size[:, None] * np.eye(3)[number % 3]).reshape(-1))
    bumps = np.linalg.qr(np.stack(bumps, 1))[0].reshape(-1, 3, 4)
    rng = np.random.default_rng(1)
    posedirs = 0.002 * np.linalg.qr(rng.normal(size=(template.size, 36)))[0].reshape(-1, 3, 36)
    return {
        "v_template": template,
        "f": faces,
        "shapedirs": np.concatenate([shape, 0.02 * bumps], axis=2),
        "posedirs": posedirs,
        "J_regressor": regressor / regressor.sum(1, keepdims=True),
        "weights": weights / weights.sum(1, keepdims=True),
        "kintree_table": np.array([[2**32 - 1, 0, 1, 1, 1], [0, 1, 2, 3, 4]], np.uint32),
    }


def object_npy(value: Any, *, protocol: int = 2) -> bytes:
    """A .npy file that holds one Python object, as `numpy.save` writes a dictionary."""
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (), }"
    header += b" " * (118 - len(header) - 1) + b"\n"
    array = np.empty((), object)
    array[()] = value
    state = np.array([None], object)
    state[0] = value
    writer = Python2(protocol)
    writer.array(state)
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + writer.out + b"."


def npy(array: np.ndarray) -> bytes:
    """A plain .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


class _Runs:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.made = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.made


def _named(module: str, name: str, argument: bytes = b"U\x02hi") -> bytes:
    """A pickle whose v_template is a call of module.name."""
    return b"\x80\x02}U\x0av_templatec" + f"{module}\n{name}\n".encode() + argument + b"\x85Rs."


def _array_ops(shape: str, payload: bytes, kind: str = "f8") -> bytes:
    """Opcodes of an array that declares a shape and holds some bytes."""
    return (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntU\x01btR"
        + f"(I1\n({shape}tcnumpy\ndtype\n(U\x02{kind}I0\nI1\ntR(I3\nU\x01<NNNI-1\nI-1\nI0\ntbI00\n".encode()
        + payload + b"tb"
    )  # fmt: skip


def _array(shape: str, payload: bytes, kind: str = "f8") -> bytes:
    """A pickle whose v_template is such an array."""
    return b"\x80\x02}U\x0av_template" + _array_ops(shape, payload, kind) + b"s."


def _npz(entries: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in entries.items():
            archive.writestr(f"{name}.npy", data)
    return buffer.getvalue()


def _npy_header(shape: str, descr: str = "<f8") -> bytes:
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (117 - len(header)) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header


def hostile_files(witness: Path) -> dict[str, tuple[bytes, str]]:
    """Hostile files by name: bytes, and what the refusal must say. Any that runs leaves `witness` behind."""
    touch = f"touch {witness}"
    touched = f"open({str(witness)!r}, 'w')"
    bomb = b"\x80\x02]q\x00" + b"(h\x00h\x00h\x00h\x00tq\x00" * 60 + b"."
    megabyte = _array_ops("I125000\n", b"T" + struct.pack("<i", 10**6) + bytes(10**6))
    # One array under many names: little to read, much to write.
    aliases = b"\x80\x02}U\x0av_template" + megabyte + b"q\x01s"
    aliases += b"".join(
        b"U" + bytes([len(k)]) + k + b"h\x01s" for k in (b"f", b"faces", b"shapedirs", b"posedirs", b"weights")
    )
    small = _array("I3\n", b"U\x18" + bytes(24))
    return {
        "os.system": (pickle.dumps({"v_template": _Runs(os.system, touch)}, 2), "'posix.system'"),
        "os.system, protocol 0": (pickle.dumps({"v_template": _Runs(os.system, touch)}, 0), "'posix.system'"),
        "os.system, protocol 4": (pickle.dumps({"v_template": _Runs(os.system, touch)}, 4), "'posix.system'"),
        "builtins.eval": (pickle.dumps({"v_template": _Runs(eval, touched)}, 3), "'builtins.eval'"),
        "__builtin__.eval": (_named("__builtin__", "eval"), "'__builtin__.eval'"),
        "exec": (_named("builtins", "exec"), "'builtins.exec'"),
        "getattr": (_named("__builtin__", "getattr"), "'__builtin__.getattr'"),
        "dotted name": (b"\x80\x04}\x8c\x01v\x8c\x05numpy\x8c\x0eos.path.system\x93)Rs.", "'numpy.os.path.system'"),
        "dotted dunder": (_named("numpy", "ndarray.__class__"), "'numpy.ndarray.__class__'"),
        "numpy.load": (_named("numpy", "load"), "'numpy.load'"),
        "runstring": (_named("numpy.testing._private.utils", "runstring"), "runstring'"),
        "subprocess": (_named("subprocess", "Popen"), "'subprocess.Popen'"),
        "nested pickle": (_named("_pickle", "loads"), "'_pickle.loads'"),
        "nested torch": (_named("torch.storage", "_load_from_bytes"), "'torch.storage._load_from_bytes'"),
        "chumpy, another name": (_named("chumpy.ch", "os"), "'chumpy.ch.os'"),
        "instance": (b"(ios\nsystem\n.", "INST"),
        "object opcode": (b"(cnumpy\nndarray\no.", "OBJ"),
        "extension 1": (b"\x80\x02\x82\x01.", "EXT1"),
        "extension 2": (b"\x80\x02\x83\x01\x00.", "EXT2"),
        "extension 4": (b"\x80\x02\x84\x01\x00\x00\x00.", "EXT4"),
        "persistent id": (b"Pname\n.", "PERSID"),
        "binary persistent id": (b"\x80\x02K\x01Q.", "BINPERSID"),
        "out-of-band buffer": (b"\x80\x05\x97.", "NEXT_BUFFER"),
        "calls a string": (b"\x80\x02U\x02hi)R.", "no name"),
        "memo bomb": (bomb, "no dictionary"),
        "huge memo index": (b"\x80\x02}r\xff\xff\xff\x7fj\xff\xff\xff\x7e.", "recalls"),
        "one array many times": (aliases + b".", "unpacks to more than"),
        "10 GB array": (_array("I1250000000\n", b"U\x08" + bytes(8)), "declares 10000000000 bytes and holds 8"),
        "10 GB string": (b"\x80\x04}\x8c\x01v\x8e" + struct.pack("<Q", 10**10) + b"abcs.", "cut short"),
        "negative string": (b"\x80\x02T\xff\xff\xff\xff.", "cut short"),
        "overflowing shape": (_array("I999999999999\nI999999999999\n", b"U\x08" + bytes(8)), "declares"),
        "negative shape": (_array("I-1\n", b"U\x08" + bytes(8)), "shape"),
        "array of objects": (_array("I1\n", b"(I1\nl", "O8"), "Python objects"),
        "array of texts": (_array("I1\n", b"U\x08" + bytes(8), "S8"), "type 'S8'"),
        "huge number": (b"\x80\x02\x8b\xff\xff\xff\x7f1.", "more than 16 bytes"),
        "long number in text": (b"L" + b"9" * 5000 + b"L\n.", "twenty digits"),
        "endless line": (b"S'" + b"a" * 5000, "cut short"),
        "truncated": (small[: len(small) // 2], "cut short"),
        "no pickle": (b"\xffnothing of the kind", "no pickle"),
        "empty stack": (b"\x80\x02s.", "not there"),
        "a list": (b"\x80\x02].", "no dictionary"),
        "zip bomb": (_npz({"v_template": _npy_header("(5000000,)") + bytes(40_000_000)}), "unpacks to more than"),
        "zip, 10 GB header": (_npz({"v_template": _npy_header("(1250000000,)") + bytes(80)}), "declares 10000000000 bytes"),
        "zip, objects": (_npz({"v_template": _npy_header("(1,)", "|O") + pickle.dumps(_Runs(os.system, touch))}), "objects"),
        "zip, deep header": (_npz({"v_template": _npy_header("(" * 300 + ")" * 300)}), "header can't be read"),
        "zip, lzma": (_npz({"v_template": npy(np.zeros((4, 3)))}, zipfile.ZIP_LZMA), "packed in a way"),
        "zip, truncated": (_npz({"v_template": npy(np.zeros((400, 3)))})[:-30], "can't be read"),
        "npy, object that runs": (_npy_header("()", "|O") + pickle.dumps(_Runs(os.system, touch)), "'posix.system'"),
        "npy, 10 GB": (_npy_header("(1250000000,)") + bytes(8), "declares 10000000000 bytes and holds 8"),
        "gzip": (b"\x1f\x8b\x08" + bytes(40), "gzip"),
        "safetensors, broken": (struct.pack("<Q", 12) + b'{"a": [1, 2}' + bytes(8), "(the header) is not JSON"),
        "empty": (b"", "is empty"),
    }  # fmt: skip
