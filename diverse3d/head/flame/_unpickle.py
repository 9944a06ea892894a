"""Pickles read as data: nothing in them is ever imported, called or set. Standard library only.

Python's own unpickler runs what a file asks for. This one walks the same opcodes and builds inert records instead: a
global becomes its name, a call becomes the name with its arguments. Only names that official FLAME files hold are let
through; any other, and any opcode that such files have no use for, is refused by name.
"""

import codecs
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

_NUMPY = ("numpy.core.multiarray", "numpy._core.multiarray")
_NUMERIC = ("numpy.core.numeric", "numpy._core.numeric")
_SPARSE = tuple(f"scipy.sparse.{dot}{kind}.{kind}_matrix" for kind in ("csc", "csr", "coo") for dot in ("", "_"))

ALLOWED = frozenset(
    [
        *(f"{module}.{name}" for module in _NUMPY for name in ("_reconstruct", "scalar")),
        *(f"{module}._frombuffer" for module in _NUMERIC),
        "numpy.ndarray",
        "numpy.dtype",
        *_SPARSE,
        "chumpy.ch.Ch",
        "chumpy.reordering.Select",
        "chumpy.reordering.Reshape",
        # How Python 2 writes new-style objects and sets, and Python 3 bytes in old protocols.
        "copy_reg._reconstructor",
        "copyreg._reconstructor",
        "__builtin__.object",
        "builtins.object",
        "__builtin__.set",
        "builtins.set",
        "_codecs.encode",
    ]
)
"""Every global that a FLAME pickle may name; each is kept as a name."""

TENSORS = frozenset(["torch._utils._rebuild_tensor_v2", "torch.storage._load_from_bytes", "collections.OrderedDict"])
"""What PyTorch tensors in landmark files name: let through there, and never opened."""

MAX_STEPS = 2_000_000
"""Opcodes after which a pickle is refused; FLAME's have a few hundred."""


class Refused(Exception):
    """A file that is not read; the message completes "FILE …"."""


@dataclass(frozen=True)
class Global:
    """The name of something in a module; the thing itself is never looked up."""

    name: str


@dataclass
class Call:
    """A call that a pickle asks for, not made: what, with which arguments, and the state set on the result."""

    what: Global
    arguments: tuple[Any, ...]
    state: Any = None


@dataclass
class _Mark:
    """Where a group of values starts on the stack."""


@dataclass
class _Machine:
    data: memoryview
    allowed: frozenset[str]
    at: int = 0
    stack: list[Any] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)

    def take(self, count: int) -> memoryview:
        if count < 0 or self.at + count > len(self.data):
            raise Refused("is cut short: it declares more bytes than it holds.")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, layout: str) -> int:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def line(self) -> bytes:
        # No memoryview has `find`: look through growing pieces.
        end, piece = self.at, 256
        while end < len(self.data):
            chunk = bytes(self.data[end : end + piece])
            cut = chunk.find(b"\n")
            if cut >= 0:
                text = bytes(self.data[self.at : end + cut])
                self.at = end + cut + 1
                return text
            end, piece = end + piece, min(2 * piece, 1 << 20)
        raise Refused("is cut short: a line has no end.")

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        if not self.stack or isinstance(self.stack[-1], _Mark):
            raise Refused("is damaged: its pickle takes a value that is not there.")
        return self.stack.pop()

    def top(self, kind: type) -> Any:
        if not self.stack or type(self.stack[-1]) is not kind:
            raise Refused(f"is damaged: its pickle fills something that is no {kind.__name__}.")
        return self.stack[-1]

    def group(self) -> list[Any]:
        for start in range(len(self.stack) - 1, -1, -1):
            if isinstance(self.stack[start], _Mark):
                values = self.stack[start + 1 :]
                del self.stack[start:]
                return values
        raise Refused("is damaged: its pickle ends a group that it never began.")

    def find(self, module: Any, name: Any) -> Global:
        full = f"{text(module)}.{text(name)}"
        if full not in self.allowed:
            raise Refused(
                f"asks for '{shown(full)}', which no FLAME file needs; it was not read and nothing of it was run."
            )
        return Global(full)

    def call(self, what: Any, arguments: Any) -> Call:
        if type(what) is not Global or type(arguments) is not tuple:
            raise Refused("is damaged: its pickle calls something that is no name.")
        return Call(what, arguments)

    def build(self) -> None:
        state = self.pop()
        target = self.top(Call)
        if target.state is not None:
            raise Refused("is damaged: its pickle sets an object's state twice.")
        target.state = state

    def put(self, slot: int) -> None:
        if not self.stack:
            raise Refused("is damaged: its pickle remembers a value that is not there.")
        self.memo[slot] = self.stack[-1]

    def get(self, slot: int) -> Any:
        if slot not in self.memo:
            raise Refused("is damaged: its pickle recalls a value that it never stored.")
        return self.memo[slot]

    def fill(self, values: list[Any]) -> None:
        table = self.top(dict)
        if len(values) % 2:
            raise Refused("is damaged: its pickle has a key without a value.")
        for key, value in zip(values[::2], values[1::2], strict=True):
            table[key if type(key) is int else text(key)] = value


