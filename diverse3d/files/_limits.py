"""What reading a file may cost: every bound in one place, each raised or lowered by an environment variable."""

import dataclasses
import os
from pathlib import Path

from meshvae._errors import one_line as one_line

from .._errors import InputError

_PREFIX = "DIVERSE3D_MAX_"


@dataclasses.dataclass(frozen=True)
class Limits:
    """Bounds that every reader keeps, before it allocates; docs/limits.md is this table for people.

    The variable `DIVERSE3D_MAX_` + the field's name in capitals replaces a default.
    """

    image_bytes: int = 256 << 20
    """Size of a picture's file."""
    image_pixels: int = 100_000_000
    """Pixels that a picture declares: its width times its height, and that of one of its tiles."""
    image_scans: int = 200
    """Scans of a JPEG picture: each costs the time of a whole picture."""
    image_parts: int = 100_000
    """Segments of a JPEG, chunks of a PNG: each is gone over one by one."""
    mesh_bytes: int = 512 << 20
    """Size of a mesh's file, and what an .npz mesh or mask unpacks to."""
    mesh_elements: int = 5_000_000
    """Vertices, and triangles, that a mesh declares; and values of a mask."""
    text_bytes: int = 64 << 20
    """Size of a mesh or mask that is text, which is slow to read."""
    line_bytes: int = 1 << 20
    """Length of one line of such a text."""
    head_bytes: int = 1 << 30
    """Size of a head file."""
    head_vertices: int = 1_000_000
    """Vertices of a head."""
    head_joints: int = 256
    """Joints of a head."""
    result_bytes: int = 2 << 30
    """Size of a stored result's arrays, on the disk and unpacked."""
    archive_entries: int = 1000
    """Arrays of an .npz file."""
    json_bytes: int = 16 << 20
    """Size of a record, of a glTF file's description, or of a head file's header."""
    json_depth: int = 64
    """Lists and tables within one another in JSON."""
    json_values: int = 1_000_000
    """Values in JSON."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if getattr(self, field.name) < 1:
                raise InputError(f"The limit {field.name} is {getattr(self, field.name)}; it must be at least 1.")

    @classmethod
    def from_environment(cls) -> "Limits":
        """The defaults, with what the environment says instead; raises `InputError` for what is no whole number."""
        given = {}
        for field in dataclasses.fields(cls):
            variable = _PREFIX + field.name.upper()
            if text := os.environ.get(variable):
                if not text.strip().isdecimal() or len(text) > 18 or int(text) < 1:
                    raise InputError(f"{variable} is '{text}'; give a whole number of at least 1.")
                given[field.name] = int(text)
        return cls(**given)

    def exceeded(self, name: str, what: str) -> InputError:
        """The refusal of something beyond the limit `name`: `what` it is in words, the limit, and how to raise it."""
        value, unit = getattr(self, name), name.split("_")[-1]
        if unit == "bytes":
            bound = f"{value >> 20} MiB" if value >= 1 << 20 else f"{value} bytes"
        elif unit == "depth":
            bound = f"{value} levels"
        else:
            bound = f"{value / 1e6:.0f} million {unit}" if value >= 1_000_000 else f"{value} {unit}"
        return InputError(f"{what} than {bound}; if you trust it, raise {_PREFIX}{name.upper()} ({value}).")


def check_there(path: Path) -> None:
    """Raise `InputError` where there is no such file or folder, or none that can be looked at."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"There is no file {path}.") from None
    except (OSError, ValueError) as error:  # a name that is too long, a loop of links, a zero byte
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path} can't be read ({reason}); check the path and its permissions.") from None


def read_bytes(path: Path, limit: str, limits: Limits) -> bytes:
    """A file's content; raises `InputError` where there is no such file, it can't be read, or is beyond the limit."""
    check_there(path)
    try:
        if not path.is_file():
            raise InputError(f"{path} is not a file: give the path of one file.")
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > getattr(limits, limit):
                raise limits.exceeded(limit, f"{path} is refused unread: it is larger")
            return file.read(size)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{path} can't be read ({reason}); check the path and its permissions.") from None
