"""Orders, quarters, allocations and cuts say what can be counted by hand, and no more than the data allow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from icplab import features, performance
from icplab.core.config import Settings
from icplab.core.schema import CANONICAL
from icplab.core.stats.intervals import wilson
from icplab.performance import kpis
from icplab.performance.cuts import find_levels, usual_cuts


def rates(rows: list[tuple[str, str, int, int]], cut: str = "segment") -> pd.DataFrame:
    """Rows of `kpis` with win rates on the closed basis, from level, period, won and closed."""
    table = pd.DataFrame(rows, columns=["level", "period", "won", "n"]).astype({"n": "float64"})
    low, high = wilson(table["won"], table["n"])
    named = {"cut": cut, "kpi": "win_rate", "basis": "closed", "unit": "fraction", "status": "ok", "note": ""}
    pooled = dict.fromkeys(("pooled", "pooled_low", "pooled_high"), np.nan)
    return table.assign(value=table["won"] / table["n"], low=low, high=high, **named, **pooled)


def test_a_tiny_lucky_level_does_not_lead():
    table = rates([("tiny", "all", 5, 8), ("large", "all", 160, 400), *((f"x{i}", "all", 60, 300) for i in range(6))])
    ranks = performance.rank_levels(table, "segment", settings=Settings())
    assert ranks["level"].iloc[0] == "large"
    assert ranks["rank"].tolist() == list(range(1, 9))
    tiny = ranks.set_index("level").loc["tiny"]
    assert tiny["rank_low"] == 1
    assert tiny["rank_high"] >= 5
    assert ranks["p_best"].sum() == pytest.approx(1)


def test_pairs_add_up_to_one_and_follow_the_order():
    table = rates([("a", "all", 90, 200), ("b", "all", 60, 200), ("c", "all", 58, 200)])
    pairs = performance.compare_pairs(table, "segment", settings=Settings()).set_index(["level", "other"])[
        "probability"
    ]
    assert pairs["a", "b"] + pairs["b", "a"] == pytest.approx(1)
    assert pairs["a", "b"] > 0.97
    assert 0.4 < pairs["b", "c"] < 0.8
    assert ("a", "a") not in pairs.index


def test_for_costs_the_lowest_is_the_best():
    table = rates([("dear", "all", 1, 100), ("cheap", "all", 1, 100)]).assign(kpi="cac", basis="new_logo", unit="money")
    table = table.assign(value=[2000.0, 1000.0], low=[1800.0, 900.0], high=[2200.0, 1100.0])
    ranks = performance.rank_levels(table, "segment", settings=Settings(), kpi="cac", basis="new_logo")
    assert ranks["level"].tolist() == ["cheap", "dear"]


def test_one_level_has_no_order():
    table = rates([("a", "all", 90, 200)])
    assert performance.rank_levels(table, "segment", settings=Settings()).empty
    assert performance.compare_pairs(table, "segment", settings=Settings()).empty


def test_leaders_of_stable_levels_do_not_fall_against_the_expectation():
    """Twelve levels alike for ever: the top three seem to fall by points, but not against what was to be expected."""
    rng = np.random.default_rng(4)
    fallen, beyond, counted = [], 0, 0
    for _ in range(25):
        rows = [(f"s{i:02d}", f"2025Q{q}", int(rng.binomial(40, 0.25)), 40) for i in range(12) for q in (1, 2, 3)]
        table = performance.compare_quarters(rates(rows), "segment")
        top = table.nlargest(3, "last")
        fallen.append((top["change"].mean(), (top["value"] - top["expected"]).mean()))
        beyond, counted = beyond + int((table["beyond"] != "").sum()), counted + len(table)
    naive, fair = np.mean(fallen, axis=0)
    assert naive < -0.04
    assert abs(fair) < 0.02
    assert beyond / counted < 0.08


def test_a_quarter_that_changed_is_beyond_and_small_ones_are_left_out():
    rows = [(s, q, 20, 80) for s in "abcd" for q in ("2025Q1", "2025Q2")]
    table = performance.compare_quarters(
        rates([*rows, ("a", "2025Q3", 40, 80), ("b", "2025Q3", 20, 80), ("c", "2025Q3", 4, 9)]), "segment"
    )
    assert table["level"].tolist() == ["a", "b"]
    assert table["beyond"].tolist() == ["above", ""]
    assert table["change"].tolist() == pytest.approx([0.25, 0.0])
    assert performance.compare_quarters(rates([("a", "2025Q1", 4, 9)]), "segment").empty


def test_levels_that_change_places_with_the_allocation_are_named():
    levels = ["a", "b", "c"]
    bases = {
        "new_logo": [100, 150, 400],
        "new_logo_by_accounts": [110, 150, 400],
        "new_logo_by_activity": [150, 100, 380],
    }
    rows = [(lvl, basis, float(v)) for basis, values in bases.items() for lvl, v in zip(levels, values, strict=True)]
    table = pd.DataFrame(rows, columns=["level", "basis", "value"])
    table = table.assign(cut="segment", period="all", kpi="cac", n=80.0, status="ok")
    found = performance.compare_allocations(table).set_index("level")
    assert found["allocation_dependent"].to_dict() == {"a": True, "b": True, "c": False}
    assert (found.loc["a", "low"], found.loc["a", "high"]) == (100, 150)
    assert performance.compare_allocations(table.iloc[:0]).empty


def test_a_margin_that_is_not_known_gives_no_share_of_profit(tables, settings, as_of):
    opportunities = features.build_opportunities(tables, settings, as_of).assign(margin_rate=np.nan)
    accounts = features.build_accounts(tables, settings, as_of)
    own = {"accounts": accounts, "settings": settings, "as_of": as_of, "seed": 1, "replicates": 50}
    kpis = performance.measure_kpis(opportunities, cut="industry", **own)
    shares = kpis[kpis["kpi"] == "share"].set_index(["basis", "level"])
    assert (shares.loc["gross_profit", "status"] == "not_measured").all()
    assert shares.loc["won_value", "value"].sum() == pytest.approx(1)
    assert (shares.loc["spend", "note"] == "there is no spend table").all()


def test_sellers_are_numbered_unless_they_may_be_shown(tables, settings, as_of):
    opportunities = features.build_opportunities(tables, settings, as_of).assign(owner="Zoe")
    opportunities.loc[:3, "owner"] = "Adam"
    accounts = features.build_accounts(tables, settings, as_of)
    assert set(find_levels("owner", accounts, opportunities, settings)) == {"owner 01", "owner 02"}
    shown = replace(settings, privacy=replace(settings.privacy, show_owners=True))
    assert set(find_levels("owner", accounts, opportunities, shown)) == {"Adam", "Zoe"}
    assert "owner" in usual_cuts(opportunities)
    assert "owner" not in usual_cuts(opportunities.assign(owner="Zoe"))


def test_cohorts_are_quarters_of_creation_and_cubes_cross_columns(tables, settings, as_of):
    opportunities = features.build_opportunities(tables, settings, as_of)
    accounts = features.build_accounts(tables, settings, as_of)
    cohorts = find_levels("cohort", accounts, opportunities, settings)
    assert cohorts.index.equals(pd.Index(opportunities["opportunity_id"], name="opportunity_id"))
    assert cohorts.dropna().str.fullmatch(r"\d{4}Q[1-4]").all()
    cube = find_levels("industry x region", accounts, opportunities, settings)
    both = accounts.set_index("account_id")
    assert (cube.dropna() == (both["industry"] + " x " + both["region"]).loc[cube.dropna().index]).all()
    assert cube.isna().sum() == (both["industry"].isna() | both["region"].isna()).sum()


def test_effort_by_month_is_the_same_from_events_and_from_their_summary(tables, as_of):
    from icplab.performance.prepare import effort_by_month

    events = tables["activities"].assign(minutes=np.arange(len(tables["activities"])) * 5.0)
    summary = features.summarise_effort({"activities": events}, as_of)
    one, unit = effort_by_month(None, events, as_of)
    two, same = effort_by_month(summary, CANONICAL["activities"].empty(), as_of)
    assert unit == same
    pd.testing.assert_frame_equal(one, two, check_dtype=False)


def test_the_artefact_says_how_much_of_an_order_is_known():
    spread = {"cut": "segment", "period": "all", "kpi": "win_rate", "basis": "closed", "_scale": "rate"}
    table = pd.DataFrame({"level": ["tiny", "a", "b"], "value": [0.6, 0.4, 0.2], "n": [5.0, 400.0, 400.0]}).assign(
        **spread, _units=[5.0, 400.0, 400.0], _spread=lambda t: np.sqrt(t["value"] * (1 - t["value"]) / t["n"])
    )
    found = kpis._pooled(table).set_index("level")
    assert found["p_best"].sum() == pytest.approx(1)
    assert (found.loc["tiny", "rank_low"], found.loc["tiny", "rank_high"]) == (1, 3)
    assert (found.loc["a", "rank_high"], found.loc["b", "rank_low"]) == (2, 2)
    dearest = kpis._pooled(table.assign(kpi="cac", _scale="log", _spread=[0.4, 0.05, 0.05])).set_index("level")
    assert dearest["p_best"].idxmax() == "b"
