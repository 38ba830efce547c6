"""Today's level is taken only where the last half year proves it in two ways; a stable market keeps the level of its history."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from icplab.scores.forward import shrunken_slope
from icplab.scores.level import Level, measure_level

AS_OF = pd.Timestamp("2026-06-30").as_unit("us")


def made_opportunities(
    change: float, *, seed: int = 1, n: int = 4000, pace: float = 1.0
) -> tuple[np.ndarray, pd.DataFrame]:
    """Log odds of the whole history, and opportunities whose level changed half a year ago by so many log odds."""
    rng = np.random.default_rng(seed)
    log_odds = rng.normal(-1.2, 0.7, n)
    age = rng.integers(0, 1000, n)
    won = rng.random(n) < 1 / (1 + np.exp(-(log_odds + change * (age <= 182))))
    cycle = np.round(rng.lognormal(np.log(np.where(won, 60, 80)), 0.5) * np.where(age <= 182, pace, 1.0)) + 1
    created = AS_OF - pd.to_timedelta(age, unit="D")
    known = cycle <= age
    frame = pd.DataFrame({"family_id": [f"f{k}" for k in rng.integers(0, n // 2, n)], "motion": "new"})
    frame["created_at"] = created
    frame["closed_at"] = pd.Series(created + pd.to_timedelta(cycle, unit="D")).where(pd.Series(known))
    frame["status"] = np.where(known, np.where(won, "won", "lost"), "open")
    return log_odds, frame


@pytest.mark.parametrize("change", [-0.8, 0.8])
def test_a_level_that_moved_is_found_with_its_size(change):
    level = measure_level(*made_opportunities(change), AS_OF, 365)
    assert level.shift * change > 0
    assert abs(level.shift - change) < 2.5 * level.error


def test_a_stable_market_keeps_its_level():
    moved = [measure_level(*made_opportunities(0.0, seed=seed), AS_OF, 365) != Level() for seed in range(40)]
    assert sum(moved) <= 4


def test_wins_that_come_sooner_are_no_higher_level():
    assert measure_level(*made_opportunities(0.0, pace=0.5), AS_OF, 365) == Level()


def test_a_clean_up_of_lost_opportunities_is_no_lower_level():
    log_odds, frame = made_opportunities(0.0)
    stale = (frame["status"] == "open") & (frame["created_at"] < AS_OF - pd.Timedelta(days=60))
    frame.loc[stale, "closed_at"] = AS_OF - pd.Timedelta(days=1)
    frame.loc[stale, "status"] = "lost"
    assert measure_level(log_odds, frame, AS_OF, 365) == Level()


def test_few_outcomes_and_no_dates_say_nothing():
    log_odds, frame = made_opportunities(0.8, n=200)
    assert measure_level(log_odds, frame, AS_OF, 365) == Level()
    assert measure_level(*made_opportunities(0.8), AS_OF, 365, dated=False) == Level()


def test_what_closes_after_the_day_is_not_known_on_it():
    log_odds, frame = made_opportunities(0.8)
    day = AS_OF - pd.Timedelta(days=200)
    later = frame["closed_at"] > day
    hidden = frame.assign(status=frame["status"].mask(later, "open"), closed_at=frame["closed_at"].mask(later))
    assert measure_level(log_odds, frame, day, 365) == measure_level(log_odds, hidden, day, 365)


def test_a_slope_is_believed_as_far_as_its_error_and_wholly_when_it_is_proven_wrong():
    assert shrunken_slope(1.0, 0.1, 800) == 1.0
    assert 0.95 < shrunken_slope(0.8, 0.1, 800) < 1.0
    assert shrunken_slope(0.6, 0.05, 800) == pytest.approx(0.6, abs=0.01)
    assert shrunken_slope(0.1, 0.05, 800) == 0.5
