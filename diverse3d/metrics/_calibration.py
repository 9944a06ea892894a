"""Whether the samples' spread is warranted: how often the truth lies inside the region that they claim."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float, Int

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Nominal contents of a calibration card."""

_HIGHEST_FLOOR = 0.5

Ranks = tuple[Int[np.ndarray, "n 3"], Int[np.ndarray, "n 3"]]


def coverage(
    vertices: Float[np.ndarray, "N V 3"],
    truth: Float[np.ndarray, "V 3"],
    chosen: Bool[np.ndarray, " V"],
    *,
    level: float = 0.9,
) -> float:
    """Share (0 to 1) of the chosen vertices' coordinates that lie inside the samples' central interval.

    If the truth is one more draw of the samples' distribution, its rank among the N samples is uniform over N + 1
    places, so the interval between the j-th lowest and the j-th highest sample holds it with probability
    1 - 2j / (N + 1), whatever the distribution: that is its exact nominal content. Between two such contents
    (j = 0 is the whole line) the shares observed are interpolated linearly, as in the non-randomised form of the rank
    histogram (Czado et al. 2009); ties count by halves. So samples and truth of one distribution give `level` in
    expectation at every N, without a bias for small N.
    Where `level` lies beyond the widest interval, (N - 1) / (N + 1), a part of the share is owed to the whole line:
    at 90 % even samples that always miss score 15 % for N = 16 and none from N = 19. NaN where that part is more than
    half (N < 9 at 90 %), and when no vertex is chosen.
    """
    return float(_shares(_ranks(vertices, truth, chosen), len(vertices), (level,))[0])


def calibration_card(
    vertices: Float[np.ndarray, "N V 3"],
    truth: Float[np.ndarray, "V 3"],
    chosen: Bool[np.ndarray, " V"],
    regions: Mapping[str, Int[np.ndarray, " n"]],
) -> dict[str, Float[np.ndarray, " L"]]:
    """Observed `coverage` at each of `LEVELS`: of all chosen vertices ("all"), and of each region's.

    Regions without a chosen vertex are left out. Of one face the shares scatter widely, since errors are shared by
    many vertices: average cards over subjects before reading them.
    """
    card = {}
    for name, members in {"all": np.arange(len(chosen)), **regions}.items():
        inside = np.zeros(len(chosen), bool)
        inside[members] = True
        if (inside & chosen).any():
            card[name] = _shares(_ranks(vertices, truth, inside & chosen), len(vertices), LEVELS)
    return card


def _ranks(vertices: np.ndarray, truth: np.ndarray, chosen: np.ndarray) -> Ranks:
    """Lowest and highest rank of the truth among the samples; they differ only in ties."""
    samples, true = np.asarray(vertices)[:, chosen], np.asarray(truth)[chosen]
    return (samples < true[None]).sum(0), (samples <= true[None]).sum(0)


def _shares(ranks: Ranks, count: int, levels: tuple[float, ...]) -> Float[np.ndarray, " L"]:
    lowest, highest = ranks
    places = np.arange(count + 1)
    depth = np.minimum(places, count - places)
    shares = []
    for level in levels:
        # The order statistic that the level asks for, a fraction: ranks at least as deep are inside.
        at = 0.5 * (1.0 - level) * (count + 1)
        if not lowest.size or 1.0 - at > _HIGHEST_FLOOR + 1e-9:
            shares.append(np.nan)
            continue
        inside = np.concatenate([[0.0], np.cumsum(np.clip(depth + 1.0 - at, 0.0, 1.0))])
        shares.append(((inside[highest + 1] - inside[lowest]) / (highest + 1 - lowest)).mean())
    return np.array(shares)
