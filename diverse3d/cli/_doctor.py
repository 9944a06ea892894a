"""The command `doctor`: what is there and what is not."""

import dataclasses
import importlib.util
import platform
import sys
from pathlib import Path

from .._errors import InputError
from ._console import show_table
from ._options import Common

_ASSETS = Path(__file__).parents[1] / "assets"
_LANDMARK_MODELS = ("face_detection_short_range.tflite", "face_landmarks.tflite", "face_blendshapes.tflite")
_OPTIONAL = {
    "torch": "speed benchmark (pip install 'diverse3d[benchmark]')",
    "pytest": "tests (pip install 'diverse3d[dev]')",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Doctor(Common):
    """Versions, devices, memory, and which parts are there."""

    def run(self) -> int:
        """Print a table; 1 if something that every run needs is missing."""
        import jax

        from meshvae import free_memory_bytes

        from .. import METHODS, show
        from .._cache import compiled_folder

        rows: dict[str, str] = {**show.versions(), "system": f"{platform.system()} {platform.machine()}"}
        rows["devices"] = ", ".join(f"{device.platform} ({device.device_kind})" for device in jax.devices())
        rows["memory free"] = f"{free_memory_bytes() / 2**30:.1f} GiB"
        rows["compilation cache"] = str(compiled_folder() or "none (no folder of one's own for it)")
        rows["methods"] = ", ".join(METHODS)
        sound = True
        for name, check in {"head": _head, "population": _population, "landmark models": _landmark_models}.items():
            try:
                rows[name] = check()
            except (InputError, OSError, ImportError) as error:
                rows[name], sound = f"MISSING: {error}", False
        for module, purpose in _OPTIONAL.items():
            there = importlib.util.find_spec(module) is not None
            rows[f"optional: {module}"] = f"{'there' if there else 'not there'}: {purpose}"
        if not self.quiet:
            show_table(rows)
        elif not sound:
            print("diverse3d: something is missing; run doctor without --quiet", file=sys.stderr)
        return 0 if sound else 1


def _head() -> str:
    from ..head import load_head

    head = load_head()
    return f"{head.name}, {head.n_vertices} vertices, {head.n_components} components, sha256 {head.sha256}"


def _population() -> str:
    from ..head.population import load_population

    population = load_population()
    identity, expression = population.identity.shape[0], population.expression_offsets.shape[0]
    return f"{identity} components of identity and {expression} expression units"


def _landmark_models() -> str:
    import ai_edge_litert  # noqa: F401

    missing = [name for name in _LANDMARK_MODELS if not (_ASSETS / name).is_file()]
    if missing:
        raise InputError(f"{', '.join(missing)} not found in {_ASSETS}")
    return ", ".join(_LANDMARK_MODELS)
