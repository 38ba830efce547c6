"""The plan is what the settings say, coverage is counted right, and reach says what more data would settle."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from icplab import align, features
from icplab.core.config import Economics, Goals, Plan, Settings
from icplab.core.schema import ARTEFACTS, check_artefact
from icplab.core.stats.intervals import wilson


@pytest.fixture
def stage(tables, settings, as_of):
    """Account table, opportunity table, catalogue and tables of the hand-countable workspace."""
    seen = features.view_on(tables, as_of)
    return (
        features.build_accounts(tables, settings, as_of),
        features.build_opportunities(tables, settings, as_of),
        features.build_catalogue(seen, settings),
        seen,
    )


def test_ranking_by_goals_keeps_its_columns_when_there_is_nothing_to_rank():
    ranking = align.rank_by_goals(ARTEFACTS["kpis"].empty(), "segment", Settings(), seed=1)
    assert ranking.empty
    assert {"level", "p_first", "margin", "screened", "named"} <= set(ranking)


def test_the_plan_is_plain_json_with_its_hash():
    plan = align.draft_plan(Settings(plan=Plan(horizon_days=180), defaults_taken=("capacity",)))
    assert json.loads(json.dumps(plan, allow_nan=False))["plan"]["horizon_days"] == 180
    assert plan["defaults_taken"] == ["capacity"]
    assert len(plan["plan_hash"]) == 64
    assert "within 180 days" in align.list_rules(plan)["rule"][0]


def test_the_hash_changes_with_the_plan_and_not_with_the_workspace():
    one = align.draft_plan(Settings())["plan_hash"]
    other_workspace = Settings(workspace=replace(Settings().workspace, name="Other"))
    assert align.draft_plan(other_workspace)["plan_hash"] == one
    assert align.draft_plan(Settings(goals=Goals(margin_floor=0.5)))["plan_hash"] != one


def test_goals_that_were_not_given_are_said_so():
    table = align.list_goals(Settings(goals=Goals(growth_target=0.15))).set_index("goal")["value"]
    assert table["growth target"].startswith("15")
    assert table["margin floor"] == "not given"


def test_the_ledger_adds_up_parts_of_the_same_file():
    parts = [
        {"table": "accounts", "file": "a.csv", "outcome": "used", "records": 5},
        {"table": "accounts", "file": "a.csv", "outcome": "used", "records": 3},
        {"table": "accounts", "file": "a.csv", "outcome": "header", "records": 1},
    ]
    ledger = check_artefact("ledger", align.build_ledger({"ledger": parts}))
    assert ledger.set_index("outcome")["records"].to_dict() == {"header": 1, "used": 8}
    assert len(align.build_ledger({})) == 0


def test_the_ledger_is_shown_with_a_line_per_file_whose_outcomes_add_up_to_its_records():
    parts = [
        ("accounts", "a.csv", "used", 5),
        ("accounts", "a.csv", "header", 1),
        ("opportunities", "o.csv", "used", 7),
        ("opportunities", "o.csv", "quarantined", 2),
        ("opportunities", "o.csv", "repeated_header", 1),
    ]
    columns = ("table", "file", "outcome", "records")
    shown = align.show_ledger(align.build_ledger({"ledger": [dict(zip(columns, p, strict=True)) for p in parts]}))
    assert list(shown["file"]) == ["a.csv", "o.csv", "2 lines"]
    assert list(shown["records"]) == [6, 10, 16]
    assert list(shown["used"]) == [5, 7, 12]
    assert list(shown["set aside"]) == [0, 2, 2]
    assert (shown.iloc[:, 3:].sum(axis=1) == shown["records"]).all()
    assert align.show_ledger(align.build_ledger({})).empty


def test_the_page_names_the_list_of_what_was_set_aside_with_its_rows():
    assert "rejects.csv" in align.say_rejects({"rejects": 1234})
    assert "1,234 rows" in align.say_rejects({"rejects": 1234})
    assert "1 row," in align.say_rejects({"rejects": 1})
    assert align.say_rejects({"rejects": 0}) == "No record was set aside: rejects.csv holds no row."


def test_coverage_equals_the_pencil(stage):
    accounts, opportunities, catalogue, tables = stage
    coverage = align.measure_coverage(accounts, catalogue, opportunities, tables).set_index("field")
    # Employees: all but a6; won a1 a3 a5 a8, lost a2 a3 a4 a6, open a2 a6 a7.
    expected = {"n": 8, "fill_rate": 7 / 8, "won": 1, "lost": 3 / 4, "open": 2 / 3}
    assert coverage.loc["employees", list(expected)].to_dict() == pytest.approx(expected)
    assert np.isnan(coverage.loc["employees", "unworked"])
    assert coverage.loc["any activities", "fill_rate"] == pytest.approx(3 / 8)
    # Asked of customers only: a1, a3, a5, a8 all have a subscription.
    assert coverage.loc["any subscriptions", ["n", "fill_rate"]].tolist() == [4, 1]
    assert coverage.loc["amount", "fill_rate"] == 1
    assert coverage.loc["gross margin", "fill_rate"] == 1


def test_every_data_class_is_there_even_when_empty(stage):
    accounts, opportunities, catalogue, tables = stage
    none = catalogue[catalogue["family"] != "technographic"]
    coverage = align.measure_coverage(accounts, none, opportunities, tables)
    assert coverage["data_class"].unique().tolist() == ["firmographic", "technographic", "behavioural", "economic"]
    found = align.findings(Settings(), {}, coverage, reach=no_reach())
    assert any("no technographic data at all" in f.sentence for f in found)


def test_outcomes_of_a_class_are_means_over_its_fields(stage):
    accounts, opportunities, catalogue, tables = stage
    coverage = align.measure_coverage(accounts, catalogue, opportunities, tables)
    shown = align.show_outcomes(coverage).set_index(["data_class", "outcome"])
    economic = coverage[coverage["data_class"] == "economic"]
    assert shown.loc[("economic", "won"), "value"] == pytest.approx(economic["won"].mean())
    assert shown.loc[("economic", "all"), "fields"] == len(economic)


def market(n: int, families: int | None = None, seed: int = 0) -> pd.DataFrame:
    """Closed opportunities with a 25 % win rate over two years."""
    rng = np.random.default_rng(seed)
    closed = pd.Timestamp("2024-07-01") + pd.to_timedelta(rng.integers(0, 730, n), unit="D")
    family = rng.integers(0, families, n) if families else np.arange(n)
    return pd.DataFrame(
        {
            "status": np.where(rng.random(n) < 0.25, "won", "lost"),
            "closed_at": pd.Series(closed).astype("datetime64[us]"),
            "family_id": [f"f{i}" for i in family],
        }
    )


def reach_of(n: int, settings: Settings | None = None, traits: int = 20, **more: int) -> pd.DataFrame:
    accounts = pd.DataFrame({"account_id": [f"a{i}" for i in range(max(n, 10))]})
    catalogue = pd.DataFrame({"trait": [f"t{i}" for i in range(traits)], "excluded": False})
    return align.measure_reach(market(n, **more), accounts, catalogue, settings or Settings()).set_index("question")


def no_reach() -> pd.DataFrame:
    return reach_of(400).reset_index().iloc[:0]


def test_the_width_of_the_overall_rate_is_wilsons_for_independent_opportunities():
    deals, row = market(400), reach_of(400).loc["the overall win rate"]
    low, high = wilson((deals["status"] == "won").sum(), 400)
    assert row["half_width"] == pytest.approx(float((high - low) / 2), rel=0.01)
    assert row["verdict"] == "yes"


def test_the_n_that_would_settle_it_settles_it():
    small = reach_of(300).loc["the win rate of a segment with 10% of accounts"]
    assert small["verdict"] == "not enough evidence"
    enough = reach_of(int(small["n_needed"] * 1.1)).loc["the win rate of a segment with 10% of accounts"]
    assert enough["verdict"] == "yes"


def test_smaller_groups_and_more_candidates_need_more():
    table = reach_of(2000)
    sizes = [table.loc[f"the win rate of a segment with {s}% of accounts", "n_needed"] for s in (40, 20, 10, 5)]
    assert sizes == sorted(sizes)
    few, many = (reach_of(2000, traits=t) for t in (5, 300))
    assert (
        few.filter(like="a trait that 10%", axis=0)["n_needed"].iloc[0]
        < (many.filter(like="a trait that 10%", axis=0)["n_needed"].iloc[0])
    )


def test_the_n_for_a_trait_equals_the_textbook_formula():
    # One candidate at 5 %: statsmodels' two-sample normal power for the same two rates.
    from statsmodels.stats.power import NormalIndPower
    from statsmodels.stats.proportion import proportion_effectsize

    row = reach_of(2000, Settings(plan=Plan(fdr=0.05)), traits=1).filter(like="a trait that 30%", axis=0).iloc[0]
    rate = (market(2000)["status"] == "won").mean()
    low = np.linspace(0.05, 0.5, 40001)
    high = 1.6 * low / (1 - low + 1.6 * low)
    place = np.argmin(abs(0.3 * high + 0.7 * low - rate))
    size = proportion_effectsize(high[place], low[place])
    n_with = NormalIndPower().solve_power(size, alpha=0.05, power=0.8, ratio=0.7 / 0.3)
    assert row["n_needed"] == pytest.approx(n_with / 0.3, rel=0.06)


def test_clustered_opportunities_tell_less():
    rng = np.random.default_rng(1)
    deals = market(600, families=120)
    lucky = dict(zip(deals["family_id"].unique(), rng.random(120) < 0.25, strict=False))
    deals["status"] = deals["family_id"].map(lucky).map({True: "won", False: "lost"})
    accounts, catalogue = pd.DataFrame({"account_id": ["a"]}), pd.DataFrame({"trait": [], "excluded": []})
    clustered = align.measure_reach(deals, accounts, catalogue, Settings()).set_index("question")
    assert (
        clustered.loc["the overall win rate", "half_width"]
        > 1.5 * reach_of(600).loc["the overall win rate", "half_width"]
    )


def test_reach_without_any_closed_opportunity_says_there_is_nothing_to_go_by():
    table = reach_of(0)
    assert set(table["verdict"]) == {"not enough evidence"}
    found = align.findings(Settings(), {}, no_coverage(), table.reset_index())
    assert sum("cannot tell" in f.sentence for f in found) == len(table)
    shown = align.show_reach(table.reset_index())
    assert shown["known_to"].isin(["±50 points", "–"]).all()


def no_coverage() -> pd.DataFrame:
    columns = ["data_class", "field", "n", "fill_rate", "won", "lost", "open", "unworked"]
    return pd.DataFrame({c: pd.Series([], dtype="str" if i < 2 else "float64") for i, c in enumerate(columns)})


NOTES = [
    ("ICP-W080", "label-variants", "info", "technolgy", 12),
    ("ICP-W043", "orphan-records", "watch", "", 1425),
    ("ICP-W059", "stale-pipeline", "watch", "", 7),
    ("ICP-Q042", "duplicate-accounts", "watch", "", 3),
]


@pytest.mark.parametrize(("code", "finding", "severity", "value", "count"), NOTES)
def test_a_note_of_the_intake_becomes_a_finding_with_its_count(code, finding, severity, value, count):
    note = {"code": code, "message": "said so", "file": "a.csv", "column": "x", "value": value, "count": count}
    (found,) = align.findings(Settings(), {"notes": [note]}, no_coverage(), no_reach())
    assert (found.code, found.severity) == (finding, severity)
    assert f"{count:,} records" in found.sentence
    assert found.numbers["count"] == count
    assert value in found.sentence


def test_the_intakes_own_finding_code_wins_and_repairs_stay_in_the_ledger():
    notes = [
        {"code": "ICP-W062", "finding": "definition-change", "message": "m", "file": "f", "count": 1},
        {"code": "ICP-R042", "finding": "", "message": "m", "file": "f", "count": 4},
        {"code": "ICP-W001", "finding": "", "message": "m", "file": "f", "count": 1},
    ]
    found = align.findings(Settings(), {"notes": notes}, no_coverage(), no_reach())
    assert [f.code for f in found] == ["definition-change"]


def test_defaults_that_were_taken_are_named():
    found = align.findings(Settings(defaults_taken=("goals", "plan")), {}, no_coverage(), no_reach())
    assert [f.code for f in found] == ["defaults-taken"]
    assert "goals, plan" in found[0].sentence


def test_a_field_filled_after_winning_is_pointed_at():
    row = ["firmographic", "contract_tier", 100.0, 0.7, 0.95, 0.55, 0.55, 0.5]
    coverage = pd.DataFrame([row], columns=no_coverage().columns)
    (found,) = align.findings(Settings(), {}, coverage, no_reach())
    assert found.subject == "contract_tier"
    assert found.severity == "info"
    assert "filled after the outcome" in found.sentence


def goal_kpis() -> pd.DataFrame:
    """Two levels: `big` has the larger deals, `fast` the shorter cycle; all else is alike."""
    rows = [
        (kpi, basis, level, value)
        for kpi, basis, big, fast in (
            ("win_rate", "closed", 0.25, 0.25),
            ("acv", "median", 50_000.0, 10_000.0),
            ("cycle_days", "won_median", 120.0, 40.0),
            ("grr", "12m", 0.90, 0.90),
            ("expansion", "12m", 0.10, 0.10),
        )
        for level, value in (("big", big), ("fast", fast))
    ]
    table = pd.DataFrame(rows, columns=["kpi", "basis", "level", "pooled"])
    ends = {"pooled_low": table["pooled"] * 0.9, "pooled_high": table["pooled"] * 1.1}
    return table.assign(cut="segment", period="all", status="ok", **ends)


def goals(**given: float) -> Settings:
    return Settings(goals=Goals(**given))  # type: ignore[arg-type]


def test_the_trade_offs_are_weights_that_add_up_to_one():
    weights = align.weigh_goals(Goals(deal_size_vs_velocity=0.25, land_vs_expand=0.6)).set_index("measure")["weight"]
    assert weights.sum() == pytest.approx(1)
    assert weights.to_dict() == pytest.approx(
        {"win rate": 0.3, "deal size": 0.075, "velocity": 0.225, "retention": 0.2, "expansion": 0.2}
    )


def test_turning_a_trade_off_turns_the_order_and_the_table_says_where():
    first = [
        align.rank_by_goals(goal_kpis(), "segment", goals(deal_size_vs_velocity=w))["level"][0] for w in (0.9, 0.1)
    ]
    assert first == ["big", "fast"]
    turns = align.measure_sensitivity(goal_kpis(), "segment", goals(deal_size_vs_velocity=0.9)).set_index("trade_off")
    assert turns.loc["deal_size_vs_velocity", "lower"] == pytest.approx(0.5, abs=0.02)
    assert turns.loc["deal_size_vs_velocity", "lower_leader"] == "fast"
    assert turns.loc["deal_size_vs_velocity", "orders"] == 2
    leaders = align.show_leaders(goal_kpis(), "segment", goals()).set_index("land against expand")
    assert leaders.loc["1.00", ["deal size 0.00", "deal size 1.00"]].tolist() == ["fast", "big"]


def test_a_segment_below_the_margin_floor_is_screened_whatever_it_scores():
    settings = goals(deal_size_vs_velocity=0.9, margin_floor=0.5)
    table = align.rank_by_goals(goal_kpis(), "segment", settings, margins=pd.Series({"big": 0.4, "fast": 0.6}))
    assert table["level"].tolist() == ["fast", "big"]
    assert table["screened"].tolist() == [False, True]
    assert align.measure_sensitivity(goal_kpis(), "segment", settings, margins=pd.Series({"big": 0.4})).empty


def test_a_measure_that_differs_by_no_more_than_chance_hardly_orders_levels():
    kpis = (
        goal_kpis().query("kpi == 'acv'").assign(pooled=[10_500.0, 10_000.0], pooled_low=5_000.0, pooled_high=20_000.0)
    )
    table = align.rank_by_goals(kpis, "segment", goals(deal_size_vs_velocity=1.0, land_vs_expand=1.0))
    assert 0.4 < table["p_first"][0] < 0.65
    assert "velocity" in table["missing"][0]


def test_a_plan_that_was_changed_names_the_lines_and_an_unchanged_one_none():
    before = json.loads(json.dumps(align.draft_plan(Settings())))
    assert align.compare_plans(align.draft_plan(Settings()), before).empty
    now = align.draft_plan(Settings(plan=Plan(horizon_days=180), goals=Goals(margin_floor=0.5)))
    changed = align.compare_plans(now, before)
    assert changed.set_index("line")[["before", "now"]].to_dict("index") == {
        "plan.horizon_days": {"before": "365", "now": "180"},
        "goals.margin_floor": {"before": "not given", "now": "0.5"},
    }
    words = {c: pd.Series([], dtype="str") for c in ("data_class", "field")}
    nothing = pd.DataFrame({**words, **{c: pd.Series([], dtype="float64") for c in ("n", "fill_rate", "won", "lost")}})
    (said,) = [f for f in align.findings(Settings(), {}, nothing, no_reach(), changed) if f.code == "plan-changed"]
    assert said.severity == "watch"
    assert "plan.horizon_days was 365, is 180" in said.sentence


def test_a_page_whose_settings_left_the_plan_says_that_it_is_exploratory(tmp_path):
    from icplab.report.show import header_facts
    from icplab.step import Step

    (tmp_path / "steps" / "10_align").mkdir(parents=True)
    first = Step("10_align", tmp_path, Settings(), pd.Timestamp("2026-06-30"), 1, {})
    first.write_json("plan", align.draft_plan(Settings()))
    same = Step("20_performance", tmp_path, Settings(), pd.Timestamp("2026-06-30"), 1, {})
    other = replace(same, settings=Settings(plan=Plan(window_days=90)))
    assert same.exploratory == ()
    assert other.exploratory == ("plan.window_days is 90, was 730 when this run began",)
    assert any("plan.window_days is 90" in value for _, value in header_facts(other))


def test_the_mean_deal_is_known_by_its_coefficient_of_variation():
    deals = market(400).assign(status="won", acv=np.tile([50.0, 150.0], 200))
    table = align.measure_reach(deals, pd.DataFrame({"account_id": ["a"]}), no_traits(), Settings())
    row = table.set_index("question").loc["the mean value of a deal"]
    assert row["half_width"] == pytest.approx(1.96 * 0.5 / np.sqrt(400), rel=0.01)
    assert (row["counts"], row["verdict"]) == ("won opportunities with an amount", "yes")
    assert row["n_needed"] == pytest.approx((1.96 * 0.5 / 0.2) ** 2, abs=1.5)


def test_customers_kept_are_counted_by_family_among_those_of_a_year_ago():
    accounts = pd.DataFrame({"account_id": ["a", "b", "c", "d"], "family_id": ["f", "f", "c", "d"]})
    start, end = pd.Timestamp("2024-01-01"), pd.Timestamp("2026-01-01")
    subscriptions = pd.DataFrame(
        {
            "account_id": ["a", "b", "c", "d"],
            "started_at": [start, start, start, pd.Timestamp("2026-03-01")],
            "ended_at": [end, pd.NaT, end, pd.NaT],
            "mrr": 10.0,
        }
    )
    given = (market(100), accounts, no_traits(), Settings(), subscriptions, pd.Timestamp("2026-06-30"))
    row = align.measure_reach(*given).set_index("question").loc["the share of customers kept for a year"]
    low, high = wilson(1, 2)  # of f and c, f still pays
    assert row["n"] == 2
    assert row["half_width"] == pytest.approx(float((high - low) / 2))
    assert row["verdict"] == "not enough evidence"


def no_traits() -> pd.DataFrame:
    return pd.DataFrame({"trait": [], "excluded": []})


def test_a_lifetime_value_is_known_by_how_many_have_left_and_by_what_customers_pay():
    ids = [f"a{i:02d}" for i in range(20)]
    accounts = pd.DataFrame({"account_id": ids, "family_id": ids})
    lives = pd.DataFrame(
        {
            "account_id": ids,
            "started_at": pd.Timestamp("2026-06-30") - pd.Timedelta(days=304),
            "ended_at": [pd.Timestamp("2026-06-30")] * 5 + [pd.NaT] * 15,  # all have lived 304 days, five have left
            "mrr": 100.0,
        }
    )
    settings = Settings(economics=Economics(ltv_months=1, discount_rate=0.0))
    found = align.measure_reach(market(300), accounts, no_traits(), settings, lives, pd.Timestamp("2026-06-30"))
    row = found.set_index("question").loc["the lifetime value of a customer"]
    churn = 5 / (20 * 304 / 30.4375)  # one month: the value falls by churn per cent for each per cent of churn
    assert row["n"] == 20
    assert row["half_width"] == pytest.approx(1.96 * churn / np.sqrt(5))
    assert row["verdict"] == "yes"
    part = found.set_index("question").loc["the lifetime value in a segment with 20% of customers"]
    assert (part["n"], part["verdict"]) == (4, "not enough evidence")  # one of them has left


def test_without_anybody_who_left_no_lifetime_value_is_known():
    accounts = pd.DataFrame({"account_id": ["a", "b"], "family_id": ["a", "b"]})
    started, day = [pd.Timestamp("2025-01-01")] * 2, pd.Timestamp("2026-06-30")
    lives = pd.DataFrame({"account_id": ["a", "b"], "started_at": started, "ended_at": [pd.NaT, day], "mrr": 50.0})
    for ended, known in (([pd.NaT, day], True), ([pd.NaT, pd.NaT], False)):
        lives["ended_at"] = pd.Series(ended, dtype="datetime64[us]")
        found = align.measure_reach(market(300), accounts, no_traits(), Settings(), lives, day)
        row = found.set_index("question").loc["the lifetime value of a customer"]
        assert np.isfinite(row["half_width"]) == known
        assert row["verdict"] == "not enough evidence"
