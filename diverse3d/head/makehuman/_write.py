"""Safetensors files that are the same byte for byte whenever their content is."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

_TYPES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "int32": "I32",
    "uint16": "U16",
    "uint8": "U8",
}


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file aside, then rename it into place.

    The library's own writer keeps its metadata in a hash map, in an order that differs from run to run;
    here all names are sorted.
    """
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))}
    chunks, end = [], 0
    # Widest type first, as the format advises, so that every array lies aligned.
    for name, value in sorted(tensors.items(), key=lambda item: (-item[1].dtype.itemsize, item[0])):
        data = np.ascontiguousarray(value).astype(value.dtype.newbyteorder("<"), copy=False).tobytes()
        kind = _TYPES[value.dtype.name]
        header[name] = {"dtype": kind, "shape": list(value.shape), "data_offsets": [end, end + len(data)]}
        chunks.append(data)
        end += len(data)
    text = json.dumps(header, ensure_ascii=True, separators=(",", ":")).encode("ascii")
    text += b" " * (-len(text) % 8)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        aside.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(chunks))
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
