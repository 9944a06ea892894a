"""Raw scan → a head in the head's topology, with a verdict."""

from ._landmarks import read_landmarks as read_landmarks
from ._observation import ScanObservation as ScanObservation
from ._observation import observed as observed
from ._register import UNITS_M as UNITS_M
from ._register import Registration as Registration
from ._register import register as register
from ._verdict import Figures as Figures
