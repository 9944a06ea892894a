"""Suite of mesh VAEs: whole heads from masked ones."""

from ._suite import run as run
