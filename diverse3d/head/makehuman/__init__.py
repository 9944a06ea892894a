"""The builder of the embedded head: MakeHuman's CC0 data in, two safetensors files out; and its albedo."""

from .._palette import MOUTH as MOUTH
from ._albedo import build_albedo as build_albedo
from ._calibration import TABLE_NAME as TABLE_NAME
from ._calibration import Calibration as Calibration
from ._calibration import from_table as from_table
from ._calibration import spline as spline
from ._head import build_head as build_head
from ._mesh import HeadMesh as HeadMesh
from ._mesh import cut_head as cut_head
from ._morphs import Morphs as Morphs
from ._morphs import draw_morphs as draw_morphs
from ._source import WHEEL_NAME as WHEEL_NAME
from ._source import WHEEL_SHA256 as WHEEL_SHA256
from ._source import Source as Source
from ._source import fetch_wheel as fetch_wheel
