"""Looking at a result in the browser, and steering it: `diverse3d view`."""

from ._page import Page as Page
from ._serve import check_viser as check_viser
from ._serve import serve as serve
from ._shown import Shown as Shown
from ._shown import read_shown as read_shown
from ._steer import Steer as Steer
