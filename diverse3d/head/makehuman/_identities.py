"""MakeHuman's identity targets, paired into signed channels with a strength each."""

import re
from typing import NamedTuple

import numpy as np

FOLDERS = ("head", "forehead", "eyebrows", "eyes", "nose", "mouth", "ears", "cheek", "chin", "neck", "asym")

ETHNICITIES = ("caucasian", "asian", "african")
SEXES = ("female", "male")
AGES = ("child", "young", "old")
BUILDS = (  # body build, in the order in which the sampler draws it
    "minmuscle-minweight",
    "maxmuscle-minweight",
    "minmuscle-maxweight",
    "maxmuscle-maxweight",
)

# The two ends of one channel. What has no partner is one-sided.
_OPPOSITES = (
    ("incr", "decr"),
    ("up", "down"),
    ("out", "in"),
    ("forward", "backward"),
    ("convex", "concave"),
    ("compress", "uncompress"),
)

# Standard deviation of a target's activation, by the first pattern that its name matches; 1 is all of it.
_STRENGTHS = (
    (r"^head-trans", 0.0),  # moves the head, does not shape it
    (r"^asymm-", 0.0),  # trunk and breast
    (r"^asym-(top|temple)", 0.08),
    (r"^asym-", 0.15),
    (r"^neck-trans|measure-neck", 0.0),
    (r"^neck-double", 0.2),
    (r"^neck-", 0.12),
    (r"^head-age-", 0.4),
    (r"^head-angle-", 0.07),
    (r"^head-scale-", 0.15),
    (r"^head-back-scale", 0.10),
    (r"^head-(round|oval|square|rectangular|diamond|triangular|invertedtriangular)", 0.18),
    (r"^head-", 0.3),  # fat
    (r"^forehead-nubian", 0.05),
    (r"^forehead-scale-vert", 0.10),
    (r"^forehead-", 0.25),
    (r"^(nose|mouth)-trans-(in|out)$", 0.05),  # sideways: an asymmetry
    (r"-ear-", 0.25),
    (r"-eye-(push|scale)", 0.15),  # more, and the eyeballs come through the lids
    (r"-eye-", 0.25),
    (r"^eyebrows-", 0.3),
    (r"^nose-(point|hump|greek|nostrils|width|flaring)", 0.3),
    (r"^nose-", 0.2),
    (r"^mouth-(scale|trans)", 0.22),
    (r"^mouth-", 0.25),
    (r"^chin-", 0.25),
    (r"", 0.3),
)


_FOLDS = r"eye-bag|eyefold|laugh-lines|neck-double|dimples|head-age|chin-cleft"
"""Targets that fold skin or age it, whatever folder they lie in."""


class Channels(NamedTuple):
    """One row an identity target that is used."""

    name: list[str]
    channel: np.ndarray
    direction: np.ndarray
    side: np.ndarray
    strength: np.ndarray


def strength(name: str) -> float:
    """Standard deviation of the activation of an identity target."""
    return next(value for pattern, value in _STRENGTHS if re.search(pattern, name))


def group_of(name: str, folder: str) -> str:
    """The group that a target is weighed with: "folds", or its folder."""
    return "folds" if re.search(_FOLDS, name) else folder


def pair_targets(names: list[str]) -> Channels:
    """Give every target its channel: opposites share one with opposite signs, left and right share one."""
    channels: dict[str, int] = {}
    rows = []
    for name in names:
        if strength(name) == 0.0:
            continue
        stem, direction = _stem_and_direction(name)
        side = {"l-": 1, "r-": -1}.get(name[:2], 0)
        stem = stem[2:] if side else stem
        rows.append((name, channels.setdefault(stem, len(channels)), direction, side, strength(name)))
    name_, channel, direction_, side_, strength_ = zip(*rows, strict=True)
    return Channels(
        name=list(name_),
        channel=np.array(channel, np.int32),
        direction=np.array(direction_, np.float32),
        side=np.array(side_, np.float32),
        strength=np.array(strength_, np.float32),
    )


def _stem_and_direction(name: str) -> tuple[str, int]:
    if name.startswith("asym-"):  # "asym-nose-1-l" bends to one side, "…-r" to the other
        return name[:-2], 1 if name.endswith("-l") else -1
    for one, other in _OPPOSITES:
        for word, direction in ((one, 1), (other, -1)):
            if re.search(rf"-{word}(?=-|$)", name):
                return re.sub(rf"-{word}(?=-|$)", f"-{one}|{other}", name), direction
    return name, 1
