"""Partial pooling: closer to the truth than raw rates, honest intervals, no crown for a lucky small level."""

from __future__ import annotations

import numpy as np
import pytest

from icplab.core.stats.pooling import pool_estimates, pool_rates, steady_trials


def test_pooled_rates_are_closer_to_the_truth_than_raw_ones():
    rng = np.random.default_rng(21)
    raw, pooled, covered, winner, raw_winner = [], [], [], [], []
    for _ in range(60):
        trials, truth = rng.integers(20, 120, 12), rng.beta(0.25 * 150, 0.75 * 150, 12)
        wins = rng.binomial(trials, truth)
        table = pool_rates(wins, trials, ranks=False)
        raw.append((wins / trials - truth) ** 2)
        pooled.append((table["pooled"] - truth) ** 2)
        covered.append((table["pooled_low"] <= truth) & (truth <= table["pooled_high"]))
        best, lucky = int(table["pooled"].argmax()), int((wins / trials).argmax())
        winner.append(table["pooled"][best] - truth[best])
        raw_winner.append(wins[lucky] / trials[lucky] - truth[lucky])
    assert np.sqrt(np.mean(pooled) / np.mean(raw)) <= 0.65
    assert 0.92 <= np.mean(covered) <= 0.98
    assert abs(np.mean(winner)) <= 0.015
    assert np.mean(raw_winner) > 0.05


def test_a_lucky_tiny_level_does_not_win():
    # 5 of 8 beside a real 32 % on 150 and many levels at 20 %.
    wins = np.array([5, 48, *[20] * 10])
    trials = np.array([8, 150, *[100] * 10])
    table = pool_rates(wins, trials)
    assert int((wins / trials).argmax()) == 0
    assert int(table["p_best"].argmax()) == 1
    assert table["pooled"][0] < 0.40


def test_pooling_keeps_a_large_level_and_moves_a_small_one():
    table = pool_rates([300, 1], [1000, 10])
    assert table["pooled"][0] == pytest.approx(0.30, abs=0.01)
    assert 0.12 < table["pooled"][1] < 0.30


def test_a_level_without_trials_gets_the_population():
    table = pool_rates([30, 32, 0], [100, 100, 0])
    assert table["pooled"][2] == pytest.approx(0.31, abs=0.05)
    assert table["pooled_high"][2] - table["pooled_low"][2] > table["pooled_high"][0] - table["pooled_low"][0]


def test_probabilities_of_being_best_and_worst_add_up():
    table = pool_rates([10, 20, 30], [100, 100, 100])
    assert table["p_best"].sum() == pytest.approx(1)
    assert table["p_worst"].sum() == pytest.approx(1)
    assert table["p_best"].idxmax() == 2
    assert table["p_worst"].idxmax() == 0


def test_normal_pooling_equals_the_eight_schools():
    # Gelman et al. (2013), section 5.5, flat prior on the spread: posterior means about 11, 8, 6, 8, 5, 6, 10, 8.
    effects, errors = [28, 8, -3, 7, -1, 1, 18, 12], [15, 10, 16, 11, 9, 11, 10, 18]
    table = pool_estimates(effects, errors)
    np.testing.assert_allclose(table["pooled"], [11, 8, 6, 8, 5, 6, 10, 8], atol=1.5)
    assert int(table["p_best"].argmax()) == 0


def test_an_unknown_estimate_gets_the_population_and_one_level_nothing():
    table = pool_estimates([1.0, 1.2, np.nan], [0.1, 0.1, np.nan])
    assert table["pooled"][2] == pytest.approx(1.1, abs=0.1)
    assert pool_estimates([1.0], [0.1])["pooled"].isna().all()


def test_level_order_changes_nothing_but_the_order():
    wins, trials = np.array([3, 40, 100, 8]), np.array([10, 200, 300, 20])
    one, two = pool_rates(wins, trials), pool_rates(wins[::-1], trials[::-1])
    np.testing.assert_allclose(one["pooled"], two["pooled"][::-1], rtol=1e-9)


def test_a_level_of_few_families_takes_the_clustering_of_all_and_a_large_one_keeps_its_own():
    # 1,000 opportunities in 900 families with twice the variance of independent ones; 10 in 8 that look independent.
    rates, trials, units = np.array([0.2, 0.2]), np.array([1000.0, 10.0]), np.array([900.0, 8.0])
    steady = steady_trials(rates, 0.16 / trials * np.array([2.0, 1.0]), trials, units)
    common = (1000 * 2 + 10) / 1010
    np.testing.assert_allclose(steady, [1000 / (0.9 * 2 + 0.1 * common), 10 / (8 / 108 + 100 / 108 * common)])


def test_a_level_without_a_win_takes_the_clustering_of_all_levels():
    steady = steady_trials([0.25, 0.0], [0.25 * 0.75 / 100 * 3, 0.0], [100, 12], [100, 12])
    np.testing.assert_allclose(steady, [100 / 3, 4])
