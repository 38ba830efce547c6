"""Parts of the traits step: pairs, blanks, early signals, people, statements and evidence say what can be counted by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from icplab import traits
from icplab.core.config import Settings
from icplab.core.errors import BadInput
from icplab.core.stats.pairs import measure_pairs
from icplab.traits.missing import missing_shifts
from icplab.traits.pain import TIMING, check_statement

AS_OF = pd.Timestamp("2026-06-30")


def drawn(seed: int, together: float, rows: int = 3000, columns: int = 12):
    rng = np.random.default_rng(seed)
    x = (rng.random((rows, columns)) < 0.4).astype(float)
    log_odds = -1 + 0.5 * x[:, 0] - 0.5 * x[:, 1] + together * x[:, 2] * x[:, 3]
    return x, (rng.random(rows) < 1 / (1 + np.exp(-log_odds))).astype(float), rng.integers(0, 2000, rows)


class TestPairs:
    def test_two_traits_that_work_only_together_are_found_and_nothing_else(self):
        x, won, families = drawn(1, together=1.2)
        tests = measure_pairs(x, won, np.full(len(won), won.mean()), families, np.triu_indices(12, 1), permutations=99)
        found = [
            (int(a), int(b)) for a, b, p in zip(tests.first, tests.second, tests.p_value, strict=True) if p <= 0.05
        ]
        assert found == [(2, 3)]
        assert tests.one_step[np.argmax(np.abs(tests.z))] == pytest.approx(1.2, abs=0.4)

    def test_traits_that_only_add_up_are_no_pair(self):
        false = 0
        for seed in range(10, 16):
            x, won, families = drawn(seed, together=0.0)
            expected = np.full(len(won), won.mean())
            tests = measure_pairs(x, won, expected, families, np.triu_indices(12, 1), permutations=39, seed=seed)
            false += int((tests.p_value <= 0.05).any())
        assert false <= 2

    def test_the_score_is_that_of_a_model_with_both_columns(self):
        import statsmodels.api as sm

        x, won, families = drawn(3, together=0.4)
        design = sm.add_constant(x[:, [0, 1]])
        null = sm.Logit(won, design).fit(disp=0)
        tests = measure_pairs(x, won, null.predict(design), families, (np.array([0]), np.array([1])), permutations=9)
        full = sm.Logit(won, np.column_stack([design, x[:, 0] * x[:, 1]])).fit(disp=0)
        assert tests.z[0] == pytest.approx(full.tvalues[-1], abs=0.03)

    def test_nothing_to_pair_is_an_empty_answer(self):
        none = np.array([], dtype=int)
        assert len(measure_pairs(np.zeros((5, 1)), np.zeros(5), np.full(5, 0.5), np.arange(5), (none, none)).z) == 0


def deals(seed: int, n: int = 1500, **known):
    """Deals of one account each with twenty idle yes/no traits; `known` replaces what is drawn, `lift` adds log odds and
    `more` multiplies how frequent the traits are, row by row."""
    rng = np.random.default_rng(seed)
    lift, more = (np.asarray(known.pop(k, v)) for k, v in (("lift", np.zeros(n)), ("more", np.ones(n))))
    ids = np.array([f"A{i:04d}" for i in range(n)])
    given = {
        "family": ids,
        "owner": rng.choice(["u1", "u2", "u3", "u4"], n),
        "source": rng.choice(["a", "b", "c"], n),
        "region": rng.choice(["north", "south"], n),
        "employees": np.exp(rng.normal(4.5, 1.3, n)).round(),
        "created": AS_OF - pd.to_timedelta(rng.integers(60, 800, n), unit="D"),
        "has": rng.random((n, 20)) < np.clip(rng.uniform(0.1, 0.4, 20) * more[:, None], 0, 0.95),
        **known,
    }
    won = rng.random(n) < 1 / (1 + np.exp(1.1 - lift))
    names = [f"x{j:02d}" for j in range(20)]
    accounts = pd.DataFrame(given["has"], columns=names).astype("boolean")
    accounts = accounts.assign(
        account_id=ids, family_id=given["family"], employees=given["employees"], region=given["region"]
    )
    deals = pd.DataFrame({"opportunity_id": ids, "account_id": ids, "family_id": given["family"]}).assign(
        status=np.where(won, "won", "lost"), type="new", motion="new", created_at=given["created"], closed_at=AS_OF
    )
    blank = {"acv": np.nan, "margin_rate": np.nan, "cycle_days": np.nan, "product": None}
    deals = deals.assign(owner=given["owner"], source=given["source"], **blank)
    row = {"table": "accounts", "kind": "flag", "family": "technographic", "role": "", "known_at": "created"}
    catalogue = pd.DataFrame([{"trait": t, **row, "fill_rate": 1.0, "levels": 2, "excluded": False} for t in names])
    return deals, accounts, catalogue


def claimed(seed: int, n: int = 1500, **known) -> int:
    """Traits claimed among twenty that are all idle."""
    opportunities, accounts, catalogue = deals(seed, n, **known)
    one = {"segment_id": "S0", "segment": "whole market", "membership": 1.0}
    members = accounts[["account_id"]].assign(**one)
    table = traits.measure_traits(opportunities, accounts, catalogue, members, Settings(), as_of=AS_OF)
    return int(((table["verdict"] == "supported") & (table["scope"] == "all")).sum())


class TestWhatOnlyRides:
    """Idle traits that ride on something else, of which an analyst's plain table would claim most."""

    SEEDS = range(3)

    def test_on_one_giant_family(self):
        false = 0
        for seed in self.SEEDS:
            rng = np.random.default_rng([seed, 1])
            family = np.where(rng.random(1500) < 0.3, 0, 1 + rng.integers(0, 700, 1500))
            has = (rng.random((701, 20)) < rng.uniform(0.1, 0.4, 20))[family]  # a family has a trait, or has it not
            names = np.array([f"F{f}" for f in range(701)])[family]
            false += claimed(seed, family=names, has=has, lift=np.where(family == 0, 1.3, 0.0))
        assert false == 0

    def test_on_the_last_month_of_each_quarter(self):
        false = 0
        for seed in self.SEEDS:
            created = AS_OF - pd.to_timedelta(np.random.default_rng([seed, 2]).integers(60, 800, 1500), unit="D")
            late = (created.month % 3 == 0).astype(float)
            false += claimed(seed, created=created, lift=1.2 * late, more=0.8 + 0.9 * late)
        assert false == 0

    def test_on_middling_size(self):
        false = 0
        for seed in self.SEEDS:
            employees = np.exp(np.random.default_rng([seed, 3]).normal(4.5, 1.3, 3000)).round()
            middling = (np.abs(np.log(employees) - 4.5) < 0.7).astype(float)
            false += claimed(seed, n=3000, employees=employees, lift=1.4 * middling, more=0.7 + 1.0 * middling)
        assert false <= 1

    def test_on_one_source_in_one_region(self):
        false = 0
        for seed in self.SEEDS:
            rng = np.random.default_rng([seed, 4])
            source, region = rng.choice(["a", "b", "c"], 3000), rng.choice(["north", "south"], 3000)
            cell = ((source == "a") & (region == "north")).astype(float)
            false += claimed(seed, n=3000, source=source, region=region, lift=1.6 * cell, more=0.9 + 1.3 * cell)
        assert false <= 1


