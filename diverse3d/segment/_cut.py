"""A hard mask from log odds: the minimum cut of a grid, which holds like neighbours together."""

import numpy as np
from jaxtyping import Bool, Float
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, maximum_flow

_UNIT = 1000
"""Capacities are whole numbers: parts of a natural-log unit."""

_LARGEST = 20.0


def smooth_cut(
    odds: Float[np.ndarray, "H W"],
    image: Float[np.ndarray, "H W 3"],
    face: Bool[np.ndarray, "H W"],
    *,
    strength: float,
    contrast: float,
) -> Bool[np.ndarray, "H W"]:
    """Pixels of `face` that are hidden: the labelling of least energy.

    The energy is `odds` (natural log of hidden against seen) where a pixel is called seen, less it where hidden, and
    `strength` · exp(-‖colour difference‖² / 2 `contrast`²) for each pair of neighbours called differently, divided by
    their distance. Exact, by maximum flow.
    """
    count = int(face.sum())
    hidden = np.zeros(face.shape, bool)
    if count == 0:
        return hidden
    number = np.full(face.shape, -1)
    number[face] = np.arange(count)
    source, sink = count, count + 1
    starts, ends, capacities = [], [], []
    height, width = face.shape
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        here = np.s_[: height - down, max(-right, 0) : width - max(right, 0)]
        there = np.s_[down:, max(right, 0) : width + min(right, 0)]
        both = face[here] & face[there]
        square = ((image[here] - image[there]) ** 2).sum(axis=2)[both]
        pull = strength * np.exp(-0.5 * square / contrast**2) / np.hypot(down, right)
        a, b = number[here][both], number[there][both]
        starts += [a, b]
        ends += [b, a]
        capacities += [pull, pull]
    value = np.clip(odds[face], -_LARGEST, _LARGEST)
    every = np.arange(count)
    # Cut from the source means called seen, which costs the odds of being hidden.
    starts += [np.full(count, source), every]
    ends += [every, np.full(count, sink)]
    capacities += [np.maximum(value, 0.0), np.maximum(-value, 0.0)]
    whole = np.round(_UNIT * np.concatenate(capacities)).astype(np.int32)
    graph = csr_array((whole, (np.concatenate(starts), np.concatenate(ends))), shape=(count + 2, count + 2))
    flow = maximum_flow(graph, source, sink).flow
    left = graph - flow
    left.data[left.data < 0] = 0
    left.eliminate_zeros()
    reached = breadth_first_order(left, source, return_predecessors=False)
    label = np.zeros(count + 2, bool)
    label[reached] = True
    hidden[face] = label[:count]
    return hidden
