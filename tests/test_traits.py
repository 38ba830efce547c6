"""Traits: what was planted is found, what was not is not, leaks are caught by timing, and profiles say what is measured."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from icplab import features, traits
from icplab.core.config import Settings, Trait
from icplab.core.schema import check_artefact
from icplab.core.stats.linear import residual_variance
from icplab.simulate import Recipe, simulate_market
from icplab.traits import effects
from icplab.traits.levels import code_levels, read_traits
from icplab.traits.outcomes import observe

AS_OF = pd.Timestamp("2026-06-30")


class Walk:
    """One market through the stage, with the planted segments as the map."""

    def __init__(self, scenario: str, seed: int, accounts: int, recipe: Recipe | None = None) -> None:
        market = simulate_market(accounts=accounts, seed=seed, scenario=scenario, vary=recipe is None, recipe=recipe)
        self.truth, self.tables, self.settings = market.truth, market.tables, Settings()
        self.accounts = features.build_accounts(market.tables, self.settings, AS_OF)
        self.opportunities = features.build_opportunities(market.tables, self.settings, AS_OF)
        self.catalogue = features.build_catalogue(market.tables, self.settings)
        planted = market.truth.accounts.set_index("account_id")["segment"]
        segment = planted.reindex(self.accounts["account_id"]).to_numpy()
        self.members = pd.DataFrame(
            {"account_id": self.accounts["account_id"], "segment_id": segment, "segment": segment, "membership": 1.0}
        )
        counts = self.members.groupby(["segment_id", "segment"]).size().reset_index(name="accounts")
        self.segments = counts.assign(share=lambda f: f["accounts"] / f["accounts"].sum(), rule="")
        self.audit = self.audited(self.settings)
        self.traits = self.measured()

    def audited(self, settings: Settings) -> pd.DataFrame:
        history = self.tables["field_history"]
        frames = (self.opportunities, self.accounts, self.catalogue)
        return traits.audit_leaks(*frames, settings, as_of=AS_OF, field_history=history, segments=self.members)

    def measured(self, opportunities: pd.DataFrame | None = None, accounts: pd.DataFrame | None = None) -> pd.DataFrame:
        return traits.measure_traits(
            self.opportunities if opportunities is None else opportunities,
            self.accounts if accounts is None else accounts,
            *(self.catalogue, self.members, self.settings),
            as_of=AS_OF,
            audit=self.audit,
            subscriptions=self.tables["subscriptions"],
        )

    def icps(self) -> list[dict]:
        frames = (self.traits, self.segments, self.members, self.opportunities, self.accounts, self.catalogue)
        return traits.draft_icps(*frames, self.settings, as_of=AS_OF, tables=self.tables)


@pytest.fixture(scope="module")
def clean() -> Walk:
    return Walk("clean", seed=4, accounts=1200)


@pytest.fixture(scope="module")
def leaky() -> Walk:
    return Walk("leak", seed=4, accounts=1000)


def supported(table: pd.DataFrame, outcome: str = "win") -> set[tuple[str, str]]:
    rows = table[(table["verdict"] == "supported") & (table["outcome"] == outcome) & (table["scope"] == "all")]
    return set(zip(rows["trait"], rows["level"], strict=True))


class TestVerdicts:
    def test_what_is_supported_was_planted_with_that_sign(self, clean):
        planted = clean.truth.traits.set_index(["trait", "level"])["log_odds_ratio"]
        found = supported(clean.traits)
        assert len(found) >= 4, "of ten planted traits, at half of the wins of the benchmark"
        false = [f for f in found if planted.get(f, 0) == 0]
        assert len(false) <= 1
        rows = clean.traits.query("outcome == 'win' and scope == 'all' and verdict == 'supported'")
        signs = {(t, v): d for t, v, d in zip(rows["trait"], rows["level"], rows["direction"], strict=True)}
        assert all((planted[f] > 0) == (signs[f] == "+") for f in found if f not in false)

    def test_what_only_follows_the_segment_vanishes_when_adjusted(self, clean):
        rows = clean.traits.query("outcome == 'win' and scope == 'all' and trait == 'employees' and level == 'trend'")
        assert rows["low"].iloc[0] > 1, "larger accounts win more, because their segment does"
        assert rows["adjusted_low"].iloc[0] < 1 < rows["adjusted_high"].iloc[0]
        assert rows["verdict"].iloc[0] != "supported"

    def test_nothing_goes_with_value_but_the_segment(self, clean):
        assert supported(clean.traits, "value") == set()

    def test_what_is_offered_is_no_trait_of_who_wins(self, clean):
        assert clean.opportunities["product"].nunique() > 1
        assert set(clean.traits.loc[clean.traits["trait"] == "product", "outcome"]) <= {"cycle"}

    def test_a_market_of_noise_supports_nothing(self):
        assert not (Walk("null", seed=2, accounts=500).traits["verdict"] == "supported").any()

    def test_few_wins_are_said_to_be_insufficient(self):
        rare = Walk("clean", seed=1, accounts=1000, recipe=Recipe(win_rate=0.03))
        winning = rare.traits.query("outcome == 'win' and scope == 'all'")
        assert not (winning["verdict"] == "supported").any()
        assert winning.empty or (winning["verdict"] == "insufficient").mean() > 0.9

    def test_the_table_is_the_declared_artefact(self, clean):
        again = check_artefact("traits", clean.traits)
        assert not again.duplicated(["scope", "trait", "level", "outcome"]).any()
        judged = again[again["verdict"] == "supported"]
        assert (judged["q_value"] <= clean.settings.plan.fdr).all()
        assert ((judged["adjusted_low"] > 1) | (judged["adjusted_high"] < 1)).all()

    def test_shrunken_effects_lie_between_one_and_the_adjusted(self, clean):
        rows = clean.traits.dropna(subset=["adjusted", "shrunken"])
        shrunk, adjusted = np.log(rows["shrunken"]), np.log(rows["adjusted"])
        assert (np.abs(shrunk) <= np.abs(adjusted) + 1e-9).all()
        assert (shrunk * adjusted >= -1e-12).all()

    def test_crude_figures_are_plain_counts(self, clean):
        flag = clean.catalogue.query("kind == 'flag'")["trait"].iloc[0]
        row = clean.traits.query("outcome == 'win' and scope == 'all' and trait == @flag").iloc[0]
        closed = clean.opportunities[clean.opportunities["status"].isin(["won", "lost"])].merge(
            clean.accounts, on="account_id"
        )
        known = closed[closed[flag].notna()]
        won = known.groupby(known[flag].astype(bool))["status"].agg(lambda s: (s == "won").mean())
        assert row["n"] == len(known)
        assert row["support"] == known[flag].sum()
        assert row["rate_diff"] == pytest.approx(won[True] - won[False])

    def test_row_order_changes_nothing(self, clean, monkeypatch):
        monkeypatch.setattr(effects, "OUTCOMES", ("win",))
        opportunities, accounts = clean.opportunities, clean.accounts
        shuffled = clean.measured(opportunities.sample(frac=1, random_state=1), accounts.sample(frac=1, random_state=2))
        pd.testing.assert_frame_equal(shuffled, clean.measured(), rtol=1e-6)

    def test_the_currency_leaves_ratios_alone(self, clean, monkeypatch):
        monkeypatch.setattr(effects, "OUTCOMES", ("value",))
        dearer = clean.measured(clean.opportunities.assign(acv=lambda f: f["acv"] * 7.5))
        columns = ["scope", "trait", "level", "outcome", "adjusted"]
        before = clean.traits.query("outcome == 'value'").reset_index(drop=True)
        pd.testing.assert_frame_equal(dearer[columns], before[columns], rtol=1e-6)


class TestSellers:
    """A star seller who owns one industry, and nobody else does: whose success it is cannot be told."""

    @staticmethod
    def sold(seed: int, *, apart: bool) -> tuple[pd.DataFrame, list]:
        """Traits and findings of 900 deals by six sellers; the star's industry is his alone, or (apart) everybody's."""
        rng = np.random.default_rng(seed)
        owner, ids = rng.integers(0, 6, 900), [f"A{i:03d}" for i in range(900)]
        his = rng.random(900) < 0.35 if apart else owner == 0
        won = rng.random(900) < np.where(his, 0.6, 0.3)
        industry = pd.Series(np.where(his, "glass", rng.choice(["steel", "wood"], 900)), dtype="str")
        accounts = pd.DataFrame(
            {"account_id": ids, "family_id": ids, "industry": industry.mask(rng.random(900) < 0.04)}
        )
        deals = empty_opportunities(ids, np.where(won, "won", "lost")).assign(owner=[f"u{o}" for o in owner])
        members = pd.DataFrame({"account_id": ids, "segment_id": "S0", "segment": "whole market", "membership": 1.0})
        catalogue = one_trait("industry", "category")
        table = traits.measure_traits(deals, accounts, catalogue, members, Settings(), as_of=AS_OF)
        audit = traits.audit_leaks(deals, accounts, catalogue, Settings(), as_of=AS_OF)
        return table, traits.findings(table, audit, [])

    def test_his_industry_is_never_claimed(self):
        for seed in range(5):
            row = (
                self.sold(seed, apart=False)[0]
                .query("outcome == 'win' and scope == 'all' and level == 'glass'")
                .iloc[0]
            )
            assert row["low"] > 1, "the plain figures show it"
            assert row["verdict"] != "supported"
            assert row["adjusted_low"] < 1 < row["adjusted_high"]

    @pytest.mark.parametrize("seed", [1, 6])
    def test_a_sentence_says_why(self, seed):
        table, found = self.sold(seed, apart=False)
        row = table.query("outcome == 'win' and scope == 'all' and level == 'glass'").iloc[0]
        assert "inseparable" in row["flags"].split(";")
        said = [f.sentence for f in found if f.code == "confounded-trait" and f.subject == "industry is glass"]
        assert len(said) == 1
        assert "cannot be told from who sold" in said[0]

    def test_an_industry_that_all_sellers_sell_to_is_claimed(self):
        table, _ = self.sold(1, apart=True)
        row = table.query("outcome == 'win' and scope == 'all' and level == 'glass'").iloc[0]
        assert row["verdict"] == "supported"
        assert "inseparable" not in row["flags"]


class TestLeaks:
    def test_columns_written_after_the_outcome_are_quarantined_and_no_others(self, leaky):
        truth = leaky.truth.columns
        leaks = set(truth.loc[truth["role"] == "leak", "column"])
        assert set(leaky.audit.loc[leaky.audit["quarantined"], "trait"]) == leaks
        assert len(leaks) == 3

    def test_a_clean_market_has_no_quarantine(self, clean):
        assert not clean.audit["quarantined"].any()

    def test_a_quarantined_trait_has_no_other_verdict(self, leaky):
        barred = set(leaky.audit.loc[leaky.audit["quarantined"], "trait"])
        rows = leaky.traits[leaky.traits["trait"].isin(barred)]
        assert set(rows["verdict"]) == {"quarantined"}
        assert set(rows["trait"]) == barred
        assert rows["adjusted"].isna().all()

    def test_a_person_can_sign_a_column_in(self, leaky):
        name = leaky.audit.loc[leaky.audit["quarantined"], "trait"].iloc[0]
        settings = replace(leaky.settings, traits={name: Trait(known_at="created", reason="asked in the first call")})
        audit = leaky.audited(settings)
        row = audit.set_index("trait").loc[name]
        assert not row["quarantined"]
        assert "signed" in row["flags"]
        said = [
            f.sentence for f in traits.findings(leaky.traits, audit, []) if f.subject == name and f.severity == "info"
        ]
        assert any("asked in the first call" in s for s in said)

    def test_each_leak_is_a_finding(self, leaky):
        found = traits.findings(leaky.traits, leaky.audit, [])
        said = {f.subject for f in found if f.code in ("leak", "missingness-leak")}
        assert said == set(leaky.audit.loc[leaky.audit["quarantined"], "trait"])

    def test_a_strong_and_tellingly_named_trait_is_not_quarantined_without_dates(self):
        rng = np.random.default_rng(7)
        won = rng.random(400) < 0.5
        ids = [f"A{i:03d}" for i in range(400)]
        accounts = pd.DataFrame(
            {
                "account_id": ids,
                "family_id": ids,
                "contract_won": pd.Series(won ^ (rng.random(400) < 0.08), dtype="boolean"),
            }
        )
        opportunities = empty_opportunities(ids, np.where(won, "won", "lost"))
        catalogue = one_trait("contract_won", "flag")
        row = traits.audit_leaks(opportunities, accounts, catalogue, Settings(), as_of=AS_OF).iloc[0]
        assert row["auc"] > 0.85
        assert row["flags"] == "suspicious"
        assert not row["quarantined"]

    @pytest.mark.parametrize("deals", [16, 60])
    def test_the_luck_of_a_few_deals_accuses_no_column(self, deals):
        rng = np.random.default_rng(deals)
        ids = [f"A{i:03d}" for i in range(deals)]
        names = [f"column_{i:03d}" for i in range(150)]
        drawn = {c: pd.Series(rng.random(deals) < 0.5, dtype="boolean").mask(rng.random(deals) < 0.3) for c in names}
        accounts = pd.DataFrame({"account_id": ids, "family_id": ids, **drawn})
        opportunities = empty_opportunities(ids, rng.permuted(np.repeat(["won", "lost"], deals // 2)))
        opportunities["created_at"] = AS_OF - pd.to_timedelta(rng.integers(100, 700, deals), unit="D")
        catalogue = pd.concat([one_trait(c, "flag") for c in names], ignore_index=True)
        audit = traits.audit_leaks(opportunities, accounts, catalogue, Settings(), as_of=AS_OF)
        assert len(audit) == len(names)
        assert audit["quarantined"].mean() <= 0.02
        assert (audit["flags"] == "suspicious").mean() <= 0.02


class TestProfiles:
    def test_every_segment_has_one_that_is_plain_json(self, clean):
        icps = clean.icps()
        assert [i["segment_id"] for i in icps] == sorted(set(clean.members["segment_id"]))
        assert json.loads(json.dumps(icps, allow_nan=False)) == icps
        for icp in icps:
            assert len(icp["qualification_rule"]["conditions"]) <= 4
            wanted = sum(c["wanted"] for c in icp["qualification_rule"]["conditions"])
            assert icp["qualification_rule"]["at_least"] <= wanted

    def test_an_account_outside_the_map_is_refused(self, clean):
        from icplab.core.errors import BadInput

        broken = replace_segments(clean, clean.segments.iloc[1:])
        with pytest.raises(BadInput, match="parent segment"):
            broken.icps()

    def test_accounts_that_meet_the_rule_win_more(self, clean):
        icps = clean.icps()
        matches = traits.match_icp(icps, clean.accounts, clean.members)
        assert matches["account_id"].tolist() == clean.accounts["account_id"].tolist()
        assert set(matches["icp"]) <= {"yes", "no", "unknown"}
        delta = traits.measure_icp_delta(
            *(matches, clean.opportunities, clean.accounts, clean.members),
            as_of=AS_OF,
            subscriptions=clean.tables["subscriptions"],
        )
        assert set(delta["outcome"]) == {"win", "value", "cycle", "retention", "expansion", "margin"}
        winning = delta[(delta["outcome"] == "win") & (delta["scope"] == "all")].iloc[0]
        assert winning["yes"] > winning["no"]
        assert winning["adjusted_low"] > 1
        assert 0 < winning["adjusted_no"] < winning["adjusted_yes"] < 1

    def test_the_lifetime_value_on_the_card_is_that_of_the_key_figures(self, clean):
        first, second = clean.segments["segment_id"].iloc[:2]
        row = {"cut": "segment", "period": "all", "kpi": "ltv", "basis": "discounted", "note": "36 months, margin 70%"}
        numbers = {"value": 81_000.456, "low": 70_000.0, "high": 95_000.0, "n": 66.0}
        kpis = pd.DataFrame(
            [
                {**row, **numbers, "level": first, "status": "ok"},
                {**row, **numbers, "level": second, "status": "insufficient"},
                {**row, **numbers, "value": 1.0, "level": first, "status": "ok", "basis": "constant_churn"},
            ]
        )
        frames = (clean.traits, clean.segments, clean.members, clean.opportunities, clean.accounts, clean.catalogue)
        icps = traits.draft_icps(*frames, clean.settings, as_of=AS_OF, tables=clean.tables, kpis=kpis)
        worth = {i["segment_id"]: i["potential"]["lifetime_value"] for i in icps}
        known = {"value": 81_000.46, "low": 70_000.0, "high": 95_000.0, "n": 66, "basis": "36 months, margin 70%"}
        assert worth.pop(first) == known
        assert set(worth.values()) == {"not enough evidence"}, "too few customers, or none measured"
        said = traits.compare_icps(icps).set_index("what").loc["lifetime value of a customer"]
        assert "36 months" in said.iloc[0]
        assert said.iloc[1] == "not enough evidence"

    def test_side_by_side_every_segment_answers_every_question(self, clean):
        icps = clean.icps()
        table = traits.compare_icps(icps)
        assert table.shape == (table["what"].nunique(), 1 + len(icps))
        assert not (table == "").any().any()
        rate = icps[0]["potential"]["win_rate"]
        closed = clean.opportunities[clean.opportunities["status"].isin(["won", "lost"])]
        own = closed["account_id"].isin(
            clean.members.loc[clean.members["segment_id"] == icps[0]["segment_id"], "account_id"]
        )
        wins, margin = closed[own]["status"] == "won", closed[own]["acv"] * closed[own]["margin_rate"]
        assert (rate["value"], rate["n"]) == (round(wins.mean(), 4), own.sum())
        potential = icps[0]["potential"]["margin_per_opportunity"]
        assert potential["value"] == pytest.approx(margin[wins].sum() / own.sum(), abs=0.01)
        assert potential["low"] < potential["value"] < potential["high"]

    def test_the_yield_of_a_segment_is_counted_against_the_whole_market(self):
        icps = [{"segment_id": s, "segment": "x"} for s in ("S1", "S2")]
        ids = [f"A{i}" for i in range(60)]
        status = ["won"] * 12 + ["lost"] * 12 + ["won"] * 3 + ["lost"] * 33
        matches = pd.DataFrame({"account_id": ids, "segment_id": ["S1"] * 40 + ["S2"] * 20, "icp": "no"})
        matches.loc[:23, "icp"], matches.loc[40:44, "icp"] = "yes", "yes"
        worked = empty_opportunities(ids[:59], np.array(status[:59])).assign(type="new")
        found = traits.measure_yield(
            icps, pd.concat([matches, matches.tail(1).assign(account_id="new", icp="yes")]), worked
        )
        assert found["inside"].tolist() == [24, 6]
        assert found["never_worked"].tolist() == [0, 1]
        assert found["win_rate"].round(3).fillna(-1).tolist() == [0.5, -1]  # five closed opportunities tell nothing
        assert found.loc[0, "index"] == pytest.approx(100 * 0.5 / (15 / 59))
        assert found.loc[0, "index_low"] < 200 < found.loc[0, "index_high"]

    def test_blanks_leave_an_account_unknown_and_partners_outside(self):
        rule = {"conditions": [{"trait": "c1", "level": "yes", "wanted": True}], "at_least": 1}
        icps = [{"segment_id": "S1", "qualification_rule": rule}, {"segment_id": "S2", "qualification_rule": {}}]
        accounts = pd.DataFrame(
            {
                "account_id": list("abcdef"),
                "account_type": ["prospect", "prospect", "prospect", "partner", "prospect", "prospect"],
                "c1": pd.array([True, False, None, True, True, True], dtype="boolean"),
            }
        )
        members = pd.DataFrame({"account_id": list("abcdef"), "segment_id": ["S1"] * 4 + ["S2", "unassigned"]})
        matches = traits.match_icp(icps, accounts, members)
        assert matches["icp"].tolist() == ["yes", "no", "unknown", "no", "unknown", "unknown"]

    def test_without_supported_traits_the_card_says_so(self, clean):
        nothing = clean.traits.assign(verdict="insufficient")
        frames = (nothing, clean.segments, clean.members, clean.opportunities, clean.accounts, clean.catalogue)
        icps = traits.draft_icps(*frames, clean.settings, as_of=AS_OF)
        assert {i["status"] for i in icps} == {"not enough evidence"}
        assert all(i["fit"]["traits"] == "not enough evidence" and i["qualification_rule"] == {} for i in icps)


class TestFindings:
    def test_a_clean_market_warns_of_nothing(self, clean):
        found = traits.findings(clean.traits, clean.audit, clean.icps())
        assert [f.code for f in found if f.severity != "info"] == []
        assert "supported-trait" in {f.code for f in found}

    def test_a_reversal_is_flagged_with_the_sign_inside_channels(self):
        simpson = Walk("simpson", seed=3, accounts=1500)
        planted = simpson.truth.traits
        name = planted[(planted["role"] == "planted") & (planted["log_odds_ratio"].between(0.2, 0.3))]["trait"].iloc[0]
        row = simpson.traits.query("outcome == 'win' and scope == 'all' and trait == @name").iloc[0]
        assert row["high"] < 1 < row["adjusted"]
        assert row["direction"] == "+"
        assert "reversal" in row["flags"].split(";")
        watched = {f.subject for f in traits.findings(simpson.traits, simpson.audit, []) if f.code == "reversal"}
        assert name in watched

    def test_data_cannot_put_control_characters_into_a_sentence(self):
        from icplab.traits.sentences import level_words

        assert level_words("c1\x1b[31m", "a\nb") == "c1 is a b"

    def test_what_is_missing_for_an_answer_is_named(self, clean):
        nothing = clean.traits.iloc[:0]
        said = [[f.sentence for f in traits.findings(nothing, a, [])] for a in (clean.audit.iloc[:0], clean.audit)]
        assert any("no column that could be a trait" in s for s in said[0])
        assert any("Too few opportunities won" in s for s in said[1])


class TestParts:
    def test_bands_hold_their_low_edge_and_cover_every_known_value(self):
        values = pd.Series([1.0, 2, 3, 4, 5, 6, 7, 8, np.nan])
        accounts = pd.DataFrame({"size": values})
        trait = read_traits(one_trait("size", "number"), accounts, pd.DataFrame())[0]
        x, unknown = code_levels(trait, values)
        assert x[:8, :-1].sum(axis=1).tolist() == [1] * 8
        assert unknown.tolist() == [False] * 8 + [True]
        assert (x[8] == 0).all()
        edge = values[values == trait.cuts[0]]
        if len(edge):
            assert x[edge.index[0], 1] == 1

    def test_tools_in_a_list_are_levels_of_their_own(self):
        accounts = pd.DataFrame({"tools": pd.Series(["a;b", "b", "ab", None], dtype="str")})
        trait = read_traits(one_trait("tools", "multi"), accounts, pd.DataFrame())[0]
        x, _ = code_levels(trait, accounts["tools"])
        assert x[:, trait.levels.index("a")].tolist() == [1, 0, 0, 0]
        assert x[:, trait.levels.index("b")].tolist() == [1, 1, 0, 0]

    def test_a_customer_counts_as_kept_when_in_force_a_year_after_the_start(self):
        day = pd.Timestamp("2025-01-01")
        subscriptions = pd.DataFrame(
            {
                "account_id": ["a", "b", "b", "c"],
                "started_at": [day, day, day + pd.Timedelta(days=300), AS_OF - pd.Timedelta(days=30)],
                "ended_at": [day + pd.Timedelta(days=200), day + pd.Timedelta(days=310), pd.NaT, pd.NaT],
                "mrr": [100.0, 100.0, 150.0, 80.0],
            }
        )
        won = empty_opportunities(["a", "b", "c"], ["won"] * 3).assign(closed_at=day)
        kept = observe("retention", won, subscriptions, AS_OF).set_index("account_id")["y"]
        assert kept.to_dict() == {"a": 0.0, "b": 1.0}
        grown = observe("expansion", won, subscriptions, AS_OF).set_index("account_id")["y"]
        assert grown.to_dict() == {"a": 0.0, "b": 1.0}

    def test_residual_variance_counts_the_columns_used(self):
        rng = np.random.default_rng(1)
        design = np.column_stack([np.ones(60), rng.normal(size=(60, 4))])
        outcome = rng.normal(size=60)
        rest = outcome - design @ np.linalg.lstsq(design, outcome, rcond=None)[0]
        assert residual_variance(outcome, design) == pytest.approx(rest @ rest / 55)


def one_trait(name: str, kind: str) -> pd.DataFrame:
    row = {
        "trait": name,
        "table": "accounts",
        "kind": kind,
        "family": "firmographic",
        "role": "",
        "known_at": "snapshot",
    }
    return pd.DataFrame([{**row, "fill_rate": 1.0, "levels": 2, "excluded": False, "reason": ""}])


def empty_opportunities(accounts, status) -> pd.DataFrame:
    """Undated opportunities, one per account."""
    ids = [f"O{i:03d}" for i in range(len(accounts))]
    dates = dict.fromkeys(("created_at", "closed_at"), pd.Series(pd.NaT, index=range(len(ids)), dtype="datetime64[us]"))
    blank = dict.fromkeys(("owner", "source", "product"), pd.Series(None, index=range(len(ids)), dtype="str"))
    money = dict.fromkeys(("acv", "margin_rate", "cycle_days"), np.nan)
    known = {"opportunity_id": ids, "account_id": accounts, "family_id": accounts, "status": status}
    return pd.DataFrame({**known, "type": "new", "motion": "new", **dates, **blank, **money})


def replace_segments(walk: Walk, segments: pd.DataFrame) -> Walk:
    other = object.__new__(Walk)
    other.__dict__.update({**walk.__dict__, "segments": segments})
    return other
