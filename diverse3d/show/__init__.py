"""Files and pictures: meshes, the contact sheet, the record of a run."""

from ..files import RECORD_NAME as RECORD_NAME
from ..files import check_target as check_target
from ..files import npz_bytes as npz_bytes
from ._animation import animated_glb_bytes as animated_glb_bytes
from ._colour import UNCERTAINTY_FULL_MM as UNCERTAINTY_FULL_MM
from ._colour import uncertainty_colours as uncertainty_colours
from ._glb import glb_bytes as glb_bytes
from ._glb import write_glb as write_glb
from ._path import PATH_RECORD_NAME as PATH_RECORD_NAME
from ._path import path_caption as path_caption
from ._path import save_path as save_path
from ._record import Run as Run
from ._record import completion_arrays as completion_arrays
from ._record import metrics_of as metrics_of
from ._record import save as save
from ._record import save_fit as save_fit
from ._record import versions as versions
from ._record import warnings_of as warnings_of
from ._render import Frame as Frame
from ._render import render_head as render_head
from ._sheet import contact_sheet as contact_sheet
from ._stages import Stages as Stages
from ._texture import Textures as Textures
from ._texture import textures as textures
