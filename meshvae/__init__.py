"""A variational autoencoder for any fixed mesh topology.

The package knows nothing of faces and never imports `diverse3d`. Its rooms are the hierarchy of pooling levels, two
families of mesh convolution behind one interface (spatially varying and spiral), the models and their training.
"""

from ._blocks import Block as Block
from ._blocks import Step as Step
from ._config import PRESETS as PRESETS
from ._config import ModelConfig as ModelConfig
from ._curves import draw_curves as draw_curves
from ._data import Examples as Examples
from ._data import MeshSource as MeshSource
from ._data import Source as Source
from ._data import from_array as from_array
from ._data import read_mesh as read_mesh
from ._data import read_meshes as read_meshes
from ._data import split_by_subject as split_by_subject
from ._errors import InputError as InputError
from ._hierarchy import Hierarchy as Hierarchy
from ._hierarchy import build_hierarchy as build_hierarchy
from ._hierarchy import hierarchy_arrays as hierarchy_arrays
from ._hierarchy import hierarchy_from_arrays as hierarchy_from_arrays
from ._hierarchy import topology_fingerprint as topology_fingerprint
from ._loss import Corrector as Corrector
from ._loss import LossConfig as LossConfig
from ._loss import Surface as Surface
from ._loss import Terms as Terms
from ._loss import make_surface as make_surface
from ._memory import check_memory as check_memory
from ._memory import estimate_bytes as estimate_bytes
from ._memory import free_memory_bytes as free_memory_bytes
from ._model import LOG_VARIANCE_BOUND as LOG_VARIANCE_BOUND
from ._model import Condition as Condition
from ._model import Gaussian as Gaussian
from ._model import MaskedVAE as MaskedVAE
from ._model import ResidualVAE as ResidualVAE
from ._model import count_parameters as count_parameters
from ._model import make_model as make_model
from ._pattern import LEAST_SHARE as LEAST_SHARE
from ._train import CollapsedError as CollapsedError
from ._train import Progress as Progress
from ._train import Result as Result
from ._train import State as State
from ._train import TrainConfig as TrainConfig
from ._train import make_optimiser as make_optimiser
from ._train import train as train
from ._train import train_step as train_step
from ._train import training_record as training_record
from ._train import validate as validate
from ._vcconv import VcConv as VcConv
from ._weights import Trained as Trained
from ._weights import load_model as load_model
from ._weights import save_model as save_model
