"""How diverse and how right a set of completions is."""

from ._metrics import UNITS as UNITS
from ._metrics import asd as asd
from ._metrics import closest_sample_error as closest_sample_error
from ._metrics import energy_score as energy_score
from ._metrics import summary as summary
from ._metrics import visible_error as visible_error
