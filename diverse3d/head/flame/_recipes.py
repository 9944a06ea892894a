"""From what a file declares to named arrays: where their bytes lie and how they are put together.

Standard library only, since it runs in the reading process. Nothing is computed here: a sparse matrix or a chumpy
object becomes a recipe of dense parts, which the program that asked for it puts together after checking them.
"""

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ._unpickle import Call, Global, Refused, shown, text

SIZES = {
    "b1": 1, "i1": 1, "u1": 1, "i2": 2, "u2": 2, "i4": 4, "u4": 4, "i8": 8, "u8": 8, "f2": 2, "f4": 4, "f8": 8,
}  # fmt: skip
"""Types that arrays may have."""

_DEPTH = 8


@dataclass(frozen=True)
class Dense:
    """An array's type, shape and order, and its bytes where they are at hand."""

    type: str
    """numpy's code with byte order, as `<f8`."""
    shape: tuple[int, ...]
    fortran: bool
    raw: Any = None

    @property
    def size(self) -> int:
        """Bytes that type and shape ask for."""
        count = SIZES[self.type[1:]]
        for extent in self.shape:
            count *= extent
        return count


@dataclass(frozen=True)
class Recipe:
    """How an array is put together: `dense`, `csc`, `csr`, `coo`, `select` or `reshape`, with its parts by name."""

    form: str
    parts: "Mapping[str, Dense | Recipe]"
    shape: tuple[int, ...] | None = None


def recipe(value: Any, depth: int = 0) -> Recipe | None:
    """The recipe of an unpickled value; None where it is no array. Raises `Refused` for one that is not sound."""
    if type(value) is not Call:
        return None
    kind = _class_of(value)
    if kind == "numpy.ndarray":
        return Recipe("dense", {"": _dense(value)})
    state = value.state
    if depth > _DEPTH:
        raise Refused("holds chumpy objects nested more than eight deep; FLAME's are not nested.")
    if kind.startswith("scipy.sparse.") and type(state) is dict:
        names = {
            "csc": ("data", "indices", "indptr"),
            "csr": ("data", "indices", "indptr"),
            "coo": ("data", "row", "col"),
        }
        form = kind.rsplit(".", 1)[1][:3]
        if form == "coo" and type(state.get("coords")) is tuple and len(state["coords"]) == 2:
            state = state | dict(zip(("row", "col"), state["coords"], strict=True))
        parts = {name: _part(state, name, depth) for name in names[form]}
        return Recipe(form, parts, _shape(state.get("_shape", state.get("shape"))))
    if kind.startswith("chumpy.") and type(state) is dict:
        if kind == "chumpy.ch.Ch":
            return recipe(state.get("x"), depth + 1)
        if kind == "chumpy.reordering.Reshape":
            shape = state.get("newshape")
            return Recipe("reshape", {"a": _part(state, "a", depth)}, _shape(shape, free=True))
        shape = state.get("preferred_shape")
        parts = {"a": _part(state, "a", depth), "idxs": _part(state, "idxs", depth)}
        return Recipe("select", parts, None if shape is None else _shape(shape, free=True))
    return None


def _part(state: dict[Any, Any], name: str, depth: int) -> Recipe:
    found = recipe(state.get(name), depth + 1)
    if found is None:
        raise Refused(f"is damaged: an object in its pickle has no array '{name}'.")
    return found


def _class_of(call: Call) -> str:
    """Name of the class that a call makes an object of; of what it calls otherwise."""
    makers = ("copy_reg._reconstructor", "copyreg._reconstructor", "._reconstruct")
    if call.what.name.endswith(makers) and call.arguments and type(call.arguments[0]) is Global:
        return call.arguments[0].name
    return "numpy.ndarray" if call.what.name.endswith("._frombuffer") else call.what.name