def text(value: Any) -> str:
    """A name or key: Python 2 wrote them as bytes."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes | memoryview) and len(value) <= 1000:
        return bytes(value).decode("latin-1")
    raise Refused("is damaged: a name in its pickle is no text.")


def shown(name: str) -> str:
    """A name from a file as it may be printed."""
    return name[:120].encode("unicode_escape").decode("ascii")


def read_pickle(data: Any, allowed: frozenset[str] = ALLOWED) -> Any:
    """What a pickle holds: dictionaries, lists, tuples, numbers and strings, with inert `Call`s for everything else.

    `data` is anything with a buffer, and byte strings are views of it. Raises `Refused` for a name outside `allowed`,
    for opcodes that reach outside the file (extension registry, persistent ids, buffers, classic instances), and for
    damage.
    """
    machine = _Machine(memoryview(data), allowed)
    for _ in range(MAX_STEPS):
        opcode = bytes(machine.take(1))
        if opcode == b".":
            return machine.pop()
        if opcode in _REFUSED:
            raise Refused(f"uses the pickle opcode {_REFUSED[opcode]}, which no FLAME file needs; it was not read.")
        if opcode not in _STEPS:
            raise Refused(f"is no pickle: it holds the byte 0x{opcode[0]:02x} where an opcode should be.")
        _STEPS[opcode](machine)
    raise Refused(f"holds a pickle of more than {MAX_STEPS} steps; FLAME's have a few hundred.")


_REFUSED = {
    b"\x82": "EXT1", b"\x83": "EXT2", b"\x84": "EXT4", b"P": "PERSID", b"Q": "BINPERSID", b"i": "INST", b"o": "OBJ",
    b"\x92": "NEWOBJ_EX", b"\x97": "NEXT_BUFFER", b"\x98": "READONLY_BUFFER",
}  # fmt: skip


def _string(machine: _Machine) -> bytes:
    """Python 2's repr of a byte string."""
    line = machine.line().strip()
    if len(line) < 2 or line[:1] not in (b"'", b'"') or line[-1:] != line[:1]:
        raise Refused("is damaged: a string in its pickle has no quotes.")
    try:
        return codecs.escape_decode(line[1:-1])[0]
    except ValueError:
        raise Refused("is damaged: a string in its pickle can't be decoded.") from None


def _integer(line: bytes) -> int | bool:
    if line in (b"00", b"01"):  # Python 2's way to say False and True
        return line == b"01"
    if len(line) > 24:
        raise Refused("holds a number of more than twenty digits; FLAME's have ten.")
    try:
        return int(line.rstrip(b"L"))
    except ValueError:
        raise Refused("is damaged: a number in its pickle is none.") from None


def _real(line: bytes) -> float:
    try:
        return float(line[:64])
    except ValueError:
        raise Refused("is damaged: a number in its pickle is none.") from None


def _long(machine: _Machine, count: int) -> int:
    if count > 16:
        raise Refused("holds a number of more than 16 bytes; FLAME's have four.")
    return int.from_bytes(machine.take(count), "little", signed=True)


def _unicode(raw: Any) -> str:
    try:
        return bytes(raw).decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        raise Refused("is damaged: a text in its pickle can't be decoded.") from None


def _escaped(line: bytes) -> str:
    try:
        return line.decode("raw-unicode-escape")
    except UnicodeDecodeError:
        raise Refused("is damaged: a text in its pickle can't be decoded.") from None


def _last(machine: _Machine, count: int) -> None:
    values = [machine.pop() for _ in range(count)]
    machine.push(tuple(reversed(values)))


def _reduce(machine: _Machine) -> None:
    arguments, what = machine.pop(), machine.pop()
    machine.push(machine.call(what, arguments))


