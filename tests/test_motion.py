"""Journey, plays, sellers, impact of the ICP and the landscape: counted by hand on a few accounts."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from icplab.core.config import Plan, Privacy, Settings
from icplab.core.schema import CANONICAL
from icplab.performance import impact, journey, landscape, plays, sellers

AS_OF = pd.Timestamp("2026-06-30").as_unit("us")
SETTINGS = Settings(plan=Plan(minimum_n=2, minimum_n_money=2, horizon_days=100))
NAMES = {"S1": "Small", "S2": "Large"}


def day(ago: int | None) -> pd.Timestamp | None:
    return None if ago is None else AS_OF - pd.Timedelta(days=ago)


def deals(rows: list[dict]) -> pd.DataFrame:
    """Opportunities; `created` and `closed` are days before the as-of date."""
    frame = pd.DataFrame(rows)
    usual = {
        "closed": None,
        "status": "won",
        "owner": "kim",
        "acv": 100.0,
        "play": None,
        "source": "web",
        "product": "core",
    }
    for column, value in {**usual, "loss_reason": None}.items():
        frame[column] = frame[column].where(frame[column].notna(), value) if column in frame else value
    frame["opportunity_id"] = [f"o{i}" for i in range(len(frame))]
    frame["family_id"] = frame["account_id"]
    for column in ("created", "closed"):
        frame[f"{column}_at"] = pd.Series([day(None if pd.isna(a) else int(a)) for a in frame[column]]).astype(
            "datetime64[us]"
        )
    texts = ["status", "owner", "play", "source", "product", "loss_reason"]
    return frame.drop(columns=["created", "closed"]).astype(dict.fromkeys(texts, "str"))


def table(name: str, rows: list[dict]) -> pd.DataFrame:
    empty = CANONICAL[name].empty()
    frame = pd.DataFrame(rows).reindex(columns=list(empty))
    return frame.astype(empty.dtypes.to_dict())


class TestSellers:
    opportunities = deals(
        [
            {"account_id": "a1", "created": 300, "closed": 200, "owner": "kim", "acv": 600.0},
            {"account_id": "a2", "created": 300, "closed": 200, "owner": "kim", "status": "lost"},
            {"account_id": "a1", "created": 100, "closed": 50, "owner": "lee", "acv": 200.0},
            {"account_id": "a2", "created": 90, "owner": "lee", "status": "open"},
            {"account_id": "a1", "created": 900, "closed": 800, "owner": "kim", "acv": 9999.0},  # before the year
        ]
    )
    owners = table(
        "owners",
        [
            {"owner": "kim", "quota": 1000.0},
            {"owner": "lee", "quota": 1000.0, "active_from": day(73)},  # a fifth of the year
        ],
    )
    tier = pd.Series({"a1": "tier_1", "a2": "tier_3"})

    def found(self) -> pd.DataFrame:
        shown = Settings(plan=Plan(minimum_n=2), privacy=Privacy(show_owners=True))
        return sellers.measure_sellers(self.opportunities, self.owners, self.tier, shown, AS_OF).set_index("owner")

    def test_attainment_is_the_value_won_in_the_year_over_the_quota_of_the_days_worked(self):
        found = self.found()
        assert found.loc["kim", ["quota", "won_value", "attainment"]].tolist() == [1000, 600, 0.6]
        assert found.loc["lee", ["quota", "won_value", "attainment"]].tolist() == pytest.approx([200, 200, 1.0])

    def test_the_mix_is_of_opportunities_that_were_open_in_the_year(self):
        found = self.found()
        assert found.loc["kim", ["worked", "won", "tier_1", "tier_3"]].tolist() == [2, 1, 0.5, 0.5]
        # An opportunity of tier 1 brought 400 on average, one of tier 3 nothing.
        assert found.loc["kim", "expected"] == pytest.approx(0.4)
        assert found.loc["lee", "expected"] == pytest.approx(2.0)

    def test_one_win_says_little_about_a_seller(self):
        row = self.found().loc["kim"]  # one of one win: relative spread 1
        assert row[["low", "high"]].tolist() == pytest.approx([0.6 * np.exp(-1.96), 0.6 * np.exp(1.96)])

    def test_names_are_numbers_unless_they_may_be_shown(self):
        found = sellers.measure_sellers(self.opportunities, self.owners, self.tier, SETTINGS, AS_OF)
        assert found["owner"].tolist() == ["owner 01", "owner 02"]

    def test_few_sellers_are_not_enough_evidence_and_many_in_order_are(self):
        base = {"status": "ok", "tier_2": 0.0}
        six, twelve = (
            pd.DataFrame([{**base, "tier_1": i / 20, "attainment": 0.5 + i / 10} for i in range(n)]) for n in (6, 12)
        )
        (few,), (many,) = (list(sellers.find_seller_mix(t)) for t in (six, twelve))
        assert "not enough evidence" in few.sentence
        assert many.sentence.startswith("Sellers who worked more of tiers 1 and 2 reached more")
        assert many.numbers["rank_correlation"] == pytest.approx(1.0)


class TestJourney:
    opportunities = deals(
        [
            {"account_id": "a1", "created": 400, "closed": 350, "status": "won"},
            {"account_id": "a2", "created": 400, "closed": 380, "status": "lost", "loss_reason": "price"},
            {"account_id": "a3", "created": 400, "closed": 360, "status": "lost", "loss_reason": "timing"},
            {"account_id": "a1", "created": 300, "closed": 290, "status": "won", "product": "plus"},
            {"account_id": "a3", "created": 5, "status": "open"},
        ]
    )
    history = table(
        "stage_history",
        [
            *({"opportunity_id": f"o{i}", "stage": "new", "entered_at": day(400)} for i in range(3)),
            {"opportunity_id": "o0", "stage": "offer", "entered_at": day(380)},
            {"opportunity_id": "o2", "stage": "offer", "entered_at": day(370)},
        ],
    )
    leads = table(
        "leads",
        [
            {"lead_id": "l1", "created_at": day(410), "account_id": "a1", "source": "web", "opportunity_id": "o0"},
            {"lead_id": "l2", "created_at": day(410), "account_id": "a9", "source": "mail"}
            | {"disqualified_at": day(400), "disqualification_reason": "no budget"},
        ],
    )
    content = table("content", [{"asset_id": "m1", "name": "x", "segment": "S1", "stage": "purchase"}])

    def found(self) -> pd.DataFrame:
        names = ("opportunity_contacts", "leads", "stage_history", "content")
        tables = {n: CANONICAL[n].empty() for n in names}
        tables |= {"leads": self.leads, "stage_history": self.history, "content": self.content}
        level = pd.Series("S1", index=["a1", "a2", "a3", "a9"])
        settings = Settings(plan=Plan(minimum_n=2, horizon_days=100), playbook={"stages": {"purchase": ["Offer"]}})
        found = journey.measure_journey(
            self.opportunities, {"segment": level}, tables, settings, AS_OF, {"S1": "Small"}
        )
        assert set(found["level"]) == {"Small"}
        return found.set_index("part")

    def test_every_part_counts_who_entered_and_who_passed_in_time(self):
        found = self.found()
        assert found.index.tolist() == ["awareness", "evaluation", "purchase", "expansion"]
        assert found.loc["awareness", ["n", "value"]].tolist() == [2, 0.5]
        # Entered a hundred days ago or more: o0, o1, o2 and o3; o3 has no history and passed by being won.
        assert found.loc["evaluation", ["n", "value"]].tolist() == [4, 0.75]
        assert found.loc["purchase", ["n", "value"]].tolist() == [3, pytest.approx(2 / 3)]
        assert found.loc["expansion", ["n", "value", "median_days"]].tolist() == [1, 1.0, 60]

    def test_without_leads_and_history_the_rest_of_the_journey_is_measured(self):
        tables = {name: table.empty() for name, table in CANONICAL.items()}
        level = pd.Series("S1", index=["a1", "a2", "a3", "a9"])
        for rows, parts in (
            (self.opportunities, {"evaluation", "purchase", "expansion"}),
            (self.opportunities[:0], set()),
        ):
            found = journey.measure_journey(rows, {"segment": level}, tables, SETTINGS, AS_OF)
            assert set(found["part"]) == parts

    def test_it_says_why_they_fall_out_and_what_content_there_is(self):
        found = self.found()
        assert found["lost_because"].fillna("").tolist() == [
            "no budget (100\u202f%)",
            "price (100\u202f%)",
            "timing (100\u202f%)",
            "",
        ]
        assert found["content"].tolist() == [0, 0, 1, 0]
        assert found["status"].tolist() == ["ok", "ok", "ok", "insufficient"]


class TestPlays:
    scores = pd.DataFrame(
        {"account_id": ["a1", "a2", "a3"], "segment": "Small", "tier": ["tier_1", "tier_1", "tier_2"]}
    )
    accounts = pd.DataFrame({"account_id": ["a1", "a2", "a3"], "family_id": ["a1", "a2", "a3"]})

    def test_the_meeting_rate_counts_accounts_and_meetings_that_were_held(self):
        rows = [
            ("a1", "trial", "meeting", "held"),
            ("a1", "trial", "call", None),
            ("a2", "trial", "Meeting", "missed"),
            ("a2", "workshop", "demo", None),
            ("a3", "trial", "email", None),
        ]
        played = pd.DataFrame(rows, columns=["account_id", "play", "type", "outcome"]).astype("str").assign(events=1)
        found = plays.measure_meetings(played, self.scores, self.accounts, SETTINGS)
        by = found.set_index(["segment", "tier", "play"])
        assert by.loc[("Small", "tier_1", "trial"), ["n", "met", "value"]].tolist() == [2, 1, 0.5]
        assert by.loc[("Small", "tier_1", "workshop"), ["n", "met"]].tolist() == [1, 1]
        assert by.loc[("Small", "tier_2", "trial"), "value"] == 0
        assert by.loc[("Small", "tier_1", "workshop"), "pooled"] < 1, "a cell of one is drawn towards the others"

    def test_without_activities_that_name_a_play_the_table_is_empty(self):
        played = pd.DataFrame(columns=["account_id", "play", "type", "outcome", "events"])
        assert plays.measure_meetings(played, self.scores, self.accounts, SETTINGS).empty

    def test_expansion_belongs_to_the_play_of_the_first_win(self):
        opportunities = deals(
            [
                {"account_id": "a1", "created": 500, "closed": 450, "play": "trial"},
                {"account_id": "a2", "created": 500, "closed": 450, "play": "trial"},
                {"account_id": "a3", "created": 500, "closed": 450, "play": "workshop"},
                {"account_id": "a1", "created": 100, "closed": 50, "play": "workshop"},
                {"account_id": "a3", "created": 100, "closed": 50, "play": "workshop", "status": "lost"},
            ]
        )
        rows = [("a1", 440, None, 100.0), ("a1", 50, None, 50.0), ("a2", 440, 20, 100.0), ("a3", 440, None, 10.0)]
        subscriptions = table(
            "subscriptions",
            [
                {"subscription_id": f"s{i}", "account_id": a, "started_at": day(s), "ended_at": day(e), "mrr": m}
                for i, (a, s, e, m) in enumerate(rows)
            ],
        )
        found = plays.measure_plays(opportunities, subscriptions, SETTINGS, AS_OF, 1).set_index("play")
        assert found.loc["trial", ["n", "win_rate", "customers", "expansion"]].tolist() == [
            2,
            1.0,
            2,
            0.25,
        ]  # 50 of 200
        assert found.loc["workshop", ["n", "customers", "expansion"]].tolist() == [3, 1, 0.0]
        assert found.loc["workshop", "win_rate"] == pytest.approx(2 / 3)
        assert found.loc["workshop", "expansion_status"] == "insufficient"


class TestImpact:
    def found(self, inside: int, outside: int, days: tuple[int, int] = (5, 20)) -> pd.DataFrame:
        """Of a hundred accounts on either side, so many won; leads are qualified after so many days."""
        ids = [f"a{i:03d}" for i in range(200)]
        wins = [i < inside if i < 100 else i - 100 < outside for i in range(200)]
        opportunities = deals(
            [
                {"account_id": a, "created": 200, "closed": 100, "status": "won" if w else "lost"}
                for a, w in zip(ids, wins, strict=True)
            ]
        )
        leads = table(
            "leads",
            [
                {"lead_id": f"l{a}", "account_id": a, "created_at": day(200)}
                | {"qualified_at": day(200 - days[i >= 100] - i % 3), "accepted_at": day(100)}
                for i, a in enumerate(ids)
            ],
        )
        scores = pd.DataFrame({"account_id": ids, "icp": ["yes"] * 100 + ["no"] * 100})
        accounts = pd.DataFrame({"account_id": ids, "family_id": ids})
        signals = pd.DataFrame({"account_id": ids, "type": ["meeting"] * 100 + ["email"] * 100})
        tables = {"leads": leads, "feedback": CANONICAL["feedback"].empty()}
        return impact.measure_impact(opportunities, scores, accounts, tables, signals, SETTINGS, AS_OF, 1).set_index(
            "measure"
        )

    def test_inside_and_outside_are_counted_and_their_difference_judged(self):
        row = self.found(60, 20).loc["closed opportunities that are won"]
        assert row[["one", "n", "other", "n_other"]].tolist() == [0.6, 100, 0.2, 100]
        assert row["difference"] == pytest.approx(0.4)
        assert 0.2 < row["difference_low"] < 0.4 < row["difference_high"] < 0.6
        assert row["verdict"] == "better"

    def test_a_small_difference_is_not_enough_evidence(self):
        assert self.found(25, 20).loc["closed opportunities that are won", "verdict"] == "not enough evidence"

    def test_fewer_days_to_qualify_are_better_and_more_are_worse(self):
        measure = "days from first contact to qualified, median"
        quick, slow = self.found(20, 20).loc[measure], self.found(20, 20, days=(20, 5)).loc[measure]
        assert quick[["one", "other", "difference", "verdict"]].tolist() == [6, 21, -15, "better"]
        assert slow["verdict"] == "worse"

    def test_what_was_not_delivered_has_no_figure(self):
        row = self.found(20, 20).loc["sales calls the fit good"]
        assert row["n"] == 0
        assert np.isnan(row["one"])
        assert row["verdict"] == "not enough evidence"

    def test_conversions_come_in_the_order_of_the_funnel(self):
        steps = ["qualified to accepted", "accepted to won", "lead to qualified"]
        base = {"cut": "tier", "level": "tier_1", "period": "all", "kpi": "conversion", "n": 50.0, "status": "ok"}
        kpis = pd.DataFrame([{**base, "basis": s, "value": 0.5, "low": 0.4, "high": 0.6} for s in steps])
        shown = impact.show_conversions(kpis, "tier")
        assert shown["step"].tolist() == ["lead to qualified", "qualified to accepted", "accepted to won"]


class TestLandscape:
    kpis = pd.DataFrame(
        [
            ("all", "all", "win_rate", "closed", 0.3, 0.25, 0.35, 200.0, "ok"),
            ("segment", "S1", "win_rate", "closed", 0.2, 0.15, 0.25, 120.0, "ok"),
            ("segment", "S2", "win_rate", "closed", 0.5, 0.40, 0.60, 80.0, "ok"),
            ("segment", "S1", "ltv", "discounted", 900.0, 500.0, 1500.0, 70.0, "ok"),
            ("segment", "S2", "ltv", "discounted", 900.0, 500.0, 1500.0, 20.0, "insufficient"),
            ("tier", "tier_1", "win_rate", "closed", 0.6, 0.5, 0.7, 60.0, "ok"),
        ],
        columns=["cut", "level", "kpi", "basis", "value", "low", "high", "n", "status"],
    ).assign(period="all")

    def test_levels_stand_side_by_side_and_thin_figures_are_blank(self):
        table = landscape.compare_levels(self.kpis, ["segment", "tier"], NAMES).set_index("level")
        assert table.index.tolist() == ["all", "Small", "Large", "tier 1"]
        assert table.loc["Small", ["n", "win_rate", "win_rate_low", "ltv"]].tolist() == [120, 0.2, 0.15, 900]
        assert np.isnan(table.loc["Large", "ltv"])

    def test_the_landscape_puts_the_most_valuable_room_first_and_counts_demand(self):
        opportunities = deals(
            [
                *({"account_id": f"a{i}", "created": 100 + i, "closed": 50} for i in range(6)),
                *({"account_id": f"b{i}", "created": 500 + i, "closed": 450, "source": "mail"} for i in range(3)),
                {"account_id": "c", "created": 800, "closed": 700},
            ]
        )
        level = pd.Series({**{f"a{i}": "S1" for i in range(6)}, **{f"b{i}": "S1" for i in range(3)}, "c": "S2"})
        market = pd.DataFrame(
            {
                "segment_id": ["S1", "S2", "all"],
                **{c: [10.0, 20.0, 30.0] for c in ("market_accounts", "low", "high", "whitespace_accounts")},
                "penetration": [0.5, 0.1, 0.2],
                "whitespace_value": [100.0, 900.0, 1000.0],
            }
        )
        found = landscape.compare_landscape(self.kpis, market, opportunities, level, NAMES, AS_OF)
        assert found["segment"].tolist() == ["Large", "Small"]
        small = found.set_index("segment").loc["Small"]
        assert small[["opened", "growth", "mostly_from", "win_rate"]].tolist() == [6, 1.0, "web", 0.2]  # 6 against 3
        spread = np.exp(1.96 * np.sqrt(1 / 6 + 1 / 3))
        assert small[["growth_low", "growth_high"]].tolist() == pytest.approx([2 / spread - 1, 2 * spread - 1])

    def test_every_column_that_is_printed_has_a_format_that_fits(self):
        table = landscape.compare_levels(self.kpis, ["segment"], NAMES)
        printed = landscape.print_levels(table)
        assert set(printed["formats"]) <= set(table)
        assert set(printed["labels"]) <= set(table)
