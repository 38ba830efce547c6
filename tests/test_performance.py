"""Key figures equal a pencil's, follow their edge rules, and warn where a naive reading would be wrong."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from icplab import features, performance
from icplab.core.config import Plan, Settings, Source, read_settings
from icplab.core.errors import BadInput
from icplab.core.schema import ARTEFACTS, CANONICAL, check_artefact
from icplab.core.stats.intervals import wilson
from icplab.intake import take_in
from icplab.performance.cuts import quarter_end
from icplab.simulate import simulate_market
from icplab.step import open_step
from tests.conftest import AS_OF, HAND, hand_tables

WORKSPACES = Path(__file__).parent / "workspaces"
USED = ("subscriptions", "spend", "activities", "leads", "stage_history", "targets", "rates")


@pytest.fixture
def given(tables, settings, as_of):
    """Everything that `measure_kpis` takes, for the hand-countable workspace."""
    return {
        "accounts": features.build_accounts(tables, settings, as_of),
        "settings": settings,
        "as_of": as_of,
        "seed": 1,
        "replicates": 200,
        **{name: tables[name] for name in USED},
    }


@pytest.fixture
def opportunities(tables, settings, as_of):
    return features.build_opportunities(tables, settings, as_of)


def figure(kpis: pd.DataFrame, kpi: str, basis: str, level: str = "all", period: str = "all") -> pd.Series:
    """The one row of a key figure."""
    named = (kpis["kpi"] == kpi) & (kpis["basis"] == basis)
    found = kpis[named & (kpis["level"] == level) & (kpis["period"] == period)]
    assert len(found) == 1, f"{kpi} {basis} {level} {period}: {len(found)} rows"
    return found.iloc[0]


# Every number here was worked out by hand from tests/workspaces/hand; the sums stand beside it.
BY_HAND = [
    ("won", "closed", 5),
    ("lost", "closed", 4),
    ("open", "as_of", 3),
    ("win_rate", "closed", 5 / 8),  # one loss without a decision is left out
    ("win_rate", "closed_broad", 5 / 9),
    ("win_rate", "value", 54000 / 86000),  # lost 8,000 + 10,000 + 5,000 + 9,000
    ("win_rate", "cohort", 3 / 6),  # o01 to o06 were created a year ago or earlier
    ("win_rate", "within_365d", 1 / 12 + 2 / 12 + 1 / 10 + 1 / 10),  # steps at 30, 60, 100 and 120 days
    ("cycle_days", "won_median", 60),  # 30 60 60 100 120
    ("cycle_days", "won_p75", 100),
    ("cycle_days", "any_close_median", 60),  # survival .5 from day 60
    ("won_amount", "closed", 54000),  # o03: 24,000 over 24 months
    ("acv", "mean", 10800),
    ("acv", "median", 12000),
    ("acv", "trimmed", 10800),  # a tenth of five deals is none
    ("cac", "new_logo", 8000 / 3),  # spend January to September, 80 days before o03, o05, o10
    ("cac", "blended", 8000 / 4),  # and o07
    ("payback_months", "simple", (8000 / 3) / (12500 * 0.8 / 12)),  # new customers bring 12,500 a year
    ("grr", "12m", 1000 / 1500),  # a1 1,000 and a5 500 a year ago; a5 left
    ("nrr", "12m", 1333 / 1500),
    ("expansion", "12m", 333 / 1500),
    ("ltv", "constant_churn", (1333 + 1600) / 2 * 0.8 * 35 / 2),  # 12 + 10 + 10 + 3 months lived, 2 left
    ("meeting_rate", "accounts", 2 / 3),  # a6 and a7 of a1, a6, a7
]


@pytest.mark.parametrize(("kpi", "basis", "value"), BY_HAND, ids=lambda v: str(v))
def test_figures_equal_the_pencil(kpi, basis, value):
    assert figure(by_hand(), kpi, basis)["value"] == pytest.approx(value, rel=1e-9)


@cache
def by_hand() -> pd.DataFrame:
    """Key figures of the hand-countable workspace."""
    tables, settings = hand_tables(), read_settings(HAND)
    opportunities = features.build_opportunities(tables, settings, AS_OF)
    accounts = features.build_accounts(tables, settings, AS_OF)
    own = {"accounts": accounts, "settings": settings, "as_of": AS_OF, "seed": 1, "replicates": 200}
    return performance.measure_kpis(opportunities, **own, **{name: tables[name] for name in USED})


def test_quarters_equal_the_pencil():
    kpis = by_hand()
    amounts = kpis[(kpis["kpi"] == "won_amount") & (kpis["period"] != "all")].set_index("period")["value"]
    assert amounts.to_dict() == {"2025Q1": 18000, "2025Q2": 12000, "2025Q3": 4000, "2025Q4": 20000}
    assert figure(kpis, "win_rate", "closed", period="2025Q1")["value"] == pytest.approx(2 / 3)
    assert figure(kpis, "win_rate", "closed_broad", period="2025Q2")["value"] == pytest.approx(1 / 2)


def test_levels_equal_the_pencil_and_add_up(opportunities, given):
    kpis = performance.measure_kpis(opportunities, cut="industry", **given)
    whole = performance.measure_kpis(opportunities, **given)
    assert figure(kpis, "win_rate", "closed", "software")["value"] == pytest.approx(3 / 4)
    assert figure(kpis, "acv", "mean", "retail")["value"] == pytest.approx(16000)
    for kpi, basis in (("won", "closed"), ("lost", "closed"), ("open", "as_of"), ("won_amount", "closed")):
        parts = sum(figure(kpis, kpi, basis, level)["value"] for level in ("retail", "software"))
        assert parts == figure(whole, kpi, basis)["value"]


def test_a_cut_of_opportunities_measures_what_needs_no_account(opportunities, given):
    kpis = performance.measure_kpis(opportunities, cut="source", **given)
    assert figure(kpis, "win_rate", "closed_broad", "partner")["value"] == pytest.approx(3 / 4)
    assert figure(kpis, "nrr", "12m", "web")["status"] == "not_measured"


def test_a_cut_of_opportunities_may_have_fewer_rows_than_there_are_accounts(opportunities, given):
    kpis = performance.measure_kpis(opportunities.tail(2), cut="source", **given)
    closed = opportunities.tail(2)["status"].isin(["won", "lost"]).sum()
    assert kpis.loc[kpis["kpi"].isin(["won", "lost"]) & (kpis["period"] == "all"), "value"].sum() == closed


def test_ids_that_both_tables_simply_number_are_not_mixed_up(opportunities, given):
    number = pd.Series([str(i) for i in range(len(given["accounts"]))], index=given["accounts"]["account_id"])
    renamed = {"accounts": given["accounts"].assign(account_id=number.to_numpy())}
    for name in ("subscriptions", "leads", "activities"):
        if name in given and len(given[name]):
            renamed[name] = given[name].assign(account_id=given[name]["account_id"].map(number))
    numbered = opportunities.assign(
        account_id=opportunities["account_id"].map(number), opportunity_id=[str(i) for i in range(len(opportunities))]
    )
    for cut in ("industry", "source"):
        before = performance.measure_kpis(opportunities, cut=cut, **given)
        after = performance.measure_kpis(numbered, cut=cut, **{**given, **renamed})
        plain = ["cut", "level", "kpi", "basis", "period", "n", "status"]
        pd.testing.assert_frame_equal(before[plain], after[plain])
        np.testing.assert_allclose(before["value"], after["value"], rtol=1e-12)


def test_rows_keep_the_contract(opportunities, given):
    kpis = performance.measure_cuts(opportunities, ["industry", "employees"], **given)
    checked = check_artefact("kpis", kpis)
    assert list(checked.columns) == [c.name for c in ARTEFACTS["kpis"].columns]
    silent = kpis["status"] == "not_measured"
    assert kpis.loc[silent, "value"].isna().all()
    assert (kpis.loc[silent, "note"] != "").all()
    assert not kpis.loc[kpis["low"].notna(), "value"].isna().any()
    assert (kpis["low"].dropna() <= kpis.loc[kpis["low"].notna(), "high"]).all()


def test_too_little_is_said_to_be_insufficient_not_hidden(opportunities, given):
    kpis = performance.measure_kpis(opportunities, **given)
    row = figure(kpis, "win_rate", "closed")
    assert row["status"] == "insufficient"
    assert "n below 40" in row["note"]
    lenient = replace(given["settings"], plan=replace(given["settings"].plan, minimum_n=5))
    kpis = performance.measure_kpis(opportunities, **{**given, "settings": lenient})
    assert figure(kpis, "win_rate", "closed")["status"] == "ok"


def test_row_order_and_currency_change_nothing_else(opportunities, given):
    kpis = performance.measure_kpis(opportunities, cut="industry", **given)
    mixed = {n: given[n].sample(frac=1, random_state=3) for n in ("accounts", "subscriptions", "activities")}
    again = performance.measure_kpis(opportunities.sample(frac=1, random_state=2), cut="industry", **{**given, **mixed})
    pd.testing.assert_frame_equal(kpis, again, rtol=1e-9)
    money = {
        "subscriptions": given["subscriptions"].assign(mrr=given["subscriptions"]["mrr"] * 100),
        "spend": given["spend"].assign(amount=given["spend"]["amount"] * 100),
    }
    dear = performance.measure_kpis(
        opportunities.assign(acv=opportunities["acv"] * 100), cut="industry", **{**given, **money}
    )
    scale = np.where(kpis["unit"] == "money", 100, 1)
    np.testing.assert_allclose(dear["value"], kpis["value"] * scale, rtol=1e-9)


def test_nothing_dated_after_as_of_counts(tables, settings, given):
    earlier = pd.Timestamp("2025-06-30").as_unit("us")
    seen = features.view_on(tables, earlier)
    then = {
        **given,
        "as_of": earlier,
        "accounts": features.build_accounts(tables, settings, earlier),
        **{n: seen[n] for n in USED},
    }
    opportunities = features.build_opportunities(tables, settings, earlier)
    kpis = performance.measure_kpis(opportunities, **then)
    assert figure(kpis, "won", "closed")["value"] == 3
    assert figure(kpis, "open", "as_of")["value"] == 2
    assert kpis.loc[kpis["period"] != "all", "period"].max() == "2025Q2"


def test_the_window_limits_what_counts_and_quarters_stay_whole(opportunities, given):
    windowed = replace(given["settings"], plan=replace(given["settings"].plan, window_days=250))
    kpis = performance.measure_kpis(opportunities, **{**given, "settings": windowed})
    # Since 2025-07-24: o07 and o10 won, o08 and o11 lost.
    assert figure(kpis, "won", "closed")["value"] == 2
    assert "250 days to 2026-03-31" in figure(kpis, "won", "closed")["note"]
    assert kpis.loc[kpis["period"] != "all", "period"].min() == "2025Q3"


def test_identity_of_retention_holds(tables, given, opportunities):
    rng = np.random.default_rng(6)
    n = 300
    accounts = pd.DataFrame({"account_id": [f"a{i:03d}" for i in range(n)]}).astype("str")
    accounts["family_id"] = [f"a{i // 2 * 2:03d}" for i in range(n)]
    start = pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 700, n), unit="D")
    subscriptions = CANONICAL["subscriptions"].empty().reindex(range(n))
    subscriptions = subscriptions.assign(
        subscription_id=[f"s{i}" for i in range(n)],
        account_id=accounts["account_id"],
        started_at=pd.Series(start).astype("datetime64[us]"),
        ended_at=pd.Series(start + pd.to_timedelta(rng.integers(100, 900, n), unit="D")).astype("datetime64[us]"),
        mrr=rng.lognormal(6, 1, n),
    )
    levels = pd.Series(rng.choice(["x", "y"], n), index=accounts["account_id"])
    own = {**given, "accounts": accounts, "subscriptions": subscriptions}
    kpis = performance.measure_kpis(opportunities.iloc[:0], cut="segment", levels=levels, **own)
    for level in ("x", "y"):
        grr, nrr, expansion = (figure(kpis, k, "12m", level)["value"] for k in ("grr", "nrr", "expansion"))
        assert nrr == pytest.approx(grr + expansion, abs=1e-9)
        assert grr <= 1


def test_without_dates_only_what_needs_none_is_measured(opportunities, given):
    undated = replace(given["settings"], sources={"opportunities": Source(dated=False)})
    blank = opportunities.assign(created_at=pd.NaT, closed_at=pd.NaT, cycle_days=np.nan)
    blank = blank.astype({"created_at": "datetime64[us]", "closed_at": "datetime64[us]"})
    kpis = performance.measure_kpis(blank, **{**given, "settings": undated})
    assert figure(kpis, "win_rate", "closed")["value"] == pytest.approx(5 / 8)
    for kpi, basis in (("win_rate", "within_365d"), ("cycle_days", "won_median"), ("cac", "new_logo")):
        assert figure(kpis, kpi, basis)["status"] == "not_measured"
    assert set(kpis["period"]) == {"all"}
    assert len(performance.build_curves(blank, accounts=given["accounts"], settings=undated, as_of=given["as_of"])) == 0


def test_missing_amounts_margins_and_tables_are_never_guessed(opportunities, given):
    bare = {**given, **dict.fromkeys(USED)}
    blank = opportunities.assign(acv=np.nan, margin_rate=np.nan)
    kpis = performance.measure_kpis(blank, **bare)
    measured = kpis[(kpis["status"] != "not_measured") & (kpis["period"] == "all")]
    assert set(measured["kpi"]) == {"win_rate", "won", "lost", "open", "cycle_days", "created"}
    no_margin = performance.measure_kpis(opportunities.assign(margin_rate=np.nan), **given)
    assert "margin is not known" in figure(no_margin, "payback_months", "simple")["note"]
    assert "margin is not known" in figure(no_margin, "ltv", "discounted")["note"]


def test_lost_deals_without_amount_stop_the_value_rate(opportunities, given):
    zero = opportunities.assign(acv=opportunities["acv"].where(opportunities["status"] != "lost", 0.0))
    row = figure(performance.measure_kpis(zero, **given), "win_rate", "value")
    assert row["status"] == "not_measured"
    assert "100% of lost opportunities carry no amount" in row["note"]


def test_open_opportunities_without_date_or_account_are_used_where_they_can_be(opportunities, given):
    extra = opportunities.iloc[[5, 8]].assign(opportunity_id=["x1", "x2"], account_id=None, created_at=pd.NaT)
    more = pd.concat([opportunities, extra.astype(opportunities.dtypes)], ignore_index=True)
    kpis = performance.measure_kpis(more, **given)
    assert figure(kpis, "open", "as_of")["value"] == 5
    row = figure(kpis, "win_rate", "within_365d")
    assert row["value"] == pytest.approx(0.45)
    assert "2 open without creation date left out" in row["note"]


def test_open_opportunities_that_no_level_takes_make_the_rate_unusable(opportunities, given):
    n = 20
    extra = opportunities.iloc[[5] * n].assign(opportunity_id=[f"x{i}" for i in range(n)], account_id=None)
    more = pd.concat([opportunities, extra.astype(opportunities.dtypes)], ignore_index=True)
    lenient = replace(given["settings"], plan=replace(given["settings"].plan, minimum_n=2))
    kpis = performance.measure_kpis(more, cut="industry", **{**given, "settings": lenient})
    row = figure(kpis, "win_rate", "within_365d", "software")
    assert row["status"] == "insufficient"
    assert "20 open opportunities without a level are missing" in row["note"]


def test_one_opportunity_a_family_gets_the_plain_wilson_interval(opportunities, given):
    alone = opportunities.assign(family_id=opportunities["opportunity_id"])
    row = figure(performance.measure_kpis(alone, **given), "win_rate", "closed")
    low, high = wilson(5, 8)
    assert (row["low"], row["high"]) == (pytest.approx(float(low)), pytest.approx(float(high)))


def test_a_foreign_currency_without_rate_is_not_added_up(opportunities, given):
    euros = replace(given["settings"], workspace=replace(given["settings"].workspace, currency="EUR"))
    dollars = given["spend"].assign(currency="USD").astype({"currency": "str"})
    row = figure(
        performance.measure_kpis(opportunities, **{**given, "settings": euros, "spend": dollars}), "cac", "new_logo"
    )
    assert row["status"] == "not_measured"
    assert "without an exchange rate" in row["note"]
    rates = (
        CANONICAL["rates"].empty().reindex([0]).assign(currency="USD", valid_from=pd.Timestamp("2024-01-01"), rate=0.5)
    )
    rates = rates.astype({"currency": "str", "valid_from": "datetime64[us]"})
    own = {**given, "settings": euros, "spend": dollars, "rates": rates}
    assert figure(performance.measure_kpis(opportunities, **own), "cac", "new_logo")["value"] == pytest.approx(4000 / 3)


def targets(*rows: tuple) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["period", "metric", "target"])
    return CANONICAL["targets"].empty().reindex(range(len(rows))).assign(**frame)


def test_attainment_is_actual_over_plan_of_periods_that_are_over(opportunities, given):
    plan = targets(
        ("2025Q4", "won_amount", 40000.0), ("2025", "won", 10.0), ("2025Q3", "won", 0.0), ("2025Q1", "nps", 9.0)
    )
    kpis = performance.measure_kpis(opportunities, **{**given, "targets": plan})
    assert figure(kpis, "attainment", "won_amount", period="2025Q4")["value"] == pytest.approx(0.5)
    assert figure(kpis, "attainment", "won", period="2025")["value"] == pytest.approx(0.5)
    assert "the plan is 0" in figure(kpis, "attainment", "won", period="2025Q3")["note"]
    assert figure(kpis, "attainment", "nps", period="2025Q1")["status"] == "not_measured"


def test_fiscal_quarters_follow_the_calendar():
    dates = pd.Series(pd.to_datetime(["2025-06-30", "2025-07-01", None]))
    assert performance.quarter_of(dates).tolist()[:2] == ["2025Q2", "2025Q3"]
    assert performance.quarter_of(dates, 7).tolist()[:2] == ["2025Q4", "2026Q1"]
    assert performance.quarter_of(dates).isna().iloc[2]
    assert quarter_end("2026Q1", 7) == pd.Timestamp("2025-09-30")
    assert quarter_end("2025") == pd.Timestamp("2025-12-31")


def catalogue(**columns: list) -> pd.DataFrame:
    n = len(columns["trait"])
    base = {"table": ["accounts"] * n, "kind": ["category"] * n, "role": [""] * n, "excluded": [False] * n}
    return pd.DataFrame({**base, "fill_rate": [0.9] * n, "levels": [3] * n, **columns})


def test_cuts_are_filled_few_levelled_and_single_valued():
    table = catalogue(
        trait=["region", "tools", "name_like", "sparse", "employees", "flag"],
        kind=["category", "multi", "category", "category", "number", "flag"],
        fill_rate=[0.9, 1.0, 1.0, 0.3, 0.8, 0.95],
        levels=[4, 9, 400, 3, 500, 2],
    )
    assert performance.choose_cuts(table, Settings())["cut"].tolist() == ["region", "employees", "flag"]
    assert performance.choose_cuts(table, Settings(), most=1)["cut"].tolist() == ["region"]


def test_named_cuts_are_taken_and_wrong_names_refused_with_the_nearest():
    table = catalogue(trait=["region", "tools"], kind=["category", "multi"])
    assert performance.choose_cuts(table, Settings(plan=Plan(cuts=("region",))))["cut"].tolist() == ["region"]
    with pytest.raises(BadInput, match='"regoin" is not a candidate trait, did you mean "region"'):
        performance.choose_cuts(table, Settings(plan=Plan(cuts=("regoin",))))
    with pytest.raises(BadInput, match='"tools" has several values'):
        performance.choose_cuts(table, Settings(plan=Plan(cuts=("tools",))))


def test_numbers_are_cut_into_named_quarters():
    frame = pd.DataFrame({"account_id": list("abcdefghi"), "employees": [1.0, 2, 3, 40, 50, 60, 700, 800, np.nan]})
    levels = performance.build_levels(frame, "employees")
    assert levels["a"] == "1: below 2.75"
    assert levels["h"].startswith("4: ")
    assert pd.isna(levels["i"])


def test_an_unknown_cut_is_refused_by_name(opportunities, given):
    with pytest.raises(BadInput, match='"industri" is no column'):
        performance.measure_kpis(opportunities, cut="industri", **given)


@cache
def measured(scenario: str, seed: int, cuts: tuple[str, ...] = ()) -> tuple:
    """Truth, key figures, comparisons and findings of a simulated market."""
    market = simulate_market(1500, seed, scenario)
    tables = {**{n: t.empty() for n, t in CANONICAL.items()}, **market.tables}
    settings = Settings(plan=Plan(window_days=0))
    as_of = pd.Timestamp("2026-06-30").as_unit("us")
    opportunities = features.build_opportunities(tables, settings, as_of)
    accounts = features.build_accounts(tables, settings, as_of)
    given = {"accounts": accounts, "settings": settings, "as_of": as_of, "seed": seed, "replicates": 120}
    seen = features.view_on(tables, as_of)
    kpis = performance.measure_cuts(opportunities, cuts, **given, **{n: seen[n] for n in USED})
    compared = performance.compare_cuts(opportunities, cuts, **given)
    found = performance.findings(
        kpis,
        opportunities=opportunities,
        accounts=accounts,
        cuts=cuts,
        comparisons=compared,
        events=seen["events"],
        stage_history=seen["stage_history"],
        settings=settings,
        as_of=as_of,
    )
    return market.truth, kpis, compared, found


def codes(found: list) -> set[str]:
    return {f.code for f in found if f.severity != "info"}


def test_the_clean_market_raises_no_warning():
    assert not codes(measured("clean", 4, ("source", "industry", "employees"))[3])


@pytest.mark.parametrize(
    ("scenario", "code"),
    [("heavy-tails", "heavy-tail"), ("censoring", "censoring"), ("definition-change", "bulk-close")],
)
def test_each_trap_raises_its_finding(scenario, code):
    assert code in codes(measured(scenario, 5)[3])


def test_a_reversal_is_flagged_with_the_standardised_sign():
    truth = simulate_market(1500, 6, "simpson").truth.traits
    # The scenario's own trait multiplies the odds by 1.3; the ten ordinary ones by more.
    (planted,) = truth.loc[np.isclose(truth["log_odds_ratio"], np.log(1.3)), "trait"]
    _, _, compared, found = measured("simpson", 6, (planted,))
    turned = [f for f in found if f.code == "reversal"]
    assert len(turned) == 1
    assert turned[0].subject == f"{planted} = yes"
    row = compared[compared["level"] == "yes"].iloc[0]
    assert row["crude"] < 0 < row["standardised"]


def test_the_standardised_difference_of_one_stratum_is_the_crude_one(opportunities, given):
    own = {k: given[k] for k in ("settings", "as_of", "seed", "replicates")}
    plain = given["accounts"].drop(columns="employees")
    same = opportunities.assign(
        source="web",
        closed_at=opportunities["closed_at"].where(opportunities["closed_at"].isna(), pd.Timestamp("2025-05-01")),
    )
    table = performance.compare_standardised(same, accounts=plain, cut="industry", **own)
    np.testing.assert_allclose(table["crude"], table["standardised"], atol=1e-6)
    # Software 3 of 4, retail 2 of 4 (the loss without a decision is left out).
    assert table.set_index("level")["crude"].to_dict() == pytest.approx({"software": 0.25, "retail": -0.25})


def test_the_horizon_rate_orders_a_fast_and_a_slow_segment_where_won_over_created_does_not():
    market = simulate_market(4000, 5, "censoring")
    tables = {**{n: t.empty() for n, t in CANONICAL.items()}, **market.tables}
    settings, as_of = Settings(plan=Plan(window_days=0)), pd.Timestamp("2026-06-30").as_unit("us")
    opportunities = features.build_opportunities(tables, settings, as_of)
    accounts = features.build_accounts(tables, settings, as_of)
    planted = market.truth.accounts.set_index("account_id")["segment"].astype("str")
    kpis = performance.measure_kpis(
        opportunities,
        accounts=accounts,
        cut="segment",
        levels=planted,
        settings=settings,
        as_of=as_of,
        seed=1,
        replicates=200,
    )
    fast, slow = (figure(kpis, "win_rate", "within_365d", level)["value"] for level in ("P1", "P2"))
    assert fast == pytest.approx(0.20, abs=0.03)
    assert slow > fast + 0.05
    young = opportunities[opportunities["created_at"] > as_of - pd.Timedelta(days=180)]
    naive = young.assign(won=young["status"] == "won").groupby(young["account_id"].map(planted))["won"].mean()
    assert naive["P1"] > naive["P2"]


def test_curves_end_at_the_measured_rate(opportunities, given):
    own = {k: given[k] for k in ("accounts", "settings", "as_of")}
    curves = performance.build_curves(opportunities, cut="industry", **own)
    kpis = performance.measure_kpis(opportunities, cut="industry", **given)
    for level in ("retail", "software"):
        part = curves[(curves["level"] == level) & (curves["day"] <= 365)]
        assert part["won"].iloc[-1] == pytest.approx(figure(kpis, "win_rate", "within_365d", level)["value"])
        assert part["won"].is_monotonic_increasing


def test_forest_shows_raw_beside_pooled(opportunities, given):
    kpis = performance.measure_kpis(opportunities, cut="industry", **given)
    forest = performance.build_forest(kpis, "industry", given["settings"])
    assert forest["estimate"].tolist() == ["raw", "pooled"] * 2
    assert set(forest["basis"]) == {"closed"}  # nothing is usable on the horizon basis


def of_dataset(datasets: Path, name: str, folder: Path):
    """A public dataset through the intake, opened as the performance step."""
    workspace = folder / name
    workspace.mkdir()
    for source in [*(WORKSPACES / name).iterdir(), *(datasets / name).glob("*.csv")]:
        (workspace / source.name).write_bytes(source.read_bytes())
    take_in(workspace, folder / "run")
    return open_step("20_performance", workspace="", run=str(folder / "run"))


@pytest.mark.datasets
def test_maven_reference_figures(datasets, tmp_path):
    step = of_dataset(datasets, "maven_crm", tmp_path)
    given = {"accounts": step.accounts, "settings": step.settings, "as_of": step.as_of, "seed": 1, "replicates": 200}
    kpis = performance.measure_cuts(step.opportunities, ["industry"], **given)
    whole = kpis[kpis["cut"] == "all"]
    assert figure(whole, "won", "closed")["value"] == 4238
    assert figure(whole, "lost", "closed")["value"] == 2473
    assert figure(whole, "win_rate", "closed")["value"] == pytest.approx(4238 / 6711)
    assert figure(whole, "won_amount", "closed")["value"] == 10005534
    assert figure(whole, "cycle_days", "won_median")["value"] == 57
    amounts = whole[(whole["kpi"] == "won_amount") & (whole["period"] != "all")].sort_values("period")["value"]
    assert amounts.tolist() == [1134672, 3086111, 2982255, 2802496]
    about = {
        "opportunities": step.opportunities,
        "accounts": step.accounts,
        "cuts": ["industry"],
        "shown": ["industry"],
    }
    found = performance.findings(kpis, **about, settings=step.settings, as_of=step.as_of)
    assert "no-difference" in {f.code for f in found if f.subject == "industry"}
    assert "best-level" not in {f.code for f in found}


@pytest.mark.datasets
def test_salvirt_reference_figures(datasets, tmp_path):
    step = of_dataset(datasets, "salvirt_b2b", tmp_path)
    given = {"accounts": step.accounts, "settings": step.settings, "as_of": step.as_of, "seed": 1, "replicates": 200}
    kpis = performance.measure_cuts(step.opportunities, ["Client"], **given)
    assert figure(kpis[kpis["cut"] == "all"], "win_rate", "closed")["value"] == pytest.approx(227 / 448)
    assert figure(kpis, "win_rate", "closed", "Current")["value"] == pytest.approx(0.696, abs=5e-4)
    timed = kpis[kpis["kpi"].isin(["cycle_days", "cac", "nrr", "won_amount", "acv", "ltv"])]
    assert set(timed["status"]) == {"not_measured"}


def test_the_hand_workspace_is_read_as_written():
    assert read_settings(WORKSPACES / "hand").plan.window_days == 0


def test_the_table_of_all_accounts_begins_with_the_rate_within_the_horizon():
    rows = [
        ("won", "closed"),
        ("acv", "mean"),
        ("meeting_rate", "accounts"),
        ("win_rate", "closed"),
        ("win_rate", "within_365d"),
    ]
    kpis = pd.DataFrame(rows, columns=["kpi", "basis"]).assign(
        cut="all", period="all", value=1.0, low=0.5, high=2.0, n=9.0, unit="ratio", status="ok", note=""
    )
    as_of = pd.Timestamp("2026-06-30")
    kpis.loc[0, "note"] = f"closed in {performance.say_window(Settings(), as_of)}; counts every loss"
    shown = performance.list_figures(pd.concat([kpis, kpis.assign(cut="region")]), Settings(), as_of)
    order = [
        ("win_rate", "within_365d"),
        ("win_rate", "closed"),
        ("acv", "mean"),
        ("won", "closed"),
        ("meeting_rate", "accounts"),
    ]
    assert list(zip(shown["kpi"], shown["basis"], strict=True)) == order
    assert shown.set_index(["kpi", "basis"]).at[("won", "closed"), "note"] == "closed in the window; counts every loss"
