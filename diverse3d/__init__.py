"""One occluded face in, N plausible and diverse 3D heads out.

The data's way is one line: input → `Observation` → `Fit` → `Completions` → files. Lengths are metres unless a name says
otherwise; randomness takes an explicit `key`.
"""

from pathlib import Path as _Path

from ._api import Interpolation as Interpolation
from ._api import Result as Result
from ._api import complete as complete
from ._api import fit as fit
from ._api import interpolate as interpolate
from ._api import observe_photo as observe_photo
from ._errors import InputError as InputError
from ._optimise import RESULT_TEXT as RESULT_TEXT
from .diversify import METHODS as METHODS
from .diversify import SAMPLE_TEXT as SAMPLE_TEXT
from .diversify import Completions as Completions
from .diversify import DiversifyConfig as DiversifyConfig
from .fit import Fit as Fit
from .fit import FitConfig as FitConfig
from .fit import FitProblem as FitProblem
from .fit import NoiseModel as NoiseModel
from .fit import prepare as prepare
from .head import HeadModel as HeadModel
from .head import HeadParameters as HeadParameters
from .head import head_from_arrays as head_from_arrays
from .head import load_head as load_head
from .metrics import UNITS as UNITS
from .observe import REGIONS as REGIONS
from .observe import Observation as Observation
from .observe import observe_mesh as observe_mesh
from .surface import Perspective as Perspective
from .surface import WeakPerspective as WeakPerspective

__version__ = "0.1.0"

DEMO_PHOTO = _Path(__file__).parent / "assets" / "astronaut.png"
"""The bundled photo (NASA, public domain)."""
