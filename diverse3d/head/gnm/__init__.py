"""Google's GNM Head v3 (`gnm_head.npz`, Apache-2.0) → a head file; how to fetch it."""

from ._get import GNM as GNM
from ._get import Published as Published
from ._get import fetch_gnm as fetch_gnm
from ._import import import_gnm as import_gnm
