"""The parametric head: linear components, skinning, regions; head files; the population it was learnt from."""

from ._albedo import Albedo as Albedo
from ._anatomy import view_centre as view_centre
from ._file import head_arrays as head_arrays
from ._file import head_from_arrays as head_from_arrays
from ._file import head_metadata as head_metadata
from ._file import load_head as load_head
from ._file import residual_of as residual_of
from ._model import HeadModel as HeadModel
from ._model import HeadParameters as HeadParameters
from ._model import LocalModel as LocalModel
from ._model import SurfacePoints as SurfacePoints
from ._points68 import triangles_sha256 as triangles_sha256
from ._prior import sample_head as sample_head
from ._residual import Residual as Residual
from ._residual import anchor_weights as anchor_weights
from ._residual import carried as carried
from ._residual import face_weight as face_weight
from ._residual import residual_fields as residual_fields
