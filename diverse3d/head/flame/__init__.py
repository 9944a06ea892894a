"""Official FLAME files in, safely; FLAME parameters in and out."""

from .._imported import Imported as Imported
from .._imported import write_head as write_head
from ._import import import_flame as import_flame
from ._parameters import FlameParameters as FlameParameters
from ._parameters import flame_parameters as flame_parameters
from ._parameters import is_flame as is_flame
from ._parameters import read_flame_parameters as read_flame_parameters
from ._parameters import write_flame_parameters as write_flame_parameters
from ._read import ImportLimits as ImportLimits
from ._read import read_arrays as read_arrays
