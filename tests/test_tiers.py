"""Tiers: capacity kept, promises bounded and checked by hand, merged when they cannot be told apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from icplab.core.config import Capacity, Economics, Settings
from icplab.core.model import Value, with_cuts
from icplab.core.schema import check_artefact
from icplab.tiers import (
    check_tiers,
    compare_promise,
    cross_with_intent,
    findings,
    join_tiers,
    list_now,
    measure_tiers,
    set_tiers,
    value_tested,
)
from tests.made_market import AS_OF, SETTINGS, make_market, tiered, with_capacity

NO_OWNERS = pd.DataFrame({"owner": [], "capacity": []})


@pytest.fixture(scope="module")
def made():
    return make_market()


@pytest.fixture(scope="module")
def fitted(made):
    return tiered(made)


@pytest.fixture(scope="module")
def table(made, fitted):
    model, market, scored, check = fitted
    promise = measure_tiers(model, market, scored, made.opportunities, SETTINGS)
    return join_tiers(promise, check_tiers(check.predictions, model, market, SETTINGS))


def again(fitted, settings: Settings = SETTINGS, market: pd.DataFrame | None = None, model=None):
    """Tiers set once more under other settings, on the same scores."""
    return set_tiers(model or fitted[0], fitted[1] if market is None else market, fitted[2], settings)


def test_without_a_capacity_tier_1_is_the_best_fifth_and_tier_2_the_next_three_tenths(fitted):
    counts = fitted[2]["tier"].value_counts()
    assert 230 <= counts["tier_1"] <= 240  # accounts of the same value stay together, within the size
    assert 590 <= counts["tier_1"] + counts["tier_2"] <= 600
    assert counts.sum() == 1200


def test_tiers_follow_expected_value_and_never_overlap(fitted):
    by_tier = fitted[2].groupby("tier")["expected_value"].agg(["min", "max"])
    assert by_tier.loc["tier_1", "min"] > by_tier.loc["tier_2", "max"]
    assert by_tier.loc["tier_2", "min"] > by_tier.loc["tier_3", "max"]


def test_capacity_of_the_plan_decides_the_sizes(fitted):
    scored = again(fitted, with_capacity(100, 50))[1]
    counts = scored["tier"].value_counts()
    assert 90 <= counts["tier_1"] <= 100
    assert 140 <= counts["tier_1"] + counts["tier_2"] <= 150


def test_below_break_even_an_account_is_not_icp(fitted):
    worth = fitted[2]["expected_value"].quantile(0.3)
    settings = Settings(economics=Economics(cost_of_touch=float(worth)))
    scored = again(fitted, settings)[1]
    assert (scored["tier"] == "not_icp").mean() == pytest.approx(0.3, abs=0.01)
    assert (scored.loc[scored["tier"] == "not_icp", "expected_value"] < worth).all()


def test_partners_competitors_and_accounts_without_segment_have_no_rank(fitted):
    market = fitted[1].copy()
    market.loc[:9, "account_type"] = "partner"
    market.loc[10:19, "account_type"] = "competitor"
    market.loc[20:29, "segment_id"] = "unassigned"
    scored = fitted[2].assign(segment_id=market["segment_id"])
    scored = set_tiers(fitted[0], market, scored, SETTINGS)[1]
    assert set(scored["tier"][:20]) == {"not_icp"}
    assert set(scored["tier"][20:30]) == {"insufficient"}
    assert scored["tier_confidence"][:30].isna().all()
    assert (scored["icp"][:20] == "no").all()


def test_another_currency_leaves_the_tiers_alone(made, fitted):
    cents = replace(made, opportunities=made.opportunities.assign(acv=made.opportunities["acv"] * 100))
    settings = replace(SETTINGS, economics=Economics(cost_to_serve=100.0 * 100))
    other = tiered(cents, settings)[2]
    assert (other["tier"] == fitted[2]["tier"]).mean() > 0.998  # rounding of cents moves an account at a cut point


def test_confidence_is_lowest_at_the_cut_points(fitted):
    model, _, scored, _ = fitted
    assert scored["tier_confidence"].between(0, 1).all()
    near = (np.log(scored["expected_value"] / model.cuts["tier_1"])).abs() < 0.03
    far = scored["expected_value"] > scored["expected_value"].quantile(0.98)
    assert scored.loc[far, "tier_confidence"].mean() > 0.95
    assert scored.loc[near, "tier_confidence"].mean() < scored.loc[far, "tier_confidence"].mean() - 0.05
    assert scored.loc[near, "tier_confidence"].min() < 0.75


def test_tiers_that_cannot_be_told_apart_become_one(made, fitted):
    model, market, scored, _ = fitted
    rng = np.random.default_rng(0)
    # Effects so uncertain that any order of the tiers is as good as another.
    wild = rng.normal(0, 200, np.shape(model.draws["points"]))
    model = with_cuts(model, {}, {"points": wild.tolist(), "cuts": []})
    merged, again_scored = set_tiers(model, market, scored, SETTINGS)
    assert merged.draws["merged"]
    assert not set(again_scored["tier"]) & set(merged.draws["merged"])
    table = measure_tiers(merged, market, again_scored, made.opportunities, SETTINGS)
    said = [f for f in findings(merged, again_scored, table, SETTINGS, NO_OWNERS) if f.code == "tiers-merged"]
    assert [f.subject for f in said] == merged.draws["merged"]


def test_the_promise_passes_its_declaration_and_holds_the_predicted_rate(table):
    check_artefact("tiers", table)
    now = table[(table["period"] == "now") & table["low"].notna()]
    assert (now["low"] < now["predicted"]).all()
    assert (now["predicted"] < now["high"]).all()
    assert now["predicted"].is_monotonic_decreasing
    assert now["captured_value_share"].sum() == pytest.approx(1.0, abs=1e-4)


def test_true_rates_lie_inside_the_promise(made, fitted, table):
    chance = 0.35 / (1 + np.exp(-(made.log_odds + 1.2))) + 0.65 / (1 + np.exp(-made.log_odds))
    true = chance.reindex(fitted[2]["account_id"]).groupby(fitted[2]["tier"].to_numpy()).mean()
    now = table[table["period"] == "now"].set_index("tier")
    for tier in ("tier_1", "tier_2", "tier_3"):
        assert now.loc[tier, "low"] < true[tier] < now.loc[tier, "high"]


def test_expected_opportunities_are_a_quarter_of_last_year_s(made, fitted, table):
    tier = made.opportunities["account_id"].map(fitted[2].set_index("account_id")["tier"])
    recent = (AS_OF - made.opportunities["created_at"]).dt.days < 365
    n = table[table["period"] == "now"].set_index("tier")["n"]
    assert n["tier_1"] == pytest.approx((recent & (tier == "tier_1")).sum() * 91 / 365, abs=0.06)


def test_delivered_rates_are_those_counted_by_hand(fitted):
    model, market, scored, _ = fitted
    tested = pd.DataFrame(
        {
            "account_id": scored["account_id"][:10],
            "family_id": scored["account_id"][:10],
            "motion": "new",
            "fold": 0,
            "period": "cross-validation",
            "account_probability": [0.9, 0.8, 0.5, 0.5, 0.5, 0.1, 0.1, 0.1, 0.1, 0.1],
            "outcome": [1, 0, 1, 1, 0, 0, 0, 0, 0, 1],
            "weight": [1, 1, 1, 2, 1, 1, 1, 1, 0, 1],
        }
    )
    same = replace(model, value=Value())  # nothing measured: every win is worth the same
    row = check_tiers(tested, same, market, SETTINGS).set_index("tier")
    assert row["n"].to_dict() == {"tier_1": 2, "tier_2": 3, "tier_3": 4}
    assert row.loc["tier_1", "predicted"] == pytest.approx(0.85)
    assert row.loc["tier_1", "observed"] == pytest.approx(0.5)
    assert row.loc["tier_2", "observed"] == pytest.approx(3 / 4)
    assert row.loc["tier_3", "observed"] == pytest.approx(1 / 4)
    assert row["captured_value_share"].sum() == pytest.approx(1.0)


def test_what_an_account_became_by_winning_does_not_set_its_tier_of_the_past(fitted):
    model, market, _, check = fitted
    customers = market.assign(is_customer=True, motion="expansion")
    one = check_tiers(check.predictions, model, market, SETTINGS)
    pd.testing.assert_frame_equal(one, check_tiers(check.predictions, model, customers, SETTINGS))


def test_a_kept_promise_is_information_and_a_broken_one_a_warning(fitted, table):
    model, _, scored, _ = fitted
    said = findings(model, scored, table, SETTINGS, NO_OWNERS)
    assert {f.severity for f in said} == {"info"}
    broken = table.assign(observed=(table["observed"] * 1.8).clip(upper=1.0))
    warned = [f for f in findings(model, scored, broken, SETTINGS, NO_OWNERS) if f.severity == "watch"]
    assert [f.code for f in warned] == ["calibration"]


def test_a_market_of_partners_has_no_tier_to_promise_anything_of(fitted, table):
    model, _, scored, _ = fitted
    nobody = table[~table["tier"].isin(["tier_1", "tier_2", "tier_3"])]
    (said,) = [f for f in findings(model, scored, nobody, SETTINGS, NO_OWNERS) if f.code == "tier-promise"]
    assert said.severity == "watch"
    assert said.sentence.startswith("No account is in a tier")


def test_a_tier_larger_than_all_sellers_can_work_is_said(fitted, table):
    owners = pd.DataFrame({"owner": ["kim"], "capacity": [100.0]})
    said = [f for f in findings(fitted[0], fitted[2], table, SETTINGS, owners) if f.code == "over-capacity"]
    assert said[0].numbers["capacity"] == 100.0


def test_chart_rows_hold_promise_and_observation_of_tested_tiers_only(table):
    rows = compare_promise(table)
    assert len(rows) == 6
    assert rows.loc[rows["what"] == "observed", "low"].isna().all()


def test_right_now_is_tier_1_and_2_with_high_intent(made, fitted):
    scored = fitted[2].assign(intent_score=np.where(fitted[2].index % 2 == 0, 80.0, 10.0))
    listed = list_now(scored, made.accounts)
    assert set(listed["tier"]) == {"tier_1", "tier_2"}
    assert (listed["intent_score"] == 80.0).all()
    crossed = cross_with_intent(scored)
    assert crossed["accounts"].sum() == len(scored)
    high = crossed[(crossed["intent"] == "high") & crossed["tier"].isin(["tier_1", "tier_2"])]
    assert high["accounts"].sum() == len(listed)


def test_an_unusable_model_leaves_every_account_without_a_tier(fitted):
    model = replace(fitted[0], verdict="no-usable-ranking", cuts={})
    unranked, scored = set_tiers(model, fitted[1], fitted[2].assign(tier="insufficient"), SETTINGS)
    assert set(scored["tier"]) == {"insufficient"}
    assert findings(unranked, scored, pd.DataFrame(), SETTINGS, NO_OWNERS) == []


def test_capacity_larger_than_the_market_leaves_the_lower_tiers_empty(fitted):
    scored = again(fitted, Settings(capacity=Capacity(tier_1=5000)))[1]
    assert set(scored["tier"]) == {"tier_1"}


def test_gains_are_measured_on_tested_opportunities_with_their_worth(fitted):
    model, market, _, check = fitted
    tested = value_tested(check.predictions, model, market)
    assert len(tested) == (check.predictions["weight"] > 0).sum()
    assert (tested["worth"] > 0).all()
    assert value_tested(check.predictions.iloc[:0], model, market).empty
