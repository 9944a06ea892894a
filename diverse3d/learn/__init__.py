"""Training of a head's mesh VAEs (Dey and Boddeti 2022, supplement §2.2; the residual model is ours)."""

from ._bank import fill_bank as fill_bank
from ._bank import make_basis as make_basis
from ._components import ComponentSource as ComponentSource
from ._components import TrainedComponents as TrainedComponents
from ._components import behind as behind
from ._components import component_scores as component_scores
from ._components import component_views as component_views
from ._figures import component_figures as component_figures
from ._figures import masked_figures as masked_figures
from ._figures import occluder_masks as occluder_masks
from ._job import Data as Data
from ._job import folder_data as folder_data
from ._job import head_data as head_data
from ._job import population_data as population_data
from ._job import start_from as start_from
from ._job import train_components as train_components
from ._job import train_head as train_head
from ._residual import HeadCorrector as HeadCorrector
from ._residual import Linearised as Linearised
from ._residual import ResidualSource as ResidualSource
from ._residual import linearise as linearise
from ._residual import make_views as make_views
from ._views import region_masks as region_masks
