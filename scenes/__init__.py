"""Rendered photos of occluded faces with their truth: for training and for measuring, never for fitting."""

from ._overlay import WORN as WORN
from ._overlay import put_on as put_on
from ._scan import RawScan as RawScan
from ._scan import raw_scan as raw_scan
from ._scene import OCCLUDERS as OCCLUDERS
from ._scene import SIDE_PX as SIDE_PX
from ._scene import Scene as Scene
from ._scene import draw_scene as draw_scene
from ._scene import scenes as scenes