def _stack_global(machine: _Machine) -> None:
    name, module = machine.pop(), machine.pop()
    machine.push(machine.find(module, name))


def _append(machine: _Machine) -> None:
    value = machine.pop()
    machine.top(list).append(value)


def _set_item(machine: _Machine) -> None:
    value, key = machine.pop(), machine.pop()
    machine.fill([key, value])


def _dict(machine: _Machine) -> None:
    values = machine.group()
    machine.push({})
    machine.fill(values)


def _pop_or_mark(machine: _Machine) -> None:
    if not machine.stack:
        raise Refused("is damaged: its pickle drops a value that is not there.")
    machine.stack.pop()


def _group_into(machine: _Machine) -> None:
    values = machine.group()
    machine.top(list).extend(values)


def _group_into_dict(machine: _Machine) -> None:
    values = machine.group()
    machine.fill(values)


_STEPS: dict[bytes, Callable[[_Machine], Any]] = {
    # Protocol, frames
    b"\x80": lambda m: m.take(1),
    b"\x95": lambda m: m.take(8),  # the length of a frame, which is read as it comes
    # Numbers
    b"N": lambda m: m.push(None),
    b"\x88": lambda m: m.push(True),
    b"\x89": lambda m: m.push(False),
    b"I": lambda m: m.push(_integer(m.line())),
    b"L": lambda m: m.push(_integer(m.line())),
    b"J": lambda m: m.push(m.number("<i")),
    b"K": lambda m: m.push(m.number("<B")),
    b"M": lambda m: m.push(m.number("<H")),
    b"\x8a": lambda m: m.push(_long(m, m.number("<B"))),
    b"\x8b": lambda m: m.push(_long(m, m.number("<i"))),
    b"F": lambda m: m.push(_real(m.line())),
    b"G": lambda m: m.push(struct.unpack(">d", m.take(8))[0]),
    # Strings: views of the file where it holds them as they are
    b"S": lambda m: m.push(_string(m)),
    b"T": lambda m: m.push(m.take(m.number("<i"))),
    b"U": lambda m: m.push(m.take(m.number("<B"))),
    b"B": lambda m: m.push(m.take(m.number("<I"))),
    b"C": lambda m: m.push(m.take(m.number("<B"))),
    b"\x8e": lambda m: m.push(m.take(m.number("<Q"))),
    b"\x96": lambda m: m.push(m.take(m.number("<Q"))),
    b"V": lambda m: m.push(_escaped(m.line())),
    b"X": lambda m: m.push(_unicode(m.take(m.number("<I")))),
    b"\x8c": lambda m: m.push(_unicode(m.take(m.number("<B")))),
    b"\x8d": lambda m: m.push(_unicode(m.take(m.number("<Q")))),
    # Containers; a set is kept as a list
    b"(": lambda m: m.push(_Mark()),
    b"0": _pop_or_mark,
    b"1": lambda m: m.group(),
    b"2": lambda m: m.stack.append(m.stack[-1]) if m.stack else m.pop(),
    b"]": lambda m: m.push([]),
    b"\x8f": lambda m: m.push([]),
    b"l": lambda m: m.push(m.group()),
    b"\x91": lambda m: m.push(m.group()),
    b"a": _append,
    b"e": _group_into,
    b"\x90": _group_into,
    b")": lambda m: m.push(()),
    b"t": lambda m: m.push(tuple(m.group())),
    b"\x85": lambda m: _last(m, 1),
    b"\x86": lambda m: _last(m, 2),
    b"\x87": lambda m: _last(m, 3),
    b"}": lambda m: m.push({}),
    b"d": _dict,
    b"s": _set_item,
    b"u": _group_into_dict,
    # Memory
    b"p": lambda m: m.put(int(_integer(m.line()))),
    b"q": lambda m: m.put(m.number("<B")),
    b"r": lambda m: m.put(m.number("<I")),
    b"\x94": lambda m: m.put(len(m.memo)),
    b"g": lambda m: m.push(m.get(int(_integer(m.line())))),
    b"h": lambda m: m.push(m.get(m.number("<B"))),
    b"j": lambda m: m.push(m.get(m.number("<I"))),
    # Names, and calls that are not made
    b"c": lambda m: m.push(m.find(m.line(), m.line())),
    b"\x93": _stack_global,
    b"R": _reduce,
    b"\x81": _reduce,
    b"b": lambda m: m.build(),
}
