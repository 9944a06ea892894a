"""Names that options choose from; nothing here needs jax, so that help texts can be made of them at once."""

REGIONS = ("glasses", "face-mask", "left-cheek", "mouth", "right-cheek", "centre", "eyes", "random")
"""What can be hidden of a face."""

STANDARD_REGIONS = ("glasses", "face-mask", "random")
"""Those that figures are measured behind, where none are named."""

NOISE_SIGMA_MM = {"exact": 0.1, "realistic": 1.0, "registered": 1.0, "photo": 2.0}
"""Noise settings, with the isotropic noise assumed of vertices where none was learnt for a head, in mm a coordinate; a
photo's own, `photo`, is that of its landmarks."""

EXPORT_FORMATS = ("glb", "ply", "obj", "stl", "npz")
"""Formats that heads are written in."""

EXPORT_RECORD_NAME = "export.json"
"""The file that marks a folder as exported heads."""

EXPORT_UNITS_M = {"m": 1.0, "cm": 0.01, "mm": 0.001}
"""Units that they are written in, in metres."""
