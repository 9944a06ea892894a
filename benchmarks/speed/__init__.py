"""Suite of speed: against PyTorch doing the same work, and plain seconds."""

from ._suite import run as run
