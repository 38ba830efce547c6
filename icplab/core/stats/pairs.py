"""Reads yes/no columns and what a model leaves of an outcome, makes tests of all their pairs, judged against the best of chance.

Everything is a matrix product: sums over pairs are `A' diag(v) A`, and each permuted outcome is one more row of a product.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.floating]
GROUP, LEAST = 1000, 25  # families whose outcomes are exchanged with each other: at most, at least
BATCH = 2000  # rows multiplied at once


@dataclass(frozen=True)
class PairTests:
    """Tests of pairs (first, second: column numbers). `z`: score beyond both columns; `p_value`: of the largest |z| of all."""

    first: NDArray[np.intp]
    second: NDArray[np.intp]
    one_step: Floats
    z: Floats
    p_value: Floats
    largest: Floats
    """The largest |z| of each permutation, sorted."""


def measure_pairs(
    columns: ArrayLike,
    outcome: ArrayLike,
    expected: ArrayLike,
    families: ArrayLike,
    pairs: tuple[NDArray[np.intp], NDArray[np.intp]],
    *,
    permutations: int = 999,
    seed: int = 0,
) -> PairTests:
    """Whether two yes/no columns together go with the outcome beyond what each does, for every pair at once.

    Parameters
    ----------
    columns
        Rows by columns, 0 or 1.
    outcome, expected
        0/1 per row, and its probability under a model without pairs.
    families
        Label per row; outcomes of a family stay together when they are exchanged.
    pairs
        Column numbers of the pairs to test.
    permutations
        Times the outcomes are exchanged among families of like size and like expectation.

    Returns
    -------
    PairTests
        `one_step`: log odds beyond both columns, one Newton step from the model. `p_value` holds over all pairs together: the
        share of permutations (the data counted as one) whose largest |z| is at least as large.

    Notes
    -----
    Score tests given intercept and both columns. The null of the maximum keeps the dependence between pairs, which a
    correction by their number would throw away (Westfall and Young 1993, chapter 2).
    """
    a = np.ascontiguousarray(columns, dtype=np.float32)
    y, mu = (np.asarray(v, dtype=np.float64) for v in (outcome, expected))
    first, second = pairs
    if not len(first):
        nothing = np.zeros(0)
        return PairTests(first, second, nothing, nothing, nothing, nothing)
    helped, variance = _given_both(a, mu * (1 - mu), first, second)
    score = _scores(a, (y - mu)[None].astype(np.float32), first, second, helped)[0]
    z = score / np.sqrt(variance)
    largest = np.sort(_largest(a, y, mu, np.asarray(families), first, second, helped, variance, permutations, seed))
    above = len(largest) - np.searchsorted(largest, np.abs(z) * (1 - 1e-5), side="left")
    return PairTests(first, second, score / variance, z, (1 + above) / (1 + len(largest)), largest)


def _given_both(a: Floats, weight: Floats, first: NDArray, second: NDArray) -> tuple[Floats, Floats]:
    """What intercept and both columns explain of each pair (pairs x 3), and the information that is left."""
    table = (a.T * weight.astype(np.float32)) @ a
    both, one, other, total = table[first, second], table[first, first], table[second, second], weight.sum()
    gram = np.empty((len(first), 3, 3))
    gram[:, 0, 0] = total
    gram[:, 0, 1] = gram[:, 1, 0] = gram[:, 1, 1] = one
    gram[:, 0, 2] = gram[:, 2, 0] = gram[:, 2, 2] = other
    gram[:, 1, 2] = gram[:, 2, 1] = both
    gram += 1e-6 * np.eye(3)
    right = np.repeat(both.astype(np.float64)[:, None], 3, axis=1)
    helped = np.linalg.solve(gram, right[:, :, None])[:, :, 0]
    return helped, np.maximum(both - (right * helped).sum(axis=1), 1e-3)


def _scores(a: Floats, rest: Floats, first: NDArray, second: NDArray, helped: Floats) -> Floats:
    """Scores of pairs for each row of `rest` (outcomes less expectation): (rows of rest, pairs)."""
    together = np.zeros((len(rest), len(first)), dtype=np.float32)
    for start in range(0, len(a), BATCH):
        part = np.ascontiguousarray(a[start : start + BATCH].T)
        together += rest[:, start : start + BATCH] @ (part[first] * part[second]).T
    return _less(together, rest @ a, rest.sum(axis=1), first, second, helped)


def _less(together: Floats, single: Floats, total: Floats, first: NDArray, second: NDArray, helped: Floats) -> Floats:
    explained = total[:, None] * helped[:, 0] + single[:, first] * helped[:, 1] + single[:, second] * helped[:, 2]
    return together - explained


def _largest(
    a: Floats,
    y: Floats,
    mu: Floats,
    families: NDArray,
    first: NDArray,
    second: NDArray,
    helped: Floats,
    variance: Floats,
    permutations: int,
    seed: int,
) -> Floats:
    """The largest |z| over all pairs, for each exchange of outcomes."""
    rng = np.random.default_rng([seed, 404])
    together = np.zeros((permutations, len(first)), dtype=np.float32)
    single = np.zeros((permutations, a.shape[1]), dtype=np.float32)
    total = np.zeros(permutations, dtype=np.float32)
    for rows in _exchangeable(mu, families):
        order = np.argsort(rng.random((permutations, len(rows))), axis=1)
        rest = (y[rows][order] - mu[rows]).reshape(permutations, -1).astype(np.float32)
        part = np.ascontiguousarray(a[rows.ravel()].T)
        together += rest @ (part[first] * part[second]).T
        single += rest @ part.T
        total += rest.sum(axis=1)
    scores = _less(together, single, total, first, second, helped)
    return np.abs(scores / np.sqrt(variance)).max(axis=1).astype(np.float64)


def _exchangeable(mu: Floats, families: NDArray) -> list[NDArray[np.intp]]:
    """Row numbers (families x rows each) of groups of families that have as many rows and are expected to win as often."""
    _, codes, sizes = np.unique(families, return_inverse=True, return_counts=True)
    order = np.argsort(codes, kind="stable")
    starts = np.r_[0, np.cumsum(sizes)[:-1]]
    mean = np.add.reduceat(mu[order], starts) / sizes
    groups = []
    for size in np.unique(sizes):
        same = np.flatnonzero(sizes == size)
        same = same[np.argsort(mean[same], kind="stable")]
        width = int(np.clip(len(same) // 20, LEAST, max(GROUP // size, 1)))
        count = max(len(same) // width, 1)
        groups += [order[starts[part][:, None] + np.arange(size)] for part in np.array_split(same, count)]
    return groups
