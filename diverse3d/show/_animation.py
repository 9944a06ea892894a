"""Moving heads: one GLB whose morph targets an animation plays, and a GIF; both go to the end and back."""

import io
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image

from ..files import GlbWriter
from ._glb import MATERIAL, add_surface, unit_normals

STEP_SECONDS = 0.25
"""Time from one head to the next in the GLB; a viewer draws what lies between."""

_HOLD_MS, _WALK_MS, _SLOWEST_MS, _FASTEST_MS = 700, 2000, 140, 40
"""Of the GIF, which shows the heads alone: each end, a whole way, and the bounds of a step."""


def animated_glb_bytes(
    vertices_m: Float[np.ndarray, "n V 3"],
    faces: Int[np.ndarray, "F 3"],
    colours: UInt8[np.ndarray, "V 3"],
    *,
    step_seconds: float = STEP_SECONDS,
) -> bytes:
    """Heads as one GLB: the first as the mesh, a morph target for each other one, and an animation of their weights.

    Vertices in metres in the order given, sRGB vertex colours. At any time at most two targets are at work, so that
    successive heads blend in a straight line. The same arrays always give the same bytes.
    """
    heads = np.asarray(vertices_m, np.float32)
    count = len(heads) - 1
    normals = np.stack([unit_normals(head, faces) for head in heads])
    file = GlbWriter()
    primitive = add_surface(file, heads[0], normals[0], faces, colours)
    primitive["targets"] = [
        {
            "POSITION": file.add(heads[k] - heads[0], "vertices", bounds=True),
            "NORMAL": file.add(normals[k] - normals[0], "vertices"),
        }
        for k in range(1, count + 1)
    ]
    shown = there_and_back(count + 1)
    times = (step_seconds * np.arange(len(shown))).astype(np.float32)
    weights = np.eye(count + 1, dtype=np.float32)[shown, 1:]
    sampler = {
        "input": file.add(times, bounds=True),
        "output": file.add(weights.reshape(-1)),
        "interpolation": "LINEAR",
    }
    names = [f"{k:02d}" for k in range(1, count + 1)]
    tree = {
        "nodes": [{"mesh": 0, "name": "head"}],
        "meshes": [{"primitives": [primitive], "weights": [0.0] * count, "extras": {"targetNames": names}}],
        "materials": [MATERIAL],
        "animations": [
            {
                "name": "path",
                "samplers": [sampler],
                "channels": [{"sampler": 0, "target": {"node": 0, "path": "weights"}}],
            }
        ],
    }
    return file.content(tree)


def gif_bytes(pictures: Sequence[UInt8[np.ndarray, "H W 3"]]) -> bytes:
    """Pictures as an endless GIF with one palette for all, so that what stands still does not flicker."""
    shown = [Image.fromarray(pictures[index]) for index in there_and_back(len(pictures))[:-1]]
    sample = np.concatenate([picture[::2, ::2] for picture in pictures])
    palette = Image.fromarray(sample).quantize(255, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    indexed = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in shown]
    step = 10 * round(min(max(_WALK_MS / (len(pictures) - 1), _FASTEST_MS), _SLOWEST_MS) / 10)
    durations = [_HOLD_MS if index in (0, len(pictures) - 1) else step for index in range(len(indexed))]
    content = io.BytesIO()
    indexed[0].save(
        content, "GIF", save_all=True, append_images=indexed[1:], duration=durations, loop=0, optimize=False
    )
    return content.getvalue()


def there_and_back(count: int) -> list[int]:
    """0, 1, … count - 1, … 1, 0."""
    return [*range(count), *range(count - 2, -1, -1)]
