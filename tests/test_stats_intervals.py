"""Intervals equal published and independent ones, and cover what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats.proportion import proportion_confint

from icplab.core.stats.intervals import (
    bca,
    clustered_proportion,
    cox_mean,
    effective_trials,
    jeffreys,
    percentile,
    widened,
    wilson,
)
from icplab.core.stats.resample import draw_weights

COUNTS = np.array([0, 1, 10, 39, 40])


def test_wilson_equals_statsmodels():
    low, high = wilson(COUNTS, 40)
    expected = proportion_confint(COUNTS, 40, method="wilson")
    np.testing.assert_allclose(low, np.clip(expected[0], 0, 1), atol=1e-12)
    np.testing.assert_allclose(high, np.clip(expected[1], 0, 1), atol=1e-12)


def test_wilson_equals_the_published_example():
    # Newcombe (1998), Table I, method 3: 81 of 263 gives 0.2553 to 0.3662, 1 of 29 gives 0.0061 to 0.1718.
    low, high = wilson([81, 1], [263, 29])
    np.testing.assert_allclose(low, [0.2553, 0.0061], atol=5e-5)
    np.testing.assert_allclose(high, [0.3662, 0.1718], atol=5e-5)


def test_jeffreys_equals_statsmodels_except_at_the_ends():
    low, high = jeffreys(COUNTS, 40)
    expected = proportion_confint(COUNTS[1:-1], 40, method="jeffreys")
    np.testing.assert_allclose(low[1:-1], expected[0], rtol=1e-10)
    np.testing.assert_allclose(high[1:-1], expected[1], rtol=1e-10)
    assert low[0] == 0
    assert high[-1] == 1


def test_no_trials_give_no_interval():
    assert np.isnan(wilson(0, 0)[0])
    assert np.isnan(jeffreys(0, 0)[1])


def test_independent_trials_keep_their_number():
    assert effective_trials(0.3, 0.3 * 0.7 / 50, 50, 50) == pytest.approx(50)


def test_clustered_trials_count_for_less_and_never_for_more():
    assert effective_trials(0.3, 2 * 0.3 * 0.7 / 50, 50, 40) < 25
    assert effective_trials(0.3, 0.1 * 0.3 * 0.7 / 50, 50, 50) == 50


def test_without_any_success_each_family_counts_once():
    low, high = clustered_proportion(0.0, 0.0, 100, 20)
    assert low == 0
    assert high == pytest.approx(wilson(0, 20)[1])


def test_percentile_of_mostly_undefined_draws_is_undefined():
    draws = np.r_[np.full(200, np.nan), np.arange(800.0)]
    assert np.isnan(percentile(draws)[0])
    assert percentile(np.arange(1001.0)) == (pytest.approx(25), pytest.approx(975))


def test_percentiles_are_widened_for_few_units_only():
    # 20 units: sqrt(20/19) x t(19) = 1.0260 x 2.0930 = 2.1474 normal widths, which is a level of 0.96824.
    assert widened(20) == pytest.approx(0.96824, abs=1e-5)
    assert widened(2000) == pytest.approx(0.95, abs=1e-3)
    assert widened(1) == 0.95


def test_cox_interval_equals_the_published_example():
    # Zhou and Gao (1997) restate Cox: exp(m + s2/2 ± z sqrt(s2/n + s2^2/(2(n-1)))); here by hand with the t quantile.
    values = np.exp([1.0, 2.0, 3.0, 4.0])
    mean, low, high = cox_mean(values)
    variance = 5 / 3
    half = 3.182446 * np.sqrt(variance / 4 + variance**2 / 6)
    assert mean == pytest.approx(np.exp(2.5 + variance / 2))
    assert np.log([low, high]) == pytest.approx([2.5 + variance / 2 - half, 2.5 + variance / 2 + half], rel=1e-6)


def test_bca_equals_scipy():
    from scipy.stats import bootstrap

    rng = np.random.default_rng(5)
    values = rng.lognormal(size=60)
    reference = bootstrap((values,), np.mean, n_resamples=4000, method="BCa", rng=rng).confidence_interval
    draws = (draw_weights(60, 4000, 1, kind="multinomial") @ values) / 60
    jackknife = (values.sum() - values) / 59
    low, high = bca(float(values.mean()), draws, jackknife)
    width = reference.high - reference.low
    assert abs(low - reference.low) < 0.1 * width
    assert abs(high - reference.high) < 0.1 * width


@pytest.mark.parametrize("deals", [40, 100, 300])
def test_clustered_rate_intervals_cover(deals):
    """95 % intervals of a 25 % rate, opportunities clustered in accounts; naive Wilson covers about 88 %."""
    rng = np.random.default_rng(deals)
    families, markets = int(deals / 2.5), 400
    covered = naive = 0
    weights = draw_weights(families, 400, 3)
    for _ in range(markets):
        size = 1 + rng.poisson(1.5, families)
        # Beta(1, 3) rates of accounts: mean .25, correlation 1/5 within an account.
        won = rng.binomial(size, rng.beta(1, 3, families))
        draws = (weights @ won) / (weights @ size)
        rate, variance = won.sum() / size.sum(), np.var(draws) * families / (families - 1)
        low, high = clustered_proportion(rate, variance, size.sum(), families)
        plain = wilson(won.sum(), size.sum())
        covered += low <= 0.25 <= high
        naive += plain[0] <= 0.25 <= plain[1]
    assert 0.92 <= covered / markets <= 0.98
    assert naive / markets < covered / markets
