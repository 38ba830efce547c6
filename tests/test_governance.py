"""Comparisons are cautious, alarms keep their budget, the register cannot be rewritten unseen."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from icplab import governance
from icplab.core.config import Settings
from tests.conftest import typed

NOW = pd.Timestamp("2026-03-31")


def kpi_rows(*rows: tuple) -> pd.DataFrame:
    columns = ["cut", "level", "period", "kpi", "basis", "value", "low", "high", "n"]
    return pd.DataFrame(rows, columns=columns).assign(unit="fraction", status="ok")


def decision(prev: str, **body) -> dict:
    body = {"at": "2026-01-10", "what": "Focus on S1", "who": "CRO", "review": "2026-03-01", "prev": prev, **body}
    return {**body, "hash": governance.hash_decision(body)}


def test_only_what_left_the_interval_has_moved():
    before = kpi_rows(
        ("all", "all", "all", "win_rate", "closed", 0.30, 0.25, 0.35, 200),
        ("all", "all", "all", "nrr", "12m", 1.10, 1.0, 1.2, 50),
        ("industry", "software", "all", "win_rate", "closed", 0.1, 0.0, 0.2, 50),
    )
    now = kpi_rows(
        ("all", "all", "all", "win_rate", "closed", 0.28, 0.24, 0.33, 240),
        ("all", "all", "all", "nrr", "12m", 0.90, 0.8, 1.0, 50),
    )
    moved = governance.compare_kpis(now, before).set_index("kpi")["moved"]
    assert moved.to_dict() == {"win_rate": False, "nrr": True}


def test_moves_between_tiers_are_shares_of_where_they_came_from():
    before = pd.DataFrame({"account_id": list("abcd"), "tier": ["tier_1", "tier_1", "tier_2", "tier_2"]})
    now = pd.DataFrame({"account_id": list("abcx"), "tier": ["tier_1", "tier_2", "tier_2", "tier_1"]})
    moves = governance.compare_tiers(now, before).set_index(["from", "to"])
    assert moves.loc[("tier_1", "tier_2")].tolist() == [1, 0.5]
    assert moves["accounts"].sum() == 3, "only accounts in both runs are compared"


def test_the_backtest_counts_only_what_was_opened_after_the_earlier_run():
    scores = pd.DataFrame({"account_id": ["a", "b"], "tier": ["tier_1", "tier_2"], "win_probability": [0.6, 0.2]})
    deals = pd.DataFrame(
        {
            "account_id": ["a", "a", "a", "b", None],
            "created_at": pd.to_datetime(["2026-01-01", "2026-01-02", "2025-12-01", "2026-01-05", "2026-01-05"]),
            "status": ["won", "lost", "won", "open", "won"],
        }
    )
    row = governance.backtest_tiers(scores, deals, pd.Timestamp("2025-12-31")).set_index("tier")
    assert row.index.tolist() == ["tier_1"]
    assert row.loc["tier_1", ["opportunities", "won", "observed", "predicted"]].tolist() == [2, 1, 0.5, 0.6]


def test_without_an_earlier_run_the_backtest_is_empty():
    scores = pd.DataFrame({"account_id": ["a"], "tier": ["tier_1"], "win_probability": [0.6]})
    deals = pd.DataFrame({"account_id": ["a"], "created_at": [NOW], "status": ["won"]})
    assert governance.backtest_tiers(scores.iloc[:0], deals, NOW).empty


def test_attainment_is_actual_over_plan_and_short_only_when_the_interval_is():
    targets = typed(
        "targets",
        pd.DataFrame(
            {
                "period": ["2026Q1"] * 3,
                "metric": ["won_amount", "win_rate", "won"],
                "segment": ["", "S1", ""],
                "target": ["200", "0.4", "0"],
            }
        ),
    )
    kpis = kpi_rows(
        ("all", "all", "2026Q1", "attainment", "won_amount", 0.75, 0.5, 0.95, 9),
        ("segment", "S1", "2026Q1", "attainment", "win_rate", 0.75, 0.5, 1.1, 40),
        ("all", "all", "2026Q1", "attainment", "won", np.nan, np.nan, np.nan, 9),
    )
    plan = governance.measure_plan(targets, kpis).set_index("metric")
    assert plan.loc["won_amount", ["actual", "attainment", "short"]].tolist() == [150, 0.75, True]
    assert plan.loc["win_rate", ["level", "short"]].tolist() == ["S1", False]
    assert pd.isna(plan.at["won", "attainment"]), "a plan of 0 has no attainment"


def test_the_watch_keeps_its_budget_and_finds_a_fall():
    rng = np.random.default_rng(5)
    false, found = [], []
    for _ in range(400):
        false.append(governance.watch_rate(rng.binomial(60, 0.25, 8), np.full(8, 60), 0.25).max() >= 20)
        found.append(governance.watch_rate(rng.binomial(60, 0.15, 4), np.full(4, 60), 0.25).max() >= 20)
    assert np.mean(false) <= 0.05
    assert np.mean(found) >= 0.8


def test_the_watch_pools_the_quarters_of_a_level():
    periods = ["2025Q4", "2026Q1"]
    targets = typed("targets", pd.DataFrame({"period": periods, "metric": "win_rate", "target": ["0.5", "0.4"]}))
    kpis = kpi_rows(
        *(("all", "all", p, "won", "", w, w, w, w) for p, w in zip(periods, (10, 12), strict=True)),
        *(("all", "all", p, "lost", "", n, n, n, n) for p, n in zip(periods, (90, 88), strict=True)),
    )
    row = governance.watch_plan(targets, kpis).iloc[0]
    assert (row["won"], row["deals"], row["quarters"], row["plan"]) == (22, 200, 2, 0.4)
    assert row["e_value"] == pytest.approx(governance.watch_rate([10, 12], [100, 100], [0.5, 0.4])[-1])
    review = governance.Review(
        *[pd.DataFrame()] * 3,
        plan=governance.measure_plan(targets, kpis),
        watch=pd.DataFrame([row]),
        decisions=governance.review_decisions([], kpis, NOW),
        maturity=pd.DataFrame(),
    )
    codes = [f.code for f in governance.review._watch_findings(review.watch, Settings())]
    assert codes == ["drift"]


def test_a_rewritten_register_is_noticed_at_its_line():
    first = decision("")
    second = decision(first["hash"], what="Retire S4")
    assert governance.check_register([first, second]) is None
    assert governance.check_register([{**first, "what": "Focus on S2"}, second]) == 1
    assert governance.check_register([second]) == 1, "a missing first line breaks the chain"


def test_a_decision_is_judged_by_the_interval_of_what_it_expected():
    kpis = kpi_rows(("all", "all", "all", "win_rate", "closed", 0.35, 0.31, 0.39, 300))
    entries = [decision("", expect={"win_rate": wanted, "nrr": 1.0}) for wanted in (0.30, 0.35, 0.45)]
    rows = governance.review_decisions(entries, kpis, NOW)
    assert rows.loc[rows["expected"] == "win_rate", "reached"].tolist() == ["yes", "not enough evidence", "no"]
    assert (rows.loc[rows["expected"] == "nrr", "reached"] == "not enough evidence").all()
    assert rows["due"].all()
    assert not governance.review_decisions(entries, kpis, pd.Timestamp("2026-02-28"))["due"].any()


def test_maturity_counts_what_the_run_holds():
    rows = governance.assess_maturity({"segments": True, "usable_tiers": True, "intent": True}).set_index("capability")
    assert rows["level"].to_dict()["Market segmentation"] == 1
    assert rows["level"].to_dict()["Scoring and tiering"] == 2
    assert rows.at["Governance", "next_step"].startswith("provide an earlier run")
