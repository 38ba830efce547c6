"""The forecast by tier mix: counted by hand on a curve of one day, tracked against what came, blind to the future."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from icplab.core.config import Plan, Settings
from icplab.core.schema import ARTEFACTS, check_artefact
from icplab.performance import forecast

AS_OF = pd.Timestamp("2026-06-30").as_unit("us")
SETTINGS = Settings(plan=Plan(minimum_n=10, minimum_n_money=10))


def deals(rows: list[tuple[str, str, int, int | None, str]], acv: float = 100.0) -> pd.DataFrame:
    """Opportunities from (account, status, days ago created, days until closed, id)."""
    frame = pd.DataFrame(rows, columns=["account_id", "status", "ago", "took", "opportunity_id"])
    created = AS_OF - pd.to_timedelta(frame["ago"], unit="D")
    closed = created + pd.to_timedelta(frame["took"], unit="D")
    kept = ["opportunity_id", "account_id", "status"]
    frame = frame.assign(created_at=created.astype("datetime64[us]"), closed_at=closed.astype("datetime64[us]"))
    return frame[[*kept, "created_at", "closed_at"]].assign(family_id=frame["account_id"], acv=acv)


def hand() -> pd.DataFrame:
    """Twenty closed after 50 days a year and more ago, five of them won; four open for 10 days."""
    closed = [(f"a{i}", "won" if i < 5 else "lost", 400 + i, 50, f"c{i:02d}") for i in range(20)]
    return deals(closed + [(f"b{i}", "open", 10, None, f"o{i}") for i in range(4)])


def test_an_open_opportunity_is_won_with_the_chance_that_its_curve_leaves():
    tier = pd.Series("tier_1", index=[f"a{i}" for i in range(20)] + [f"b{i}" for i in range(4)])
    table = forecast.forecast_wins(hand(), tier, SETTINGS, AS_OF).set_index(["tier", "method"])
    # At 10 days nobody is decided; by 101 days a quarter is won. Four open: one win. New ones: 4 in 365 days, and those
    # opened in the first 41 of 91 days can be won after 50: 4 / 365 x 41 / 4.
    expected = 4 * 0.25 + 4 / 365 * 41 * 0.25
    row = table.loc[("tier_1", "by_tier")]
    assert row["open"] == 4
    assert row["wins"] == pytest.approx(expected)
    assert row["value"] == pytest.approx(100 * expected)
    assert row["low"] < row["wins"] < row["high"]
    assert table.loc[("all", "by_tier"), "wins"] == pytest.approx(table.loc[("all", "without_tiers"), "wins"])


def test_the_tiers_are_forecast_apart_and_add_up():
    rng = np.random.default_rng(1)
    rows = [
        (f"{t}{i}", "won" if rng.random() < rate else "lost", 200 + i, 40, f"{t}{i:03d}")
        for t, rate in (("x", 0.6), ("y", 0.1))
        for i in range(60)
    ]
    rows += [(f"{t}{i}", "open", 5, None, f"{t}o{i}") for t in "xy" for i in range(20)]
    frame = deals(rows)
    tier = pd.Series({a: "tier_1" if a[0] == "x" else "tier_3" for a in frame["account_id"]})
    table = forecast.forecast_wins(frame, tier, SETTINGS, AS_OF)
    check_artefact("forecast", table)
    by = table[table["method"] == "by_tier"].set_index("tier")["wins"]
    assert by["tier_1"] > 3 * by["tier_3"]
    assert by["all"] == pytest.approx(by["tier_1"] + by["tier_3"])


def test_what_came_is_counted_in_the_ninety_one_days_after_the_forecast():
    frame = deals([(f"a{i}", "won", 600 - i, 50, f"c{i:03d}") for i in range(0, 500, 2)])
    tracked = forecast.track_forecasts(frame, pd.Series(dtype="str"), SETTINGS, AS_OF)
    last = tracked[(tracked["tier"] == "all") & (tracked["method"] == "by_tier")].iloc[-1]
    assert last["made_at"] == AS_OF - pd.Timedelta(days=91)
    ended = (AS_OF - frame["closed_at"]).dt.days
    assert last["came"] == ((ended >= 0) & (ended < 91)).sum()
    assert set(tracked["basis"]) == {"reconstructed"}


def test_a_past_forecast_does_not_know_the_future():
    frame = hand()
    day = AS_OF - pd.Timedelta(days=352)  # a0 and a1 closed 350 and 351 days ago
    then = forecast.known_on(frame, day)
    assert then["status"].value_counts().to_dict() == {"lost": 15, "won": 3, "open": 2}
    assert then.loc[then["status"] == "open", "closed_at"].isna().all()
    changed = frame.assign(status=frame["status"].where(frame["closed_at"] <= day, "lost"))
    one, other = (
        forecast.forecast_wins(forecast.known_on(f, day), pd.Series(dtype="str"), SETTINGS, day)
        for f in (frame, changed)
    )
    pd.testing.assert_frame_equal(one, other)


def test_a_forecast_that_was_written_down_is_kept_and_not_made_again():
    frame = deals([(f"a{i}", "won", 700 - i, 50, f"c{i:03d}") for i in range(0, 600, 2)])
    day = AS_OF - pd.Timedelta(days=92)
    written = forecast.forecast_wins(forecast.known_on(frame, day), pd.Series(dtype="str"), SETTINGS, day)
    tracked = forecast.track_forecasts(frame, pd.Series(dtype="str"), SETTINGS, AS_OF, written)
    honest = tracked[tracked["basis"] == "earlier_run"]
    assert honest["wins"].tolist() == pytest.approx(written["wins"].tolist())
    assert honest["came"].notna().all()
    assert not (tracked[tracked["basis"] == "reconstructed"]["made_at"] == AS_OF - pd.Timedelta(days=91)).any()
    pending = written.assign(made_at=AS_OF, until=AS_OF + pd.Timedelta(days=91))
    assert (forecast.track_forecasts(frame, pd.Series(dtype="str"), SETTINGS, AS_OF, pending)["until"] <= AS_OF).all()


def test_errors_are_shares_of_what_came():
    base = {"tier": "all", "method": "by_tier", "basis": "reconstructed", "value": 1.0, "came_value": 1.0}
    tracked = pd.DataFrame(
        [
            {**base, "wins": 12.0, "low": 8.0, "high": 16.0, "came": 10.0},
            {**base, "wins": 8.0, "low": 6.0, "high": 9.0, "came": 10.0},
        ]
    )
    row = forecast.measure_errors(tracked).iloc[0]
    assert (row["forecasts"], row["wins_off"], row["bias"], row["inside"]) == (2, 0.2, 0.0, 0.5)


def test_the_band_holds_what_comes_nine_times_in_ten():
    inside = []
    for seed in range(2000, 2040):
        rng = np.random.default_rng(seed)
        n = 600
        ago, took = rng.integers(-91, 900, n), np.ceil(rng.lognormal(np.log(60), 0.6, n)).astype(int)
        frame = deals(
            [(f"a{i}", "won", int(a), int(t), f"c{i:03d}") for i, (a, t) in enumerate(zip(ago, took, strict=True))]
        )
        frame["status"] = np.where(rng.random(n) < 0.25, "won", "lost")
        frame["acv"] = np.exp(rng.normal(9, 0.8, n))
        row = forecast.forecast_wins(forecast.known_on(frame, AS_OF), pd.Series(dtype="str"), SETTINGS, AS_OF).iloc[-1]
        later = (frame["closed_at"] > AS_OF) & (frame["closed_at"] <= row["until"])
        came = float((later & (frame["status"] == "won")).sum())
        inside.append(row["low"] <= came <= row["high"])
    assert np.mean(inside) >= 0.8  # 40 draws at 90 %: two standard errors are ten points


def test_without_dates_or_opportunities_there_is_no_forecast():
    empty = forecast.forecast_wins(hand().iloc[:0], pd.Series(dtype="str"), SETTINGS, AS_OF)
    assert empty.empty
    assert list(empty) == list(ARTEFACTS["forecast"].empty())
    assert not list(forecast.find_forecast(empty, forecast.measure_errors(empty), SETTINGS))
