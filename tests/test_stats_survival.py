"""Curves equal published ones and an independent implementation; resampled curves equal curves of resampled data."""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.duration.survfunc import CumIncidenceRight, SurvfuncRight

from icplab.core.stats.survival import (
    aalen_johansen,
    count_events,
    first_day_at_or_below,
    kaplan_meier,
    retention_curve,
    value_at,
)

# Weeks in remission on 6-MP (Freireich et al. 1963), the standard worked example of survival texts; 0: still in remission.
WEEKS = [6, 6, 6, 6, 7, 9, 10, 10, 11, 13, 16, 17, 19, 20, 22, 23, 25, 32, 32, 34, 35]
RELAPSED = [1, 1, 1, 0, 1, 0, 1, 0, 0, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0]


@pytest.fixture
def market() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(4)
    days = rng.integers(1, 120, 400)
    return days, rng.choice(3, 400, p=[0.3, 0.3, 0.4])


def test_kaplan_meier_equals_the_published_table():
    table = kaplan_meier(WEEKS, RELAPSED).set_index("day")
    published = {6: 0.857, 7: 0.807, 10: 0.753, 13: 0.690, 16: 0.627, 22: 0.538, 23: 0.448}
    np.testing.assert_allclose(table.loc[list(published), "survival"], list(published.values()), atol=5e-4)
    np.testing.assert_allclose(table.loc[[6, 23], "std_error"], [0.0764, 0.1346], atol=5e-5)


def test_kaplan_meier_equals_statsmodels(market):
    days, cause = market
    ours = kaplan_meier(days, cause == 1)
    theirs = SurvfuncRight(days, (cause == 1).astype(int))
    ours = ours[ours["events"] > 0]
    np.testing.assert_allclose(ours["survival"], theirs.surv_prob, rtol=1e-10)
    np.testing.assert_allclose(ours["std_error"], theirs.surv_prob_se, rtol=1e-6)


def test_cumulative_incidence_equals_statsmodels(market):
    days, cause = market
    ours = aalen_johansen(count_events(days, cause))
    with np.errstate(divide="ignore", invalid="ignore"):  # its standard errors divide by zero on the last day
        theirs = CumIncidenceRight(days, cause)
    np.testing.assert_allclose(value_at(ours.days, ours.incidence, 119), theirs.cinc[0][-1], rtol=1e-10)
    at = [np.searchsorted(ours.days, t, side="right") - 1 for t in theirs.times]
    np.testing.assert_allclose(ours.incidence[at], theirs.cinc[0], rtol=1e-10)


def test_cumulative_incidence_by_hand():
    # Four deals: won on day 10, lost on 20, censored on 25, won on 30.
    curve = aalen_johansen(count_events([10, 20, 25, 30], [1, 2, 0, 1]))
    np.testing.assert_allclose(curve.incidence, [0.25, 0.25, 0.25, 0.75])
    np.testing.assert_allclose(curve.survival, [0.75, 0.5, 0.5, 0.0])
    assert value_at(curve.days, curve.incidence, 9) == 0
    assert value_at(curve.days, curve.incidence, 29.5) == 0.25


def test_incidence_and_survival_share_out_everything(market):
    days, cause = market
    won = aalen_johansen(count_events(days, cause))
    lost = aalen_johansen(count_events(days, np.array([0, 2, 1])[cause]))
    np.testing.assert_allclose(won.incidence + lost.incidence + won.survival, 1.0, rtol=1e-12)


def test_a_weighted_curve_is_the_curve_of_repeated_rows(market):
    days, cause = market
    units = np.arange(400) // 4
    weights = np.random.default_rng(1).poisson(1, (3, 100)).astype(np.float32)
    drawn = aalen_johansen(count_events(days, cause, units=units, n_units=100), weights)
    for replicate in range(3):
        times = weights[replicate].astype(int)[units]
        repeated = aalen_johansen(count_events(np.repeat(days, times), np.repeat(cause, times)))
        for horizon in (30, 90):
            assert value_at(drawn.days, drawn.incidence, horizon)[replicate] == pytest.approx(
                float(value_at(repeated.days, repeated.incidence, horizon)), rel=1e-6
            )


def test_row_order_changes_nothing(market):
    days, cause = market
    order = np.random.default_rng(2).permutation(400)
    one, two = (aalen_johansen(count_events(d, c)) for d, c in ((days, cause), (days[order], cause[order])))
    assert (one.incidence == two.incidence).all()


def test_unknown_and_negative_days_are_refused():
    with pytest.raises(ValueError, match="not negative"):
        count_events([1.0, -2.0], [1, 0])
    with pytest.raises(ValueError, match="known"):
        count_events([1.0, np.nan], [1, 0])


def test_median_time_is_the_first_day_at_one_half_or_unknown():
    curve = aalen_johansen(count_events([10, 20, 30, 40], [1, 2, 1, 0]))
    assert first_day_at_or_below(curve.days, curve.survival, 0.5) == 20
    assert np.isnan(first_day_at_or_below(curve.days, curve.survival, 0.1))


def test_censoring_does_not_move_the_incidence_of_a_growing_business():
    """Naive won over created halves the rate of a slow segment; the curve does not."""
    rng = np.random.default_rng(9)
    n = 20000
    age = rng.exponential(200, n)  # most opportunities are young
    won, cycle = rng.random(n) < 0.30, rng.lognormal(np.log(150), 0.6, n)
    cause = np.where(cycle > age, 0, np.where(won, 1, 2))
    curve = aalen_johansen(count_events(np.floor(np.minimum(cycle, age)), cause))
    truth = (won & (cycle <= 365)).mean()
    assert value_at(curve.days, curve.incidence, 365) == pytest.approx(truth, abs=0.02)
    assert (cause == 1).mean() < 0.7 * truth


def test_retention_equals_the_published_fit():
    # Fader and Hardie (2007), High End and Regular: maximum likelihood on seven years, survival in per cent.
    for survival, alpha, beta, year_12 in (
        ([1, 0.869, 0.743, 0.653, 0.593, 0.551, 0.517, 0.491], 0.668, 3.806, 0.378),
        ([1, 0.631, 0.468, 0.382, 0.326, 0.289, 0.262, 0.241], 0.704, 1.182, 0.170),
    ):
        kept = 1000 * np.array(survival)
        fit = retention_curve(-np.diff(kept), kept[:-1], 12)
        assert fit.alpha == pytest.approx(alpha, rel=0.02)
        assert fit.beta == pytest.approx(beta, rel=0.02)
        assert fit.kept[12] == pytest.approx(year_12, abs=0.005)


def test_constant_churn_is_recovered():
    kept = 10000 * 0.95 ** np.arange(13)
    fit = retention_curve(-np.diff(kept), kept[:-1], 36)
    assert fit.kept[36] == pytest.approx(0.95**36, rel=0.03)


def test_resampled_retention_stays_near_the_whole():
    kept = 1000 * 0.9 ** np.arange(11)
    churned, at_risk = -np.diff(kept), kept[:-1]
    whole = retention_curve(churned, at_risk, 24)
    drawn = retention_curve(np.tile(churned, (5, 1)), np.tile(at_risk, (5, 1)), 24, near=whole)
    np.testing.assert_allclose(drawn.kept[:, 12], whole.kept[12], rtol=0.1)