class TestBlanks:
    def test_without_blanks_nothing_moves(self):
        won, has = np.array([1.0, 1, 0, 0]), np.array([[1], [0], [1], [0]], dtype=bool)
        low, high = missing_shifts(won, has, np.ones_like(has))
        assert low[0] == pytest.approx(0)
        assert high[0] == pytest.approx(0)

    def test_the_band_holds_the_truth_when_blanks_hide_the_level_among_the_lost(self):
        rng = np.random.default_rng(2)
        has = rng.random((20_000, 1)) < 0.4
        won = (rng.random(20_000) < 1 / (1 + np.exp(1 - 0.5 * has[:, 0]))).astype(float)
        hidden = (rng.random(20_000) < 0.4) & (won == 0) & (has[:, 0] | (rng.random(20_000) < 0.75))
        known = ~hidden[:, None]
        odds = [((has & known)[won == y].sum() / (~has & known)[won == y].sum()) for y in (1, 0)]
        seen = np.log(odds[0] / odds[1])
        low, high = missing_shifts(won, has & known, known)
        assert seen > 0.55, "biased: the truth is 0.5"
        assert seen + low[0] < 0.5 < seen + high[0]


class TestPeopleAndPain:
    def test_a_problem_statement_is_held_against_the_needs_recorded(self):
        needs = ["late invoices"] * 60 + ["stock gaps"] * 40 + ["late invoices"] * 20 + ["stock gaps"] * 80
        accounts = pd.DataFrame({"account_id": [f"A{i}" for i in range(200)], "need": pd.Series(needs, dtype="str")})
        own = accounts.iloc[:100]
        said = {text: check_statement(text, own, accounts, ["need"]) for text in (
            "Invoices are chased by hand.", "Stock runs out.", "Nobody sleeps well.", "",
        )}  # fmt: skip
        verdicts = [c["verdict"] for c in said.values()]
        assert verdicts == ["borne out", "contradicted", "not checkable", "not checkable"]
        assert said["Invoices are chased by hand."]["named"][0]["share"] == 0.6
        assert said["Nobody sleeps well."]["leading"]["value"] == "late invoices"

    @pytest.mark.parametrize("reason", ["wrong timing", "No decision", "postponed to next year", "Project on hold"])
    def test_reasons_about_when_are_kept_apart(self, reason):
        assert TIMING.search(reason)

    @pytest.mark.parametrize("reason", ["price", "missing function", "too small", "competitor"])
    def test_reasons_about_fit_are_not_taken_for_timing(self, reason):
        assert not TIMING.search(reason)

    def test_a_persona_carries_what_is_measured_of_its_roles(self):
        roles = pd.DataFrame(
            {"role": ["Champion"], "share_won": [0.4], "share_lost": [0.2], "odds_ratio": [2.67], "associated": [True]}
        )
        settings = Settings(playbook={"personas": [{"name": "Ally", "roles": ["champion", "guard"]}]})
        linked = traits.link_personas(settings, roles)
        assert linked[0]["persona"] == "Ally"
        assert [e["role"] for e in linked[0]["evidence"]] == ["Champion"]


