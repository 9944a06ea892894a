"""What hides a face, found in the photo itself."""

from ._compare import State as State
from ._compare import begin as begin
from ._compare import compare as compare
from ._compare import recolour as recolour
from ._features import Comparison as Comparison
from ._features import channels as channels
from ._features import grey as grey
from ._features import halved as halved
from ._find import UNSURE as UNSURE
from ._find import FoundOccluder as FoundOccluder
from ._find import find_occluder as find_occluder
from ._network import Segmenter as Segmenter
from ._network import new_segmenter as new_segmenter
from ._network import segmenter_arrays as segmenter_arrays
