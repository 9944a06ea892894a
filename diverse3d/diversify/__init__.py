"""Stage 2: Fit → N completions."""

from . import dpp as dpp
from ._complete import believe as believe
from ._complete import complete as complete
from ._completions import SAMPLE_TEXT as SAMPLE_TEXT
from ._completions import Completions as Completions
from ._config import DiversifyConfig as DiversifyConfig
from ._gaussian import Posterior as Posterior
from ._gaussian import head_vertices as head_vertices
from ._gaussian import observed_vertices as observed_vertices
from ._gaussian import posterior as posterior
from ._gaussian import prior_root as prior_root
from ._methods import DEFAULT_METHOD as DEFAULT_METHOD
from ._methods import METHODS as METHODS
from ._methods import get_method as get_method
