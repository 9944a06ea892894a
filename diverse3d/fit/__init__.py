"""Stage 1: Observation → Fit."""

from ._appearance import Appearance as Appearance
from ._costs import Weights as Weights
from ._fit import Fit as Fit
from ._fit import FitConfig as FitConfig
from ._fit import FitProblem as FitProblem
from ._fit import FitReport as FitReport
from ._fit import fit as fit
from ._fit import prepare as prepare
from ._noise import NoiseModel as NoiseModel
from ._noise import check_noise as check_noise
from ._noise import isotropic_noise as isotropic_noise
from ._noise import learn_noise as learn_noise
from ._noise import load_noise as load_noise
from ._noise import noise_arrays as noise_arrays
from ._state import Unknowns as Unknowns
from ._state import canonical as canonical
from ._state import rigid as rigid
