"""One occluded face in, N plausible and diverse 3D heads out."""

__version__ = "0.1.0"
