"""Reads arrays, makes products and solutions of many small systems at once: the linear algebra of `newton`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Codes = NDArray[np.intp]

LARGEST_STEP = 2.0  # in log odds: keeps early steps of strong effects from overshooting
NOTHING = 1e-9  # information below which a column says nothing
NEAR, MAX_GRADIENTS = 1e-9, 100  # of conjugate gradients: relative size of what is left; steps
BLOCK_CELLS = 2_000_000  # cells of the pairwise design products held at once (16 MB)


def expit(eta: Floats) -> Floats:
    """Logistic function, safe for large arguments."""
    odds = np.negative(eta)
    with np.errstate(over="ignore"):  # an infinite number of odds against is a probability of nought
        np.exp(odds, out=odds)
    odds += 1
    return np.reciprocal(odds, out=odds)


def invert(matrix: Floats) -> Floats:
    """Inverse; the pseudo-inverse where columns repeat each other."""
    try:
        inverse = np.linalg.inv(matrix)
    except np.linalg.LinAlgError:
        return np.linalg.pinv(matrix, hermitian=True)
    return inverse if np.abs(inverse).max() < 1e8 else np.linalg.pinv(matrix, hermitian=True)


def sum_by_cluster(rows: Floats, codes: Codes) -> Floats:
    """Sums of rows by cluster."""
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    return np.add.reduceat(rows[order], starts, axis=0)


def correction(groups: int, n: int, parameters: int) -> float:
    """Finite-sample factor of the cluster-robust covariance (as statsmodels and Stata use it)."""
    return groups / (groups - 1) * (n - 1) / max(n - parameters, 1) if groups > 1 else np.nan


def gram(z: Floats, weight: Floats) -> Floats:
    """Z' diag(w) Z for weights of nought or more; a matrix times its own transpose takes half the arithmetic."""
    root = z * np.sqrt(weight)[:, None]
    return root.T @ root


def solve_like(inverse: Floats, z: Floats, weight: Floats, penalty: Floats, right: Floats, twins: Codes) -> Floats:
    """Solutions X of (Z' diag(w_j) Z + penalty) X = right for every column w_j, without forming any of these matrices.

    Conjugate gradients, preconditioned by the `inverse` of a matrix that all of them resemble. `right` and the result are
    (k, p, candidates); row `twins[j]` of candidate j is left out and stays 0. A column that does not settle within
    MAX_GRADIENTS steps is solved from its matrix.
    """
    k, p, m = right.shape
    columns, twins = right.transpose(1, 0, 2).reshape(p, k * m), np.tile(twins, k)
    has = np.flatnonzero(twins >= 0)

    def times(v: Floats) -> Floats:
        inside = (z @ v).reshape(len(z), k, m)
        inside *= weight[:, None, :]
        product = z.T @ inside.reshape(len(z), k * m) + penalty[:, None] * v
        product[twins[has], has] = 0
        return product

    x = np.zeros_like(columns)
    rest = columns.copy()
    turned = without_twin(inverse, rest, twins)
    turned[twins[has], has] = 0
    direction, size = turned.copy(), np.einsum("ij,ij->j", rest, turned)
    wanted = NEAR**2 * size
    for _ in range(MAX_GRADIENTS):
        product = times(direction)
        pace = size / np.maximum(np.einsum("ij,ij->j", direction, product), 1e-300)
        x += pace * direction
        rest -= pace * product
        turned = without_twin(inverse, rest, twins)
        turned[twins[has], has] = 0
        new = np.einsum("ij,ij->j", rest, turned)
        if (new <= wanted).all():
            break
        direction = turned + new / np.maximum(size, 1e-300) * direction
        size = new
    else:
        for j in np.flatnonzero(new > wanted):
            keep = np.arange(p) != twins[j]
            own = gram(z[:, keep], weight[:, j % m]) + np.diag(penalty[keep])
            x[keep, j] = np.linalg.pinv(own, hermitian=True) @ columns[keep, j]
    return x.reshape(p, k, m).transpose(1, 0, 2)


