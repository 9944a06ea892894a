"""Where mediapipe's 468 points and iBUG's 68 lie on a head, found by showing it to the landmark detector."""

from ._cast import Surface as Surface
from ._cast import cast as cast
from ._find import Found as Found
from ._find import Shown as Shown
from ._find import find_landmarks as find_landmarks
from ._find import locate as locate
from ._find import mirrored_points as mirrored_points
from ._find import snap as snap
from ._imported import drawn_heads as drawn_heads
from ._imported import find_for_import as find_for_import
from ._imported import surface_of as surface_of
