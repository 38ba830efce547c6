"""Statements on order equal what can be counted or integrated, and are modest where little is known."""

from __future__ import annotations

import numpy as np
import pytest

from icplab.core.stats.pooling import draw_estimates, draw_rates, pool_estimates, pool_rates
from icplab.core.stats.ranking import beats, rank_intervals


def test_ranks_and_pairs_of_four_draws_by_hand():
    draws = np.array([[3.0, 2.0, 1.0], [3.0, 1.0, 2.0], [1.0, 3.0, 2.0], [3.0, 2.0, 1.0]])
    ranks = rank_intervals(draws)
    assert ranks["p_best"].tolist() == [0.75, 0.25, 0.0]
    assert ranks["rank_low"].tolist() == [1, 1, 2]
    assert ranks["rank_high"].tolist() == [3, 3, 3]
    chance = beats(draws)
    assert chance[0, 1] == 0.75
    assert chance[1, 2] == 0.75
    assert np.isnan(chance[1, 1])


def test_drawn_chances_equal_the_integrated_ones():
    wins, closed = np.array([12, 30, 9, 40]), np.array([40, 120, 20, 200])
    exact = pool_rates(wins, closed)["p_best"].to_numpy()
    np.testing.assert_allclose(rank_intervals(draw_rates(wins, closed, 40_000, 1))["p_best"], exact, atol=0.015)
    logs, errors = np.array([9.0, 9.3, 9.1]), np.array([0.1, 0.2, 0.3])
    exact = pool_estimates(logs, errors)["p_best"].to_numpy()
    np.testing.assert_allclose(rank_intervals(draw_estimates(logs, errors, 40_000, 1))["p_best"], exact, atol=0.015)


def test_levels_without_difference_have_ranks_from_first_to_last():
    ranks = rank_intervals(draw_rates([10, 11, 9, 10, 10], [40] * 5, 8000, 2))
    assert (ranks["rank_low"] == 1).all()
    assert (ranks["rank_high"] == 5).all()
    assert ranks["p_best"].max() < 0.5


def test_draws_have_the_mean_of_the_pooled_estimate():
    wins, closed = [3, 30, 9], [4, 120, 20]
    pooled = pool_rates(wins, closed)["pooled"].to_numpy()
    assert draw_rates(wins, closed, 40_000, 3).mean(axis=0) == pytest.approx(pooled, abs=0.005)
    assert np.isnan(draw_estimates([1.0, np.nan], [0.1, 0.1], 5, 0)).all()
