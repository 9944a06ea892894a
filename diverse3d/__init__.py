"""One occluded face in, N plausible and diverse 3D heads out.

The data's way is one line: input → `Observation` → `Fit` → `Completions` → files. Lengths are metres unless a name says
otherwise; randomness takes an explicit `key`.

A name is imported when it is first used, so that `import diverse3d` and the command's help wait for nothing.
"""

import importlib as _importlib
import sys as _sys
import types as _types
from importlib.util import find_spec as _find_spec
from pathlib import Path as _Path
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

from ._cache import use_compilation_cache as _use_compilation_cache

if _TYPE_CHECKING:
    from ._api import Interpolation as Interpolation
    from ._api import Result as Result
    from ._api import complete as complete
    from ._api import fit as fit
    from ._api import interpolate as interpolate
    from ._api import observe_mesh as observe_mesh
    from ._api import observe_photo as observe_photo
    from ._api import observe_photos as observe_photos
    from ._api import observe_scan as observe_scan
    from ._api import pin as pin
    from ._errors import InputError as InputError
    from ._methods import METHODS as METHODS
    from ._methods import DiversifyConfig as DiversifyConfig
    from ._names import REGIONS as REGIONS
    from ._optimise import RESULT_TEXT as RESULT_TEXT
    from .diversify import SAMPLE_TEXT as SAMPLE_TEXT
    from .diversify import Completions as Completions
    from .fit import Fit as Fit
    from .fit import FitConfig as FitConfig
    from .fit import FitProblem as FitProblem
    from .fit import MeshFit as MeshFit
    from .fit import NoiseModel as NoiseModel
    from .fit import PhotoFit as PhotoFit
    from .fit import prepare as prepare
    from .head import HeadModel as HeadModel
    from .head import HeadParameters as HeadParameters
    from .head import head_from_arrays as head_from_arrays
    from .head import load_head as load_head
    from .metrics import UNITS as UNITS
    from .observe import MeshObservation as MeshObservation
    from .observe import Observation as Observation
    from .observe import PhotoObservation as PhotoObservation
    from .register import Registration as Registration
    from .register import ScanObservation as ScanObservation
    from .show import write_mesh as write_mesh
    from .surface import Perspective as Perspective
    from .surface import WeakPerspective as WeakPerspective

__version__ = "0.1.0"

DEMO_PHOTO = _Path(__file__).parent / "assets" / "astronaut.png"
"""The bundled photo (NASA, public domain)."""

_NAMES = {
    "_api": (
        "Interpolation",
        "Result",
        "complete",
        "fit",
        "interpolate",
        "observe_mesh",
        "observe_photo",
        "observe_photos",
        "observe_scan",
        "pin",
    ),
    "_errors": ("InputError",),
    "_methods": ("METHODS", "DiversifyConfig"),
    "_names": ("REGIONS",),
    "_optimise": ("RESULT_TEXT",),
    "diversify": ("SAMPLE_TEXT", "Completions"),
    "fit": ("Fit", "FitConfig", "FitProblem", "MeshFit", "NoiseModel", "PhotoFit", "prepare"),
    "head": ("HeadModel", "HeadParameters", "head_from_arrays", "load_head"),
    "metrics": ("UNITS",),
    "observe": ("MeshObservation", "Observation", "PhotoObservation"),
    "register": ("Registration", "ScanObservation"),
    "show": ("write_mesh",),
    "surface": ("Perspective", "WeakPerspective"),
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names}


class _Package(_types.ModuleType):
    def __getattr__(self, name: str) -> _Any:
        if name in _MODULES:
            value = getattr(_importlib.import_module(f".{_MODULES[name]}", __name__), name)
            setattr(self, name, value)
            if "jax" in _sys.modules:
                _use_compilation_cache()
            return value
        if not name.startswith("_") and _find_spec(f".{name}", __name__) is not None:
            return _importlib.import_module(f".{name}", __name__)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __setattr__(self, name: str, value: _Any) -> None:
        # Python binds a room when it is imported: `diverse3d.fit` stays the function.
        if not (name in _MODULES and isinstance(value, _types.ModuleType)):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *_MODULES})


_sys.modules[__name__].__class__ = _Package
