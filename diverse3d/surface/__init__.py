"""Triangle meshes and their pictures: graph, normals, rotations, cameras, light, colour, raster, atlas."""

from ._camera import Perspective as Perspective
from ._camera import WeakPerspective as WeakPerspective
from ._graph import uniform_laplacian as uniform_laplacian
from ._light import STUDIO_LIGHT as STUDIO_LIGHT
from ._light import harmonics as harmonics
from ._light import shade as shade
from ._raster import Fragments as Fragments
from ._raster import interpolate as interpolate
from ._raster import rasterise as rasterise
from ._raster import reweighed as reweighed
from ._rotation import rotation_matrix as rotation_matrix
from ._srgb import linear_from_srgb as linear_from_srgb
from ._srgb import srgb_from_linear as srgb_from_linear
from ._unwrap import unwrap as unwrap
from ._visible import facing_camera as facing_camera
from ._visible import vertex_normals as vertex_normals
