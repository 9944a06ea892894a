"""sRGB colours that painted heads are made of."""

SKIN, CHEEK, LIPS, BROW = (222, 180, 156), (216, 156, 134), (190, 122, 112), (104, 80, 64)
SCLERA, IRIS, LIMBUS, PUPIL = (236, 232, 228), (104, 78, 52), (70, 52, 38), (18, 14, 14)
MOUTH, LID, SCALP = (92, 36, 34), (196, 132, 118), (200, 158, 134)
