"""Suite of raw scans whose true heads are known."""

from ._register import run as run

__all__ = ["run"]
