"""Diversity and accuracy of a set of heads, as the method's release computes them, in millimetres.

Distances between two heads over a vertex set of n vertices are RMS: ‖S_i - S_j‖_F / √n.
"""

import numpy as np
from jaxtyping import Bool, Float
from scipy.spatial import cKDTree

MM = 1e3


def _distances(
    first: Float[np.ndarray, "N V 3"], second: Float[np.ndarray, "M V 3"], chosen: Bool[np.ndarray, " V"]
) -> Float[np.ndarray, "N M"]:
    """RMS distances in mm between every pair of two sets of heads, over the chosen vertices."""
    count = int(chosen.sum())
    if count == 0:
        return np.full((len(first), len(second)), np.nan)
    a = np.asarray(first, np.float64)[:, chosen].reshape(len(first), -1)
    b = np.asarray(second, np.float64)[:, chosen].reshape(len(second), -1)
    return np.stack([MM * np.sqrt(((row[None] - b) ** 2).sum(1) / count) for row in a])


def asd(vertices: Float[np.ndarray, "N V 3"], chosen: Bool[np.ndarray, " V"]) -> float:
    """Average self-distance: mean over samples of the distance to the nearest other one, in mm.

    Of Dey and Boddeti 2022, supplement §1.1. Over visible vertices this is ASD-V (low is good), over hidden ones ASD-O
    (high is good). A single sample has no other: 0. NaN when no vertex is chosen.
    """
    if not chosen.any():
        return float("nan")
    if len(vertices) < 2:
        return 0.0
    distance = _distances(vertices, vertices, chosen)
    np.fill_diagonal(distance, np.inf)
    return float(distance.min(1).mean())


def closest_sample_error(
    vertices: Float[np.ndarray, "N V 3"], truth: Float[np.ndarray, "V 3"], chosen: Bool[np.ndarray, " V"] | None = None
) -> float:
    """CSE: distance in mm from the truth to the closest sample, over all vertices or the chosen ones."""
    chosen = np.ones(len(truth), bool) if chosen is None else chosen
    return float(_distances(vertices, truth[None], chosen).min())


def visible_error(
    vertices: Float[np.ndarray, "N V 3"], held: Float[np.ndarray, "V 3"], visible: Bool[np.ndarray, " V"]
) -> float:
    """Mean over samples of the RMS distance in mm from what is visible. NaN when nothing is."""
    return float(_distances(vertices, held[None], visible).mean())


def energy_score(
    vertices: Float[np.ndarray, "N V 3"], truth: Float[np.ndarray, "V 3"], chosen: Bool[np.ndarray, " V"]
) -> float:
    """Energy score in mm (Gneiting & Raftery 2007): mean_i d(S_i, truth) - ½ mean_ij d(S_i, S_j); low is good.

    The set is scored as the distribution that it is: all pairs count, i = j included. It is proper: spread that the
    truth doesn't warrant costs as much as spread that is missing. For one sample it is that sample's error.
    """
    to_truth = _distances(vertices, truth[None], chosen).mean()
    return float(to_truth - 0.5 * _distances(vertices, vertices, chosen).mean())


def apd(vertices: Float[np.ndarray, "N V 3"], chosen: Bool[np.ndarray, " V"]) -> float:
    """Average pairwise distance (Yuan & Kitani 2020, DLow): mean over all pairs of samples, in mm.

    Unlike `asd` it also rewards a few clusters that lie far apart. NaN for a single sample or when no vertex is chosen.
    """
    count = len(vertices)
    if count < 2:
        return float("nan")
    return float(_distances(vertices, vertices, chosen).sum() / (count * (count - 1)))


def tmd(vertices: Float[np.ndarray, "N V 3"]) -> float:
    """Total mutual difference (Wu et al. 2020, multimodal shape completion): of whole heads, in mm.

    The sum over samples of the mean distance to all others. It grows with N, so it compares sets of one size only.
    Their chamfer distance is the RMS distance here, since vertices correspond. NaN for a single sample.
    """
    return len(vertices) * apd(vertices, np.ones(vertices.shape[1], bool))


def uhd(vertices: Float[np.ndarray, "N V 3"], points_m: Float[np.ndarray, "P 3"]) -> float:
    """Unidirectional Hausdorff distance (Wu et al. 2020) from what is visible to the completions, in mm.

    The largest distance of an input point (metres) to its nearest vertex of a completion, averaged over completions:
    the worst place of the visible part, where `visible_error` is its mean. NaN without points.
    """
    if not len(points_m):
        return float("nan")
    return float(MM * np.mean([cKDTree(sample).query(points_m)[0].max() for sample in vertices]))


def summary(
    vertices: Float[np.ndarray, "N V 3"],
    held: Float[np.ndarray, "V 3"],
    visible: Bool[np.ndarray, " V"],
    truth: Float[np.ndarray, "V 3"] | None = None,
) -> dict[str, float]:
    """All metrics of one set of completions, keyed as in `UNITS`; those that need a truth only where it is given.

    A metric that is not defined (nothing visible, nothing hidden, a ratio over zero) is NaN.
    """
    hidden = ~visible
    asd_v, asd_o = asd(vertices, visible), asd(vertices, hidden)
    result = {
        "asd_v": asd_v,
        "asd_o": asd_o,
        "ratio": asd_o / asd_v if asd_v > 0 else float("nan"),
        "visible_error": visible_error(vertices, held, visible),
    }
    if truth is not None:
        result["cse"] = closest_sample_error(vertices, truth)
        result["cse_occluded"] = closest_sample_error(vertices, truth, hidden)
        result["energy_score"] = energy_score(vertices, truth, hidden)
    return result