def without_twin(inverse: Floats, columns: Floats, twins: Codes) -> Floats:
    """Inverse of the nuisance block times columns, the twin of each candidate taken out (a rank-one downdate)."""
    product = inverse @ columns
    has = np.flatnonzero(twins >= 0)
    t = twins[has]
    product[:, has] -= inverse[:, t] * (product[t, has] / inverse[t, t])
    return product


def pair_products(z: Floats) -> Floats:
    """Products of all pairs of columns, each pair once: (rows, p (p + 1) / 2)."""
    left, right = np.triu_indices(z.shape[1])
    return z[:, left] * z[:, right]


def weighted_products(z: Floats, weight: Floats, pairs: Floats | None = None) -> Floats:
    """Z' diag(w_j) Z for every column w_j: (candidates, p, p). `pairs`: the `pair_products` of z, where they were kept.

    Many candidates: from the products of pairs of columns, half the arithmetic. Few: one product each.
    """
    p = z.shape[1]
    if weight.shape[1] < p:
        return np.stack([(z * w[:, None]).T @ z for w in weight.T])
    left, right = np.triu_indices(p)
    if pairs is not None:
        flat = weight.T @ pairs
    else:
        flat = np.zeros((weight.shape[1], len(left)))
        size = max(1, BLOCK_CELLS // max(len(left), 1))
        for start in range(0, len(z), size):
            flat += weight[start : start + size].T @ pair_products(z[start : start + size])
    full = np.empty((weight.shape[1], p, p))
    full[:, left, right] = flat
    full[:, right, left] = flat
    return full


def products_of(own: Floats, weighted: list[Floats], ridge: Floats) -> Floats:
    """Sums of products of own columns with weighted ones, and the ridge: (candidates, q, q)."""
    q = len(own)
    information = np.empty((own.shape[2], q, q))
    for i in range(q):
        for j in range(i, q):
            information[:, i, j] = information[:, j, i] = np.einsum("ij,ij->j", weighted[i], own[j])
    index = np.arange(q)
    information[:, index, index] += ridge.T
    return information


def solve_many(matrices: Floats, right: Floats) -> Floats:
    """Batched solution; falls back to the pseudo-inverse where columns repeat each other."""
    try:
        solution = np.linalg.solve(matrices, right)
        if np.abs(solution).max(initial=0.0) < 1e8:
            return solution
    except np.linalg.LinAlgError:
        pass
    return np.linalg.pinv(matrices, hermitian=True) @ right


def solve_small(schur: Floats, right: Floats, largest: float = LARGEST_STEP) -> Floats:
    """Steps of the own coefficients, of at most `largest`; 0 where the column holds no information."""
    step = np.einsum("mqr,rm->qm", invert_small(schur), right)
    return step * np.minimum(1, largest / np.maximum(np.abs(step).max(axis=0), 1e-300))


def invert_small(schur: Floats) -> Floats:
    """Inverses of (candidates, q, q), q at most 2; a column without information (constant, or all zero) gets zeros."""
    first = schur[:, 0, 0]
    if schur.shape[1] == 1:
        return np.where(first > NOTHING, 1 / np.maximum(first, NOTHING), 0.0)[:, None, None]
    second, mixed = schur[:, 1, 1], schur[:, 0, 1]
    slope = np.where(second > NOTHING, mixed / np.maximum(second, NOTHING), 0.0)
    rest = first - slope * mixed
    top = np.where(rest > NOTHING, 1 / np.maximum(rest, NOTHING), 0.0)
    inverse = np.empty_like(schur)
    inverse[:, 0, 0] = top
    inverse[:, 0, 1] = inverse[:, 1, 0] = -slope * top
    inverse[:, 1, 1] = np.where(second > NOTHING, 1 / np.maximum(second, NOTHING), 0.0) + slope**2 * top
    return inverse
