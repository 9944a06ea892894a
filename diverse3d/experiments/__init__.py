"""Experiments: every method on the same occluded heads, as tables, plots and statements that are computed."""

from ._cells import Bench as Bench
from ._cells import Record as Record
from ._cells import Run as Run
from ._environment import environment as environment
from ._findings import OVERALL as OVERALL
from ._findings import Findings as Findings
from ._findings import Table as Table
from ._findings import by_head as by_head
from ._findings import chosen as chosen
from ._findings import difference as difference
from ._measure import Plan as Plan
from ._measure import measure as measure
from ._measures import honesty as honesty
from ._page import write as write
from ._plots import drawing as drawing
from ._plots import style as style
from ._records import RecordStore as RecordStore
from ._subjects import Pictured as Pictured
from ._subjects import TrueHead as TrueHead
from ._subjects import drawn_heads as drawn_heads
from ._subjects import true_heads as true_heads
from ._suite import SUITES as SUITES
from ._suite import Options as Options
from ._suite import Suite as Suite
from ._suite import check as check
from ._suite import run as run
