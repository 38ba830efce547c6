"""Tiers that stay unless it is sure, people's overrides, what sliders would do, and the pipeline before and after."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from icplab.core.config import Capacity, Settings
from icplab.tiers import (
    check_overrides,
    compare_pipeline,
    hold_tiers,
    list_fast_leads,
    list_now,
    override_tiers,
    preview_tiers,
    read_overrides,
)
from icplab.tiers.cuts import readable_cut
from tests.made_market import AS_OF, SETTINGS, make_market, tiered


@pytest.fixture(scope="module")
def fitted():
    return tiered(make_market())


def scores(tiers: list[str], confidence: list[float], value: list[float] | None = None) -> pd.DataFrame:
    """Scores with just what holding looks at."""
    n = len(tiers)
    return pd.DataFrame(
        {
            "account_id": [f"a{k}" for k in range(n)],
            "tier": tiers,
            "tier_confidence": confidence,
            "win_probability": 0.5,
            "expected_value": value or [float(n - k) for k in range(n)],
            "flags": "",
        }
    ).astype({"tier": "str", "flags": "str", "account_id": "str"})


def test_an_account_moves_at_once_when_it_is_sure_and_stays_when_it_is_not():
    now = scores(["tier_1", "tier_2", "tier_3", "tier_2", "tier_3"], [0.9, 0.6, 0.6, 0.8, 0.6])
    before = scores(["tier_2", "tier_1", "tier_1", "tier_3", "tier_3"], [0.9] * 5)
    held = hold_tiers(now, before, Settings())
    # a0 sure: moves; a1 unsure: keeps tier_1; a2 was two tiers away: moves; a3 sure: moves; a4 did not change.
    assert held["tier"].tolist() == ["tier_1", "tier_1", "tier_3", "tier_2", "tier_3"]
    assert held["flags"].tolist() == ["", "held_tier", "", "", ""]
    pd.testing.assert_frame_equal(hold_tiers(now, None, Settings()), now)


def test_holding_never_exceeds_the_capacity_and_the_least_valuable_give_way():
    now = scores(["tier_1", "tier_2", "tier_2", "tier_2"], [0.9, 0.5, 0.5, 0.5], [9.0, 3.0, 2.0, 1.0])
    before = scores(["tier_1"] * 4, [0.9] * 4)
    held = hold_tiers(now, before, Settings(capacity=Capacity(tier_1=2)))
    assert held["tier"].tolist() == ["tier_1", "tier_1", "tier_2", "tier_2"]


def test_holding_reduces_migration_between_two_quarters_that_differ_by_chance(fitted):
    now, before = fitted[2], tiered(make_market(seed=4))[2]
    held = hold_tiers(now, before, SETTINGS)
    ranked = now["tier"] == before["tier"]
    assert ((held["tier"] == before["tier"]) & ~ranked).any()
    assert not ((held["tier"] != now["tier"]) & ranked).any()


def playbook(*entries: dict) -> Settings:
    return Settings(playbook={"overrides": list(entries)})


GOOD = {
    "account_id": "a1",
    "tier": "tier_1",
    "reason": "new CIO",
    "by": "Kim",
    "set_on": "2026-05-01",
    "expires": "2026-09-30",
}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"reason": ""}, "no reason"),
        ({"expires": "soon"}, "no valid set_on or expires"),
        ({"expires": "2026-04-01"}, "expires before it was set"),
        ({"tier": "gold"}, "names no tier"),
        ({"account_id": "a99"}, "names an account that is not there"),
    ],
)
def test_an_override_that_is_incomplete_is_not_followed_and_said(change, said):
    table, wrong = read_overrides(playbook({**GOOD, **change}), pd.Series(["a0", "a1"]))
    assert table.empty
    assert said in wrong[0].sentence


def test_an_override_holds_from_the_day_it_was_set_until_it_expires():
    now = scores(["tier_2", "tier_3"], [0.9, 0.9])
    table, wrong = read_overrides(playbook(GOOD), now["account_id"])
    assert not wrong
    assert override_tiers(now, table, pd.Timestamp("2026-06-30"))["tier"].tolist() == ["tier_2", "tier_1"]
    assert override_tiers(now, table, pd.Timestamp("2026-06-30"))["flags"].tolist() == ["", "override"]
    for day in ("2026-04-30", "2026-10-01"):
        pd.testing.assert_frame_equal(override_tiers(now, table, pd.Timestamp(day)), now)


def test_raised_accounts_that_win_more_than_expected_prove_people_right():
    now = scores(["tier_3"] * 3, [0.9] * 3).assign(win_probability=[0.1, 0.1, 0.1])
    table, _ = read_overrides(playbook(GOOD, {**GOOD, "account_id": "a2"}), now["account_id"])
    deals = pd.DataFrame(
        {
            "account_id": ["a1"] * 6 + ["a2"] * 6 + ["a0"] * 5,
            "created_at": pd.Timestamp("2026-06-01").as_unit("us"),
            "status": ["won"] * 5 + ["lost"] + ["won"] * 4 + ["lost", "open"] + ["lost"] * 5,
        }
    )
    row = check_overrides(table, now, deals).set_index("direction").loc["raised"]
    assert (row["overrides"], row["n"], row["won"], row["verdict"]) == (2, 11, 9, "people")
    assert row["predicted"] == pytest.approx(0.1)
    none = check_overrides(table.iloc[:0], now, deals)
    assert none["n"].tolist() == [0, 0]
    few = check_overrides(table, now, deals.iloc[:1]).set_index("direction").loc["lowered"]
    assert few["verdict"] == "not enough evidence"


@pytest.mark.parametrize(
    ("inside", "outside", "cut"),
    [
        (1234.56, 1180.0, 1200.0),
        (1234.56, 1234.1, 1234.5),
        (0.052, 0.031, 0.05),
        (1000.0, 999.0, 1000.0),
        (7.0, -np.inf, 7.0),
    ],
)
def test_a_cut_is_the_roundest_number_that_moves_nobody(inside, outside, cut):
    assert readable_cut(inside, outside) == cut


def test_sliders_give_what_set_tiers_gives_and_answer_at_once(fitted):
    model, _, scored, _ = fitted
    shown = preview_tiers(
        scored["expected_value"].to_numpy(), scored["win_probability"].to_numpy(), {}, 0.0, scored["tier"].to_numpy()
    ).set_index("tier")
    counts = scored["tier"].value_counts()
    assert shown.loc[counts.index, "accounts"].tolist() == counts.tolist()
    assert shown["moved_in"].sum() == shown["moved_out"].sum() == 0
    assert shown.loc["tier_1", "cut"] == model.cuts["tier_1"]
    rng = np.random.default_rng(0)
    values, chance = rng.lognormal(8, 1, 10_000), rng.random(10_000)
    other = preview_tiers(values, chance, {"tier_1": 500, "tier_2": 1500}, 1200.0).set_index("tier")
    assert other["accounts"].to_dict() == {
        "tier_1": 500,
        "tier_2": 1500,
        "tier_3": int((values >= 1200).sum()) - 2000,
        "not_icp": int((values < 1200).sum()),
    }
    assert (other.loc[["tier_1", "tier_2", "tier_3"], "marginal"] >= 1200).all()


def test_the_smaller_pipeline_yields_more_per_opportunity(fitted):
    model, market, _, check = fitted
    table = compare_pipeline(check.predictions, model, market, SETTINGS, 1).set_index("pipeline")
    assert table.loc["after", "opportunities"] < table.loc["before", "opportunities"]
    assert table.loc["after", "low"] > table.loc["before", "yield_per_opportunity"]
    assert 0.5 < table.loc["after", "share_of_value"] < 1
    assert compare_pipeline(check.predictions.iloc[:0], model, market, SETTINGS, 1).empty
    assert compare_pipeline(check.predictions, replace(model, verdict="no-usable-ranking"), market, SETTINGS, 1).empty


def test_leads_of_the_best_tiers_wait_least_and_decided_ones_are_left_out(fitted):
    scored = fitted[2].assign(intent_score=0.0)
    best, last = scored[scored["tier"] == "tier_1"].iloc[0], scored[scored["tier"] == "tier_3"].iloc[0]
    leads = pd.DataFrame(
        {
            "lead_id": ["L1", "L2", "L3"],
            "account_id": [best["account_id"], best["account_id"], last["account_id"]],
            "created_at": AS_OF - pd.Timedelta(days=4),
            "accepted_at": [pd.NaT, AS_OF, pd.NaT],
            "disqualified_at": pd.NaT,
            "opportunity_id": [None, None, None],
        }
    )
    listed = list_fast_leads(leads, scored, AS_OF)
    assert listed["lead_id"].tolist() == ["L1"]
    assert listed["waiting_days"].tolist() == [4.0]


def test_right_now_says_how_old_the_signal_is(fitted):
    scored = fitted[2].assign(intent_score=80.0)
    accounts = make_market().accounts.assign(last_activity_at=AS_OF - pd.Timedelta(days=9))
    assert set(list_now(scored, accounts, AS_OF)["signal_age_days"]) == {9.0}
