"""Resampling by weight matrices: right weights, right sums, intervals that cover and do not depend on units or order."""

from __future__ import annotations

import numpy as np
import pytest

from icplab.core.stats.resample import (
    degrees_of_freedom,
    draw_weights,
    quantile_draws,
    ratio,
    resample_sums,
    trimmed_draws,
)


def test_poisson_weights_have_poisson_shares():
    weights = draw_weights(2000, 500, seed=1)
    shares = np.bincount(weights.astype(int).ravel(), minlength=4)[:4] / weights.size
    np.testing.assert_allclose(shares, np.exp(-1) / np.array([1, 1, 2, 6]), atol=0.002)
    assert weights.mean() == pytest.approx(1, abs=0.005)
    assert weights.var() == pytest.approx(1, abs=0.01)
    assert abs(np.corrcoef(weights[:, ::2].ravel(), weights[:, 1::2].ravel())[0, 1]) < 0.005  # drawn in pairs
    assert weights.dtype == np.float32


def test_multinomial_weights_add_up_to_the_units():
    weights = draw_weights(30, 200, seed=1, kind="multinomial")
    assert (weights.sum(axis=1) == 30).all()


def test_an_unknown_kind_is_refused_by_name():
    with pytest.raises(ValueError, match='kind "jackknife" is not one of poisson, multinomial'):
        draw_weights(3, 2, kind="jackknife")


def test_same_seed_same_weights():
    assert (draw_weights(50, 20, seed=7) == draw_weights(50, 20, seed=7)).all()
    assert (draw_weights(50, 20, seed=7) != draw_weights(50, 20, seed=8)).any()


def test_grouped_sums_add_up_to_sums_over_everything():
    rng = np.random.default_rng(0)
    totals, groups = rng.random((500, 3)), rng.integers(0, 4, 500)
    grouped = resample_sums(totals, 300, seed=2, groups=groups)
    assert grouped.shape == (300, 4, 3)
    # Means over resamples are the sums themselves.
    exact = np.array([totals[groups == g].sum(axis=0) for g in range(4)])
    np.testing.assert_allclose(grouped.mean(axis=0), exact, rtol=0.05)


def test_sums_over_chunks_have_the_spread_of_the_exact_multinomial():
    rng = np.random.default_rng(3)
    totals = np.column_stack([rng.lognormal(size=9000), np.ones(9000)])
    sums = resample_sums(totals, 1000, seed=4)  # 9 million weights: more than one chunk
    exact = draw_weights(9000, 1000, seed=5, kind="multinomial") @ totals
    ours, theirs = (np.quantile(s[:, 0] / s[:, 1], [0.025, 0.975]) for s in (sums, exact))
    width = theirs[1] - theirs[0]
    np.testing.assert_allclose(ours, theirs, atol=0.1 * width)


def test_sums_do_not_depend_on_the_number_of_threads():
    from threadpoolctl import threadpool_limits

    totals = np.random.default_rng(8).lognormal(size=(4000, 11))
    sums = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            sums.append(resample_sums(totals, 500, seed=4))
    assert (sums[0] == sums[1]).all()


def test_weights_are_those_of_every_machine():
    """The first weights of seed 3, so that another processor or library version that draws others is noticed."""
    assert draw_weights(8, 2, seed=3).astype(int).tolist() == [[2, 0, 0, 0, 2, 1, 1, 1], [0, 4, 1, 2, 1, 2, 2, 1]]


def test_ratio_is_the_ratio_and_scales_with_the_currency():
    rng = np.random.default_rng(1)
    amount, deals = rng.lognormal(8, 1, 80), 1.0 + rng.poisson(1, 80)
    weights = draw_weights(80, 800, 2)
    value, low, high, draws = ratio(amount, deals, weights)
    assert value == pytest.approx(amount.sum() / deals.sum())
    assert low < value < high
    assert len(draws) == 800
    scaled = ratio(amount * 1000, deals, weights)
    np.testing.assert_allclose(scaled[:3], np.array([value, low, high]) * 1000, rtol=1e-4)


def test_ratio_without_denominator_or_spread_has_no_interval():
    weights = draw_weights(4, 100, 0)
    assert np.isnan(ratio(np.zeros(4), np.zeros(4), weights)[0])
    value, low, high, _ = ratio(np.ones(4), np.ones(4), weights)
    assert value == 1
    assert np.isnan(low)
    assert np.isnan(high)


@pytest.mark.parametrize(("sigma", "least"), [(0.8, 0.92), (1.5, 0.88)])
def test_log_mean_intervals_cover_heavy_tails(sigma, least):
    """Mean of log-normal amounts of 60 deals in 35 accounts; the t interval covers about 84 % at sigma 1.5."""
    rng = np.random.default_rng(11)
    truth, covered, markets = np.exp(sigma**2 / 2), 0, 300
    weights = draw_weights(60, 500, 1)
    for _ in range(markets):
        family = rng.integers(0, 35, 60)
        amounts = rng.lognormal(0, sigma, 60)
        above, below = np.bincount(family, amounts, 60), np.bincount(family, minlength=60)
        _, low, high, _ = ratio(above, below, weights)
        covered += low <= truth <= high
    assert covered / markets >= least


def test_quantile_draws_equal_numpy_on_the_repeated_values():
    values = np.array([5.0, 1.0, 9.0, 4.0, 2.0])
    weights = np.array([[1, 1, 1, 1, 1], [2, 0, 3, 1, 0], [0, 0, 0, 0, 0]], dtype=np.float32)
    for share in (0.5, 0.75):
        drawn = quantile_draws(values, weights, share)
        assert drawn[0] == pytest.approx(np.quantile(values, share))
        assert drawn[1] == pytest.approx(np.quantile(np.repeat(values, [2, 0, 3, 1, 0]), share))
        assert np.isnan(drawn[2])


def test_trimmed_draws_equal_scipy_on_the_repeated_values():
    from scipy.stats import trim_mean

    values = np.array([5.0, 1.0, 9.0, 4.0, 2.0, 30.0, 3.0, 7.0, 8.0, 6.0])
    counts = np.array([1, 2, 0, 1, 3, 2, 1, 0, 4, 1])
    drawn = trimmed_draws(values, np.array([np.ones(10), counts], dtype=np.float32), 0.1)
    assert drawn[0] == pytest.approx(trim_mean(values, 0.1))
    assert drawn[1] == pytest.approx(trim_mean(np.repeat(values, counts), 0.1))


def test_a_variance_that_one_unit_makes_is_hardly_known_and_one_of_many_alike_is():
    rng = np.random.default_rng(3)
    alike = degrees_of_freedom(rng.normal(size=2000))
    assert 1500 < alike <= 1999
    one = np.append(rng.normal(size=200), 60.0)
    assert degrees_of_freedom(one) == 3
    assert np.isnan(degrees_of_freedom(np.zeros(5)))
    heavy = np.exp(rng.normal(0, 1.2, 200))
    assert 3 <= degrees_of_freedom(heavy - heavy.mean()) < 80
