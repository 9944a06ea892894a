"""Stage 1: Observation → Fit."""

from ._appearance import Appearance as Appearance
from ._config import FitConfig as FitConfig
from ._costs import Weights as Weights
from ._crop import Crop as Crop
from ._crop import crop_face as crop_face
from ._fit import Fit as Fit
from ._fit import FitProblem as FitProblem
from ._fit import FitReport as FitReport
from ._fit import fit as fit
from ._fit import prepare as prepare
from ._fit import start_photo as start_photo
from ._noise import NoiseModel as NoiseModel
from ._noise import check_noise as check_noise
from ._noise import isotropic_noise as isotropic_noise
from ._noise import learn_noise as learn_noise
from ._noise import load_noise as load_noise
from ._noise import noise_arrays as noise_arrays
from ._photometric import PhotoProblem as PhotoProblem
from ._photometric import colours_first as colours_first
from ._photometric import fit_colours as fit_colours
from ._photometric import render_face as render_face
from ._photometric import rendered as rendered
from ._pixels import PixelUnknowns as PixelUnknowns
from ._state import Unknowns as Unknowns
from ._state import canonical as canonical
from ._state import rigid as rigid
