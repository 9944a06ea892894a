"""Which expression units are drawn together, and the named expressions made of them."""

from typing import NamedTuple

import numpy as np

# MakeHuman's own units that add something to the 51 ARKit-style ones.
EXTRA_UNITS = [
    "eyebrows-left-down",
    "eyebrows-left-extern-up",
    "eyebrows-left-inner-up",
    "eyebrows-left-up",
    "eyebrows-right-down",
    "eyebrows-right-extern-up",
    "eyebrows-right-inner-up",
    "eyebrows-right-up",
    "mouth-compression",
    "mouth-corner-puller",
    "mouth-depression",
    "mouth-depression-retraction",
    "mouth-elevation",
    "mouth-eversion",
    "mouth-parling",
    "mouth-part-later",
    "mouth-protusion",
    "mouth-pursing",
    "mouth-retraction",
    "mouth-upward-retraction",
    "neck-platysma",
    "nose-compression",
    "nose-depression",
    "nose-left-dilatation",
    "nose-right-dilatation",
]

# Units named in the sampler's rules.
_LIDS = ("eyeBlink", "eyeSquint", "eyeWide", "eyeLookDown", "cheekSquint")
COUPLED = ("jawOpen", "mouthClose", *(unit + side for unit in _LIDS for side in ("Left", "Right")))

# The two directions of one motion: group → (units of one direction, units of the other).
_MOTIONS = {
    "jaw sideways": (("jawLeft",), ("jawRight",)),
    "mouth sideways": (("mouthLeft",), ("mouthRight",)),
    "gaze sideways": (("eyeLookOutLeft", "eyeLookInRight"), ("eyeLookInLeft", "eyeLookOutRight")),
    "gaze up or down": (("eyeLookUpLeft", "eyeLookUpRight"), ("eyeLookDownLeft", "eyeLookDownRight")),
}

# Largest activation where it is not 1: strong combinations of these push the lips through each other.
_LIMITS = {name: 0.6 for name in EXTRA_UNITS if name.startswith("mouth")} | {
    "mouthRollUpper": 0.6,
    "mouthRollLower": 0.6,
    "mouthShrugUpper": 0.8,
    "neck-platysma": 0.7,
}

