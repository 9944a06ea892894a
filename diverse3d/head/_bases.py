"""Principal components of the population: identity, expression, and what regions add to a few of them."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

KEPT_VARIANCE = 0.9999
KEPT_IDENTITY = 0.999  # of identity, beside which the smooth residual says the rest
LARGEST_GLOBAL = 420
LARGEST_LOCAL = 40
KEPT_LOCAL_VARIANCE = 0.99
GLOBAL_BEFORE_LOCAL = 10  # identity and expression components that come before the regions, as in Dey and Boddeti 2022

# Overlapping regions add, so each is fitted to what the ones before it left over: large ones first.
LOCAL_ORDER = [
    "face",
    "scalp",
    "left_ear",
    "right_ear",
    "forehead",
    "eye_region",
    "nose",
    "lips",
    "left_eye_region",
    "right_eye_region",
    "left_eyeball",
    "right_eyeball",
]


class Basis(NamedTuple):
    """Orthonormal directions of the flattened [n·3] offsets with their standard deviations."""

    directions: np.ndarray  # float64 [K, n·3]
    deviations: np.ndarray  # float64 [K], metres
    total_variance: float  # square metres, of all components together

    @property
    def components(self) -> np.ndarray:
        """[K, n·3] metres a standard deviation."""
        return self.directions * self.deviations[:, None]

    def kept(self) -> np.ndarray:
        """Share of the variance that the first k components keep, for k = 1 … K."""
        return np.cumsum(self.deviations**2) / self.total_variance

    def first(self, count: int) -> "Basis":
        """The first `count` components."""
        return Basis(self.directions[:count], self.deviations[:count], self.total_variance)


def principal_components(offsets: np.ndarray, largest: int, share: float, seed: int = 0) -> Basis:
    """PCA of centred `offsets` [N, n·3] by randomised subspace iteration, cut at `share` of the variance."""
    total = float(np.einsum("ij,ij->", offsets, offsets, dtype=np.float64))
    width = min(largest + 40, *offsets.shape)
    probe = np.random.default_rng(seed).standard_normal((width, len(offsets))).astype(np.float32)
    rows = probe @ offsets
    for _ in range(4):
        rows = np.linalg.qr(rows.T)[0].T
        rows = (rows @ offsets.T) @ offsets
    rows = np.linalg.qr(rows.T.astype(np.float64))[0].T
    scores = (offsets @ rows.T.astype(np.float32)).astype(np.float64)
    values, vectors = np.linalg.eigh(scores.T @ scores)
    values, vectors = values[::-1].clip(0), vectors[:, ::-1]
    count = min(int(np.searchsorted(np.cumsum(values), share * total)) + 1, largest, len(values))
    directions = vectors[:, :count].T @ rows
    sign = np.sign(directions[np.arange(count), np.abs(directions).argmax(axis=1)])
    return Basis(directions * sign[:, None], np.sqrt(values[:count] / len(offsets)), total / len(offsets))


def principal_axes(rows: np.ndarray, share: float) -> Basis:
    """The principal axes of rows [n, m] whose squares add up to a covariance, cut at `share` of its trace; exact."""
    values, vectors = np.linalg.eigh(rows @ rows.T)
    values, vectors = values[::-1].clip(0), vectors[:, ::-1]
    count = int(np.searchsorted(np.cumsum(values), share * values.sum())) + 1
    deviations = np.sqrt(values[:count])
    directions = (vectors[:, :count].T @ rows) / deviations[:, None]
    sign = np.sign(directions[np.arange(count), np.abs(directions).argmax(axis=1)])
    return Basis(directions * sign[:, None], deviations, float(values.sum()))


class LocalBasis(NamedTuple):
    """PCA of one region of the residual."""

    mean: np.ndarray  # [n, 3]
    basis: Basis


def local_bases(
    residual: np.ndarray, regions: Mapping[str, np.ndarray], names: Sequence[str] = LOCAL_ORDER
) -> dict[str, LocalBasis]:
    """One PCA a region, fitted one after the other; `residual` [N, V, 3] is reduced in place."""
    result = {}
    for name in names:
        vertices = regions[name]
        part = residual[:, vertices].reshape(len(residual), -1)
        mean = part.mean(axis=0, dtype=np.float64).astype(np.float32)
        part = part - mean
        basis = principal_components(part, LARGEST_LOCAL, KEPT_LOCAL_VARIANCE)
        directions = basis.directions.astype(np.float32)
        part -= (part @ directions.T) @ directions
        residual[:, vertices] = part.reshape(len(residual), -1, 3)
        result[name] = LocalBasis(mean.reshape(-1, 3), basis)
    return result


def halved(components: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Components [K, …] as half-precision shapes of largest magnitude 1, and those magnitudes [K]."""
    flat = components.reshape(len(components), -1)
    scale = np.abs(flat).max(axis=1).astype(np.float32)
    return (components / scale.reshape(-1, *[1] * (components.ndim - 1))).astype(np.float16), scale
