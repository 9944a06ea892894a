"""USC's ICT-FaceKit Light (a folder of OBJ files, MIT) → a head file."""

from ._import import import_ict as import_ict
