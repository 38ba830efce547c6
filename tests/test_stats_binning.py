"""Optimal monotone bins: as good as the best of all, in one direction, within the limits."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from icplab.core.stats import binning
from icplab.core.stats.binning import monotone_bins


def information(x, y, edges) -> float:
    cell = np.searchsorted(edges, x, side="right")
    events = np.bincount(cell, y, len(edges) + 1)
    others = np.bincount(cell, minlength=len(edges) + 1) - events
    if (events == 0).any() or (others == 0).any():
        return -np.inf
    a, b = others / others.sum(), events / events.sum()
    return float(((b - a) * np.log(b / a)).sum())


def best_of_all(x, y, most: int, least: float) -> float:
    """Every set of edges between the distinct values tried."""
    best = 0.0
    values = np.unique(x)[1:]
    for k in range(1, most):
        for edges in itertools.combinations(values, k):
            cell = np.searchsorted(edges, x, side="right")
            size = np.bincount(cell, minlength=k + 1)
            rate = np.bincount(cell, y, k + 1) / size
            steps = np.diff(rate)
            if (size >= least * len(x)).all() and ((steps > 0).all() or (steps < 0).all()):
                best = max(best, information(x, y, np.array(edges)))
    return best


@pytest.mark.parametrize("seed", range(8))
def test_no_other_monotone_bins_tell_more(seed):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 12, 300).astype(float)
    y = (rng.random(300) < 0.2 + 0.05 * np.abs(x - rng.integers(0, 12))).astype(float)
    (found,) = monotone_bins([x], y, max_bins=4, min_share=0.08)
    assert found.information == pytest.approx(best_of_all(x, y, 4, 0.08))
    if found.edges:
        assert information(x, y, np.array(found.edges)) == pytest.approx(found.information)


def test_limits_are_kept_and_rates_go_one_way():
    rng = np.random.default_rng(1)
    columns = [rng.normal(size=5000), rng.lognormal(size=5000), np.round(rng.normal(size=5000))]
    y = (rng.random(5000) < 1 / (1 + np.exp(-columns[0] + 0.3 * columns[2]))).astype(float)
    for found in monotone_bins(columns, y, max_bins=5, min_share=0.1):
        assert len(found.rates) <= 5
        assert min(found.shares) >= 0.1
        steps = np.diff(found.rates)
        assert (steps > 0).all() or (steps < 0).all()


def test_unknown_values_count_in_no_bin_and_have_no_rate():
    x = np.array([1.0, 1, 1, 1, 2, 2, 2, 2, np.nan, np.nan])
    y = np.array([0.0, 0, 0, 1, 1, 1, 1, 0, 1, 1])
    (found,) = monotone_bins([x], y)
    assert (found.edges, found.rates, found.shares) == ((2.0,), (0.25, 0.75), (0.5, 0.5))
    assert found.rate_of([0.0, 2.0, np.nan]).tolist()[:2] == [0.25, 0.75]
    assert np.isnan(found.rate_of([np.nan])[0])


@pytest.mark.parametrize("x", [np.full(50, 3.0), np.full(50, np.nan), np.array([])])
def test_a_number_that_tells_nothing_has_no_bins(x):
    (found,) = monotone_bins([x], np.arange(len(x)) % 2)
    assert (found.edges, found.information) == ((), 0.0)
    assert monotone_bins([], np.array([])) == []


def test_a_weight_counts_like_so_many_rows_and_threads_change_nothing():
    rng = np.random.default_rng(3)
    x, y, w = rng.integers(0, 30, 500).astype(float), rng.integers(0, 2, 500).astype(float), rng.integers(1, 4, 500)
    (weighted,) = monotone_bins([x], y, w)
    (repeated,) = monotone_bins([np.repeat(x, w)], np.repeat(y, w))
    assert weighted.edges == repeated.edges
    assert weighted.information == pytest.approx(repeated.information)
    assert monotone_bins([x, -x], y, w, threads=2) == monotone_bins([x, -x], y, w)
    assert binning.PREBINS == 64