def _dense(call: Call) -> Dense:
    if call.what.name.endswith("._frombuffer"):
        if len(call.arguments) != 4:
            raise Refused("is damaged: an array in its pickle is not whole.")
        raw, type_, shape, order = call.arguments
        fortran = text(order) == "F"
    else:
        if type(call.state) is not tuple or len(call.state) != 5:
            raise Refused("is damaged: an array in its pickle is not whole.")
        _, shape, type_, fortran, raw = call.state
    if type(raw) is Call and raw.what.name == "_codecs.encode" and raw.arguments and type(raw.arguments[0]) is str:
        try:
            raw = raw.arguments[0].encode("latin-1")
        except UnicodeEncodeError:
            raise Refused("is damaged: an array's bytes in its pickle are none.") from None
    array = Dense(_type(type_), _shape(shape), bool(fortran), raw)
    if not isinstance(raw, bytes | memoryview) or len(raw) != array.size:
        held = f"holds {len(raw)}" if isinstance(raw, bytes | memoryview) else "holds none"
        raise Refused(f"is damaged: an array declares {array.size} bytes and {held}.")
    return array


def _type(value: Any) -> str:
    """numpy's code of a pickled type, with its byte order."""
    if type(value) is not Call or value.what.name != "numpy.dtype" or not value.arguments:
        raise Refused("is damaged: an array in its pickle has no type.")
    code, order = text(value.arguments[0]), "<"
    if type(value.state) is tuple and len(value.state) > 1:
        order = text(value.state[1])
    return _known(order, code)


def _known(order: str, code: str) -> str:
    if code.startswith("O"):
        raise Refused("holds an array of Python objects where numbers are needed; it was not read.")
    if code not in SIZES:
        raise Refused(f"holds an array of type '{shown(code)}'; whole and floating-point numbers are needed.")
    return (">" if order == ">" else "<") + code


def _shape(value: Any, *, free: bool = False) -> tuple[int, ...]:
    """A shape; with `free`, one extent may be -1."""
    value = (value,) if type(value) is int else value
    lowest = -1 if free else 0
    if type(value) not in (tuple, list) or len(value) > 8:
        raise Refused("is damaged: an array has no shape.")
    if any(type(extent) is not int or not lowest <= extent < 1 << 40 for extent in value):
        raise Refused("is damaged: an array's shape is no list of sizes.")
    return tuple(value)


def npy_header(data: bytes) -> tuple[Dense | None, int]:
    """Type and shape that a .npy file's first bytes declare (None for an array of objects), and where its data begin.

    Raises `Refused` for anything but a plain header.
    """
    if data[:6] != b"\x93NUMPY" or len(data) < 12 or data[6] not in (1, 2, 3):
        raise Refused("holds something that is no numpy array.")
    wide = data[6] > 1
    length = int.from_bytes(data[8 : 12 if wide else 10], "little")
    start = (12 if wide else 10) + length
    if length > 10_000 or len(data) < start:
        raise Refused("is damaged: an array's header is not whole.")
    try:
        header = ast.literal_eval(data[start - length : start].decode("latin-1").strip())
        code, fortran, shape = (header[key] for key in ("descr", "fortran_order", "shape"))
    except (ValueError, SyntaxError, TypeError, KeyError, RecursionError, MemoryError):
        raise Refused("is damaged: an array's header can't be read.") from None
    if type(code) is not str:
        raise Refused("holds an array of records; whole and floating-point numbers are needed.")
    if code.lstrip("|") == "O":
        return None, start
    order = code[0] if code[:1] in "<>|=" else "<"
    return Dense(_known(order, code.lstrip("<>|=")), _shape(shape), bool(fortran)), start


def object_table(value: Any) -> Any:
    """The one dictionary in an array of objects, which is how `numpy.save` writes it."""
    state = value.state if type(value) is Call and _class_of(value) == "numpy.ndarray" else None
    items = state[4] if type(state) is tuple and len(state) == 5 else None
    if type(items) is not list or len(items) != 1 or type(items[0]) is not dict:
        raise Refused("holds an array of Python objects that is no single dictionary; it was not read.")
    return items[0]
