"""The 68 iBUG landmarks among mediapipe's 468 points, and what they mark.

Left and right are the person's, so in a frontal photo the right side is on the left of the picture.
"""

from types import MappingProxyType

# fmt: off
IBUG68_FROM_MEDIAPIPE: tuple[int, ...] = (
    127, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 356,  # jaw, from the right ear
    70, 63, 105, 66, 107,  # right brow, outer end first
    336, 296, 334, 293, 300,  # left brow, inner end first
    168, 197, 5, 4,  # bridge of the nose, downwards
    75, 97, 2, 326, 305,  # base of the nose
    33, 160, 158, 133, 153, 144,  # right eye, from the outer corner over the upper lid
    362, 385, 387, 263, 373, 380,  # left eye, from the inner corner over the upper lid
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181,  # outer lips, from the right corner over the upper lip
    78, 82, 13, 312, 308, 317, 14, 87,  # inner lips, likewise
)
# fmt: on
"""Index into mediapipe's 468 points for each of the 68."""

LANDMARK_GROUPS: MappingProxyType[str, tuple[int, ...]] = MappingProxyType(
    {
        "jaw": tuple(range(0, 17)),
        "right_brow": tuple(range(17, 22)),
        "left_brow": tuple(range(22, 27)),
        "nose_bridge": tuple(range(27, 31)),
        "nose_base": tuple(range(31, 36)),
        "right_eye": tuple(range(36, 42)),
        "left_eye": tuple(range(42, 48)),
        "outer_lips": tuple(range(48, 60)),
        "inner_lips": tuple(range(60, 68)),
    }
)
"""Which of the 68 (0-based) belong to which part of the face."""

MOUTH_CLOSURE_PAIRS: tuple[tuple[int, int], ...] = ((61, 67), (62, 66), (63, 65))
"""Pairs of the 68, one on the upper and one on the lower inner lip, that meet when the mouth is shut."""

EYE_CLOSURE_PAIRS: tuple[tuple[int, int], ...] = ((37, 41), (38, 40), (43, 47), (44, 46))
"""Pairs of the 68, one on the upper and one on the lower lid, that meet when the eyes are shut."""

# fmt: off
IBUG68_MIRRORED: tuple[int, ...] = (
    16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0,
    26, 25, 24, 23, 22, 21, 20, 19, 18, 17,
    27, 28, 29, 30, 35, 34, 33, 32, 31,
    45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40,
    54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55,
    64, 63, 62, 61, 60, 67, 66, 65,
)
# fmt: on
"""Point i of a face is point `IBUG68_MIRRORED[i]` of its mirror image."""
