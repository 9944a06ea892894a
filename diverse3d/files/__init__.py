"""Bounded readers and whole writers of every kind of file; nothing here knows of heads."""

from ._images import read_mask as read_mask
from ._images import read_photo as read_photo
from ._images import write_png as write_png
from ._json import json_text as json_text
from ._json import parse_json as parse_json
from ._json import read_json as read_json
from ._json import write_json as write_json
from ._limits import Limits as Limits
from ._limits import one_line as one_line
from ._limits import read_bytes as read_bytes
from ._npz import npz_bytes as npz_bytes
from ._npz import parse_npz as parse_npz
from ._npz import read_npy as read_npy
from ._npz import read_npz as read_npz
from ._safetensors import parse_safetensors as parse_safetensors
from ._safetensors import write_safetensors as write_safetensors
from ._whole import RECORD_NAME as RECORD_NAME
from ._whole import check_target as check_target
from ._whole import whole_file as whole_file
from ._whole import whole_folder as whole_folder
