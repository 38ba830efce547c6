"""The team's own segmentation is a candidate like any other: read from a column or rules, and judged by the same gates."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from icplab import segments
from icplab.core.config import Settings
from tests.test_segments import QUICK, two_groups

N = 300


@pytest.fixture(scope="module")
def made():
    """Two planted groups, of which one wins more; a column that knows them and one that is drawn by lot."""
    accounts, catalogue, group = two_groups(N)
    rng = np.random.default_rng(8)
    accounts["known"] = pd.array(np.array(["plants", "offices"])[group], dtype="str")
    accounts["lot"] = pd.array(rng.choice(["north", "south"], N), dtype="str")
    won = rng.random(N) < np.array([0.2, 0.6])[group]
    accounts = accounts.assign(n_won=won * 1.0, n_lost=~won * 1.0, is_customer=won, intent_30d=0.0)
    extra = pd.DataFrame({"trait": ["known", "lot"], "kind": "category"}).astype("str")
    extra = extra.assign(table="accounts", role="", family="firmographic", excluded=False, fill_rate=1.0)
    deals = pd.DataFrame(
        {
            "opportunity_id": [f"o{i}" for i in range(N)],
            "account_id": accounts["account_id"],
            "status": np.where(won, "won", "lost"),
            "created_at": pd.Timestamp("2026-01-01"),
            "source": "web",
            "acv": 1000.0 * (1 + group) + rng.random(N),
            "cycle_days": 30.0,
        }
    )
    return accounts.assign(n_roles=1.0), pd.concat([catalogue, extra], ignore_index=True), deals, group


def judged(made, draft: dict):
    accounts, catalogue, deals, _ = made
    settings = replace(Settings(), playbook={"draft": draft})
    found = segments.fit_segments(accounts, catalogue, **{**QUICK, "settings": settings})
    team = segments.read_draft(found, accounts, settings=settings)
    stability = segments.measure_stability(found, accounts, seed=1, resamples=3)
    gates = segments.judge_draft(
        team, found, accounts, deals, catalogue=catalogue, settings=settings, stability=stability
    )
    return found, team, gates


@pytest.fixture(scope="module")
def by_column(made):
    return {c: judged(made, {"column": c}) for c in ("known", "lot")}


@pytest.fixture(scope="module")
def found(made):
    return segments.fit_segments(made[0], made[1], **QUICK)


class TestColumn:
    def test_it_is_compared_with_and_never_fitted_to(self, by_column):
        found, _, _ = by_column["known"]
        read = [e["trait"] for e in [*found.assigner["recipe"]["numbers"], *found.assigner["recipe"]["discrete"]]]
        assert "known" not in read
        assert "known" in set(segments.left_out(found)["trait"])

    def test_a_draft_that_knows_the_groups_gains_as_much_as_the_one_found_and_differs_in_value(self, by_column):
        gates = by_column["known"][2].set_index("gate")
        assert gates.loc["exists", "draft"] == pytest.approx(gates.loc["exists", "found"], rel=0.1)
        assert gates.loc[["describable", "value"], "draft_passes"].tolist() == [True, True]

    def test_a_draft_drawn_by_lot_fails_on_existence_filters_and_value(self, by_column):
        gates = by_column["lot"][2].set_index("gate")
        assert gates.loc[["exists", "value"], "draft_passes"].tolist() == [False, False]
        assert gates.loc["exists", "draft"] < 0 < gates.loc["exists", "found"]

    def test_what_explains_the_gain_otherwise_stands_against_both(self, made, by_column):
        found, team, _ = by_column["known"]
        why = "one smooth continuum reaches 99% of what the groups gain"
        curved = replace(found, verdict="reproducible", evidence={**found.evidence, "reason": why})
        given = {"catalogue": made[1], "settings": Settings(), "stability": None}
        gates = segments.judge_draft(team, curved, made[0], made[2], **given).set_index("gate")
        assert gates.loc["exists", ["draft_passes", "found_passes"]].tolist() == [False, False]
        assert gates.loc["exists", "says"] == why

    def test_agreement_is_one_with_the_groups_and_nothing_with_the_lot(self, by_column):
        assert segments.agreement_of(by_column["known"][1], by_column["known"][0]) > 0.9
        assert abs(segments.agreement_of(by_column["lot"][1], by_column["lot"][0])) < 0.1

    def test_the_difference_shows_where_every_account_went(self, by_column):
        found, team, _ = by_column["known"]
        table = segments.compare_draft(team, found)
        assert table["accounts"].sum() == N
        assert table.groupby("draft")["share_of_draft"].sum().tolist() == pytest.approx([1, 1], abs=1e-3)

    def test_the_finding_names_the_gates_that_the_draft_fails(self, by_column):
        found, team, gates = by_column["lot"]
        told = segments.draft_findings(team, gates, segments.agreement_of(team, found))
        assert [f.code for f in told] == ["draft-compared"]
        assert "no more alike inside than a cut through a market without groups" in told[0].sentence

    def test_best_customers_are_located_where_they_bought(self, made, by_column):
        accounts, _, deals, group = made
        table = segments.locate_best_customers(by_column["known"][1].segmentation, accounts, deals)
        row = table.set_index("segment").loc["offices"]  # deals of that group are twice as large
        assert row["share_of_best"] == 1.0
        assert row["index"] == pytest.approx(N / (group == 1).sum(), abs=0.01)


class TestRules:
    def test_the_first_rule_that_holds_counts_and_the_rest_is_outside(self, made):
        accounts = made[0]
        rules = [
            {
                "name": "big energy",
                "where": [{"trait": "employees", "from": 100}, {"trait": "industry", "one_of": ["energy"]}],
            },
            {"name": "small", "where": [{"trait": "employees", "below": 100}]},
        ]
        found, team, _ = judged(made, {"segments": rules})
        label = team.segmentation.assignments.set_index("account_id")["segment"]
        frame = accounts.set_index("account_id")
        assert (
            label.index[label == "big energy"] == frame.query("employees >= 100 and industry == 'energy'").index
        ).all()
        assert (label == "small").sum() == (frame["employees"] < 100).sum()
        outside = segments.compare_draft(team, found).query("draft == 'outside the draft'")["accounts"].sum()
        assert outside == (frame.eval("employees >= 100 and industry != 'energy'")).sum()

    @pytest.mark.parametrize(
        ("draft", "says"),
        [
            ({"column": "absent"}, "no column absent"),
            ({"column": "account_id"}, "has 300 values"),
            ({"segments": [{"name": "x", "where": [{"trait": "nowhere", "from": 1}]}]}, "no trait nowhere"),
            ({"segments": [{"name": "x", "where": [{"trait": "employees", "above": 1}]}]}, "needs one of"),
            ({"segments": [{"name": "x", "where": [{"trait": "employees", "one_of": ["a"]}]}]}, "is a number"),
            ({"segments": [{"name": "x", "where": [{"trait": "industry", "from": 3}]}]}, "is not a number"),
            ({"segments": [{"name": "x", "where": [{"trait": "employees", "from": "many"}]}]}, "is not a number"),
            ({"segments": ["x"]}, "no list of conditions"),
            ({}, "neither a column nor segments"),
        ],
    )
    def test_what_cannot_be_read_is_told_and_stops_nothing(self, made, found, draft, says):
        settings = replace(Settings(), playbook={"draft": draft})
        team = segments.read_draft(found, made[0], settings=settings)
        assert team.segmentation is None
        assert says in team.problems[0]
        assert segments.draft_findings(team, pd.DataFrame(), None)[0].code == "draft-unread"

    def test_without_a_draft_there_is_nothing_to_compare(self, made, found):
        team = segments.read_draft(found, made[0], settings=Settings())
        assert team.segmentation is None
        assert team.problems == ()
        assert segments.compare_draft(team, found).empty