# Named expressions; "*" stands for Left and Right.
PROTOTYPES: dict[str, dict[str, float]] = {
    "smile": {"mouthSmile*": 0.8, "cheekSquint*": 0.5, "eyeSquint*": 0.3, "mouthDimple*": 0.2},
    "slight smile": {"mouthSmile*": 0.4, "mouthDimple*": 0.3},
    "grin": {"mouthSmile*": 0.7, "mouthUpperUp*": 0.6, "mouthLowerDown*": 0.6, "cheekSquint*": 0.3},
    "laugh": {
        "jawOpen": 0.5,
        "mouthSmile*": 0.9,
        "cheekSquint*": 0.7,
        "eyeSquint*": 0.4,
        "mouthUpperUp*": 0.4,
    },
    "frown": {"mouthFrown*": 0.8, "mouthShrugLower": 0.4, "browDown*": 0.4},
    "surprise": {
        "jawOpen": 0.6,
        "browInnerUp": 0.9,
        "browOuterUp*": 0.8,
        "eyeWide*": 0.8,
        "mouthFunnel": 0.2,
    },
    "anger": {"browDown*": 1.0, "noseSneer*": 0.6, "mouthPress*": 0.6, "eyeSquint*": 0.3, "jawForward": 0.3},
    "disgust": {
        "noseSneer*": 1.0,
        "mouthUpperUp*": 0.6,
        "browDown*": 0.5,
        "eyeSquint*": 0.5,
        "mouthFrown*": 0.4,
    },
    "fear": {"browInnerUp": 0.9, "eyeWide*": 0.8, "mouthStretch*": 0.8, "jawOpen": 0.25},
    "sad": {"browInnerUp": 0.8, "mouthFrown*": 0.7, "eyeLookDown*": 0.3, "mouthShrugLower": 0.3},
    "pucker": {"mouthPucker": 1.0, "mouthFunnel": 0.2},
    "kiss": {"mouthPucker": 0.8, "eyeBlink*": 1.0},
    "blink": {"eyeBlink*": 1.0},
    "sleepy": {"eyeBlink*": 0.5, "browInnerUp": 0.2},
    "yawn": {"jawOpen": 1.0, "eyeBlink*": 0.8, "mouthFunnel": 0.3, "browInnerUp": 0.4},
    "shout": {
        "jawOpen": 1.0,
        "mouthLowerDown*": 0.4,
        "mouthUpperUp*": 0.4,
        "browDown*": 0.5,
        "noseSneer*": 0.4,
    },
    "puff": {"cheekPuff": 1.0, "mouthPucker": 0.3},
    "squint": {"eyeSquint*": 1.0, "cheekSquint*": 0.8, "browDown*": 0.4},
    "contempt, left": {"mouthSmileLeft": 0.7, "mouthDimpleLeft": 0.6, "eyeSquintLeft": 0.3},
    "contempt, right": {"mouthSmileRight": 0.7, "mouthDimpleRight": 0.6, "eyeSquintRight": 0.3},
    "doubt, left": {"browOuterUpLeft": 0.9, "browDownRight": 0.6, "mouthLeft": 0.5},
    "doubt, right": {"browOuterUpRight": 0.9, "browDownLeft": 0.6, "mouthRight": 0.5},
    "glance left": {"eyeLookOutLeft": 0.8, "eyeLookInRight": 0.8},
    "glance right": {"eyeLookInLeft": 0.8, "eyeLookOutRight": 0.8},
    "look down": {"eyeLookDown*": 1.0},
    "look up": {"eyeLookUp*": 1.0, "browOuterUp*": 0.4},
    "saying ah": {"jawOpen": 0.4, "mouthLowerDown*": 0.2},
    "saying oh": {"mouthFunnel": 0.8, "jawOpen": 0.3},
    "saying oo": {"mouthPucker": 0.7, "mouthFunnel": 0.5, "jawOpen": 0.1},
    "saying ee": {"mouthStretch*": 0.6, "mouthSmile*": 0.3, "jawOpen": 0.12, "mouthLowerDown*": 0.3},
    "saying m": {"mouthPress*": 0.5, "mouthRollLower": 0.4, "mouthRollUpper": 0.3},
    "saying f": {"mouthRollLower": 0.5, "mouthUpperUp*": 0.4, "jawOpen": 0.08},
}


class Units(NamedTuple):
    """The sampler's tables over the expression units, one row a unit."""

    group: np.ndarray
    direction: np.ndarray
    side: np.ndarray
    limit: np.ndarray
    prototypes: np.ndarray
    couplings: dict[str, int]


def group_units(names: list[str]) -> Units:
    """Sort expression units into groups that act together, and spell the named expressions out over them."""
    motion = {u: (g, s) for g, pair in _MOTIONS.items() for s, units in zip((1, -1), pair, strict=True) for u in units}
    groups: dict[str, int] = {}
    rows = []
    for name in names:
        if name in motion:
            (stem, direction), side = motion[name], 0
        else:
            stem, side = _stem_and_side(name)
            direction = 0
        rows.append((groups.setdefault(stem, len(groups)), direction, side))
    group, direction_, side_ = (np.array(column) for column in zip(*rows, strict=True))
    prototypes = np.zeros((len(PROTOTYPES), len(names)), np.float32)
    for row, recipe in enumerate(PROTOTYPES.values()):
        for unit, level in recipe.items():
            for name in [unit.replace("*", "Left"), unit.replace("*", "Right")]:
                prototypes[row, names.index(name)] = level
    return Units(
        group=group.astype(np.int32),
        direction=direction_.astype(np.float32),
        side=side_.astype(np.float32),
        limit=np.array([_LIMITS.get(name, 1.0) for name in names], np.float32),
        prototypes=prototypes,
        couplings={name: names.index(name) for name in COUPLED},
    )


def _stem_and_side(name: str) -> tuple[str, int]:
    for left, right in (("Left", "Right"), ("-left-", "-right-")):
        if name.endswith(left) or (left[0] == "-" and left in name):
            return name.replace(left, "|"), 1
        if name.endswith(right) or (right[0] == "-" and right in name):
            return name.replace(right, "|"), -1
    return name, 0
