"""The mesh as a graph."""

import numpy as np
import scipy.sparse as sparse
from jaxtyping import Int


def uniform_laplacian(faces: Int[np.ndarray, "F 3"], count: int) -> sparse.csr_matrix:
    """Mean of the neighbours less the vertex itself, as a sparse matrix."""
    row = np.concatenate([faces[:, [0, 1, 2]].ravel(), faces[:, [1, 2, 0]].ravel()])
    column = np.concatenate([faces[:, [1, 2, 0]].ravel(), faces[:, [0, 1, 2]].ravel()])
    adjacency = sparse.csr_matrix((np.ones(row.size), (row, column)), shape=(count, count))
    adjacency.data[:] = 1.0
    degree = np.asarray(adjacency.sum(1)).ravel()
    mean = sparse.diags(1.0 / np.maximum(degree, 1.0)) @ adjacency
    return sparse.csr_matrix(mean - sparse.diags((degree > 0).astype(float)))
