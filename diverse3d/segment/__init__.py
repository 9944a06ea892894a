"""What hides a face, found in the photo itself."""

from ._find import UNSURE as UNSURE
from ._find import FoundOccluder as FoundOccluder
from ._find import find_occluder as find_occluder