class TestEarlySignals:
    def test_who_left_before_the_landmark_does_not_count_and_usage_before_it_tells(self):
        rng = np.random.default_rng(4)
        n, start = 400, pd.Timestamp("2024-01-01")
        ids = pd.Series([f"A{i:03d}" for i in range(n)], dtype="str")
        active = rng.normal(size=n)
        days = np.where(rng.random(n) < 1 / (1 + np.exp(-1 - 1.2 * active)), 900, 200)
        days[:40] = 45
        end = start + pd.to_timedelta(days, unit="D")
        tables = {
            "subscriptions": pd.DataFrame({"account_id": ids, "started_at": start, "ended_at": end, "mrr": 100.0}),
            "usage": pd.DataFrame(
                {
                    "account_id": ids,
                    "period": start + pd.Timedelta(days=10),
                    "metric": "logins",
                    "value": np.exp(active),
                }
            ),
        }
        won = pd.DataFrame(
            {"opportunity_id": "O" + ids, "account_id": ids, "family_id": ids, "status": "won", "type": "new"}
        ).assign(owner=None, source=None, motion="new", created_at=start, closed_at=start)
        found = traits.measure_leading_indicators(won, pd.DataFrame(), tables, as_of=AS_OF).set_index(
            ["outcome", "day"]
        )
        assert found.loc[("retention", 30), "n"] == n
        assert found.loc[("retention", 60), "n"] == n - 40
        assert found.loc[("retention", 90), "associated"]
        assert found.loc[("retention", 90), "low"] > 1

    def test_without_subscriptions_there_is_nothing_to_tell(self):
        assert traits.measure_leading_indicators(pd.DataFrame(), pd.DataFrame(), {}, as_of=AS_OF).empty


class TestYield:
    @pytest.mark.parametrize(("wins", "index"), [(0, None), (50, 100.0)])
    def test_where_nobody_won_no_yield_is_compared(self, wins, index):
        ids = pd.Series([f"A{i:03d}" for i in range(200)], dtype="str")
        status = np.where(np.arange(200) % 4 < wins / 50, "won", "lost")
        deals = pd.DataFrame({"account_id": ids, "status": status, "type": "new"})
        inside = pd.DataFrame({"account_id": ids, "segment_id": "S1", "icp": "yes"})
        row = traits.measure_yield([{"segment_id": "S1", "segment": "all"}], inside, deals).iloc[0]
        assert row["win_rate"] == wins / 200
        assert np.isnan(row["index"]) if index is None else row["index"] == index


class TestEvidence:
    table = pd.DataFrame(
        {
            "scope": ["all", "S1"], "trait": "c1", "level": "yes", "outcome": "win", "n": [100.0, 40.0],
            "support": [30.0, 12.0], "rate": 0.5, "rate_without": 0.3, "odds_ratio": 2.0, "low": 1.2, "high": 3.0,
            "adjusted": [1.8, 1.5], "adjusted_low": [1.1, 0.8], "adjusted_high": [2.9, 2.8],
            "verdict": ["supported", "insufficient"], "n_needed": [np.nan, 300.0], "flags": "", "q_value": 0.01,
        }
    )  # fmt: skip

    def test_each_row_has_a_crude_and_an_adjusted_point_and_a_sentence_with_n(self):
        shown = traits.show_evidence(self.table, "c1")
        assert shown.forest["what"].tolist() == ["adjusted", "crude", "adjusted", "crude"]
        assert shown.table["scope"].tolist() == ["all", "S1"]
        assert shown.sentences[0] == (
            "c1 is associated with winning in the whole market: odds × 1.80 (1.10–2.90) among alike, n 100, 30 with it."
        )
        assert "about 300 observations would settle it" in shown.sentences[1]
        assert len(traits.show_evidence(self.table, "c1", scope="S1").table) == 1

    @pytest.mark.parametrize(
        ("name", "given"), [("trait", {"trait": "c2"}), ("outcome", {"trait": "c1", "outcome": "won"})]
    )
    def test_what_is_not_there_is_named(self, name, given):
        with pytest.raises(BadInput, match=f'{name} "'):
            traits.show_evidence(self.table, **given)
