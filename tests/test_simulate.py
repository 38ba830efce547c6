"""The simulated market is what its recipe says, its exports keep the contract, and its oracle is right about its truth."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from icplab.core.config import read_settings
from icplab.core.errors import BadInput
from icplab.core.schema import CANONICAL, DTYPES
from icplab.governance import check_register
from icplab.simulate import SCENARIOS, Market, Recipe, simulate_market, write_market
from icplab.simulate.draw import mean_sigmoid
from icplab.simulate.latent import build_classes
from icplab.simulate.oracle import survival
from icplab.simulate.recipe import vary_recipe
from icplab.simulate.sample import write_sample

SAMPLE = Path(__file__).parents[1] / "data" / "sample"
AS_OF = pd.Timestamp("2026-06-30")


@cache
def market(scenario: str = "clean", seed: int = 1, accounts: int = 3000, vary: bool = False) -> Market:
    return simulate_market(accounts, seed, scenario, vary=vary)


@cache
def large() -> Market:
    return simulate_market(8_000, 5)


def joined(m: Market) -> pd.DataFrame:
    """Opportunities with the latent segment and probabilities of their account."""
    truth = m.truth.accounts
    return m.tables["opportunities"].merge(truth, on="account_id", suffixes=("", "_account"))


def test_segments_have_the_shares_and_the_size_of_the_recipe():
    m = large()
    latent = m.truth.accounts["segment"]
    shares = latent.value_counts(normalize=True).sort_index()
    assert shares.to_numpy() == pytest.approx([0.4, 0.3, 0.2, 0.1], abs=0.02)
    log_employees = np.log(m.tables["accounts"]["employees"]).groupby(latent)
    assert log_employees.mean().to_numpy() == pytest.approx([4.0, 5.1, 6.2, 7.3], abs=0.08)
    assert log_employees.std().to_numpy() == pytest.approx(np.ones(4), abs=0.06)


def test_each_segment_prefers_two_industries_one_need_and_five_tools():
    m = large()
    latent, accounts = m.truth.accounts["segment"], m.tables["accounts"]
    need, stack = (_column(m, what) for what in ("need of the account", "tools the account uses"))
    industry = pd.crosstab(latent, accounts["industry"], normalize="index").to_numpy()
    needs = pd.crosstab(latent, accounts[need], normalize="index").to_numpy()
    tools = accounts[stack].str.get_dummies(";").groupby(latent).sum()
    known = accounts[stack].notna().groupby(latent).sum()
    tools = tools.div(known, axis=0).to_numpy()
    assert np.sort(industry, axis=1)[:, -2:] == pytest.approx(np.full((4, 2), 0.35), abs=0.05)
    assert np.sort(needs, axis=1)[:, -1] == pytest.approx(np.full(4, 0.6), abs=0.05)
    assert np.sort(tools, axis=1)[:, -5:] == pytest.approx(np.full((4, 5), 0.38), abs=0.07)
    assert np.median(tools) == pytest.approx(0.08, abs=0.01)
    assert tools.shape == (4, 40)


def test_the_mean_true_win_probability_is_22_per_cent_before_the_horizon():
    for seed in (1, 2, 3):
        truth = market(seed=seed).truth
        per_deal = (
            market(seed=seed).tables["opportunities"]["account_id"].map(truth.accounts.set_index("account_id")["p_win"])
        )
        # Nearly every win comes within a year, so the horizon takes little off the 22 per cent.
        assert 0.21 < per_deal.mean() < 0.2205


def test_closed_opportunities_are_won_about_as_often_as_planned():
    rates = [_closed_rate(market(seed=s)) for s in (1, 2, 3)]
    assert np.mean(rates) == pytest.approx(0.22, abs=0.025)


def test_cycles_and_values_follow_the_recipe_of_their_segment():
    m = large()
    deals = joined(m)
    # Only old opportunities, so that open ones do not cut the long cycles off.
    won = deals[(deals["status"] == "won") & (deals["created_at"] < AS_OF - pd.DateOffset(months=12))]
    days = (won["closed_at"] - won["created_at"]).dt.days
    truth = m.truth.segments.set_index("segment")
    assert days.groupby(won["segment"]).median().to_numpy() == pytest.approx(
        truth["cycle_days_won_median"].to_numpy(), rel=0.09
    )
    value = deals.groupby("segment")["amount"]
    assert value.median().to_numpy() == pytest.approx(truth["acv_median"].to_numpy(), rel=0.06)
    assert np.log(deals["amount"]).groupby(deals["segment"]).std().to_numpy() == pytest.approx(
        np.full(4, 0.8), abs=0.04
    )


def test_worked_accounts_have_one_opportunity_and_a_poisson_number_more_spread_over_all_months():
    m = large()
    deals = m.tables["opportunities"]
    per_account = deals.groupby("account_id").size()
    assert len(per_account) == 8_000
    assert per_account.mean() == pytest.approx(1.6, abs=0.03)
    months = deals["created_at"].dt.to_period("M").value_counts(normalize=True)
    assert len(months) == 30
    assert months.between(0.8 / 30, 1.2 / 30).all()


def test_eight_per_cent_are_missing_whatever_else_is_true():
    m = large()
    accounts = m.tables["accounts"]
    blanks = accounts[[*m.truth.columns["column"]]].isna()
    assert blanks.mean().to_numpy() == pytest.approx(np.full(blanks.shape[1], 0.08), abs=0.012)
    won = m.truth.accounts["is_customer"]
    assert (blanks[won].mean() - blanks[~won].mean()).abs().max() < 0.035


def test_subscriptions_survive_as_the_beta_geometric_says():
    m = large()
    subs = m.tables["subscriptions"].merge(m.truth.accounts[["account_id", "segment"]], on="account_id")
    old = subs[subs["started_at"] < AS_OF - pd.DateOffset(months=12)]
    alive = old["ended_at"].isna() | (old["ended_at"] > old["started_at"] + pd.Timedelta(days=366))
    expected = m.truth.segments.set_index("segment")["retention_12m"].to_numpy()
    assert alive.groupby(old["segment"]).mean().to_numpy() == pytest.approx(expected, abs=0.07)


def test_survival_is_the_mean_of_constant_churn_over_its_beta_distribution():
    classes = build_classes(Recipe(churn_a=0.7), np.random.default_rng(0))
    theta = np.random.default_rng(1).beta(classes.churn_a[0], classes.churn_b[0], 400_000)
    assert survival(classes, np.array([6, 24]))[0] == pytest.approx(
        [((1 - theta) ** m).mean() for m in (6, 24)], rel=0.01
    )


def test_urgent_accounts_are_busy_before_and_close_faster():
    m = large()
    deals, events = m.tables["opportunities"], m.tables["activities"]
    signals = events[events["topic"].notna()]
    deals = deals[deals["status"] != "open"].sort_values("created_at")
    pairs = deals.merge(signals[["account_id", "occurred_at"]], on="account_id")
    gap = (pairs["created_at"] - pairs["occurred_at"]).dt.days
    busy = gap.between(1, 60).groupby(pairs["opportunity_id"]).sum().reindex(deals["opportunity_id"], fill_value=0)
    days = np.log((deals["closed_at"] - deals["created_at"]).dt.days.to_numpy())
    assert np.corrcoef(busy, days)[0, 1] < -0.05
    recent = events["occurred_at"] > AS_OF - pd.Timedelta(days=60)
    soon = m.truth.accounts["next_opportunity_at"] <= AS_OF + pd.Timedelta(days=14)
    counts = (
        events[recent].groupby("account_id").size().reindex(m.truth.accounts["account_id"], fill_value=0).to_numpy()
    )
    assert counts[soon].mean() > 2 * counts[~soon].mean()


def test_usage_falls_before_a_customer_leaves():
    m = large()
    subs = m.tables["subscriptions"]
    runs = subs["ended_at"].isna().groupby(subs["account_id"]).any()
    ends = subs.groupby("account_id")["ended_at"].max().mask(runs)
    usage = m.tables["usage"].query("metric == 'active_users'")
    left = usage["account_id"].map(ends) - usage["period"]
    late = usage[left < pd.Timedelta(days=80)].groupby("account_id")["value"].mean()
    early = usage[left > pd.Timedelta(days=100)].groupby("account_id")["value"].mean()
    assert (late / early).median() == pytest.approx(0.55, abs=0.05)


@pytest.mark.parametrize("scenario", ["clean", "leak", "duplicates"])
def test_every_canonical_table_is_there_and_keeps_its_declaration(scenario):
    m = market(scenario)
    assert set(m.tables) == set(CANONICAL)
    for name, table in CANONICAL.items():
        frame = m.tables[name]
        assert len(frame), name
        for column in table.columns:
            values = frame[column.name]
            assert values.dtype == DTYPES[column.kind], f"{name}.{column.name}"
            assert not (column.required and values.isna().any()), f"{name}.{column.name}"
            assert not column.allowed or values.dropna().isin(column.allowed).all(), f"{name}.{column.name}"
            if column.references:
                other, key = column.references.split(".")
                assert values.dropna().isin(m.tables[other][key]).all(), f"{name}.{column.name}"
        assert not (table.key and frame.duplicated(list(table.key)).any()), name


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_nothing_is_dated_after_the_as_of_date(scenario):
    planned = {("campaigns", "ended_at")}
    for name, frame in market(scenario).tables.items():
        for column in frame.select_dtypes("datetime"):
            assert (name, column) in planned or not (frame[column] > AS_OF).any(), f"{name}.{column}"


def test_what_happened_to_an_opportunity_is_in_order():
    m = market()
    deals = m.tables["opportunities"]
    opened = deals["account_id"].map(m.tables["accounts"].set_index("account_id")["created_at"])
    assert (opened <= deals["created_at"]).all()
    assert (deals["closed_at"].isna() == (deals["status"] == "open")).all()
    assert not (deals["closed_at"] < deals["created_at"]).any()
    stages = m.tables["stage_history"].merge(deals, on="opportunity_id")
    assert stages["entered_at"].between(stages["created_at"], stages["closed_at"].fillna(AS_OF)).all()
    wins = deals[deals["status"] == "won"].groupby("account_id")["closed_at"].min()
    customer = deals["account_id"].map(wins) < deals["created_at"]
    assert (customer == (deals["type"] == "expansion")).all()


def test_the_same_seed_gives_the_same_market_and_another_seed_another():
    one, two, other = (simulate_market(400, seed, vary=True) for seed in (4, 4, 5))
    for name in CANONICAL:
        pd.testing.assert_frame_equal(one.tables[name], two.tables[name])
    pd.testing.assert_frame_equal(one.truth.accounts, two.truth.accounts)
    assert one.settings_toml == two.settings_toml
    assert not one.tables["opportunities"]["amount"].equals(other.tables["opportunities"]["amount"])


def test_varied_recipes_stay_in_their_ranges_and_differ():
    recipes = [asdict(vary_recipe(Recipe(), np.random.default_rng(seed))) for seed in range(8)]
    assert len({r["win_rate"] for r in recipes}) == 8
    assert all(0.19 <= r["win_rate"] <= 0.25 and 0.47 <= r["trait_effect"] <= 0.60 for r in recipes)
    assert all(np.isclose(sum(r["shares"]), 1) for r in recipes)


def test_planted_columns_carry_neutral_names_in_neutral_places():
    places = []
    for seed in range(1, 5):
        m = simulate_market(60, seed, "leak")
        further = [c for c in m.tables["accounts"] if c not in CANONICAL["accounts"].by_name]
        assert further == sorted(further)
        assert all(re.fullmatch(r"c\d\d", c) for c in further)
        levels = set(m.tables["accounts"][further].select_dtypes("str").stack().str.split(";").explode().dropna())
        assert all(re.fullmatch(r"yes|no|[vnt]\d+", level) for level in levels)
        planted = m.truth.columns.query("role == 'planted'")["column"]
        places.append(np.mean([further.index(c) for c in planted]) / len(further))
    assert np.mean(places) == pytest.approx(0.5, abs=0.2)


def test_ten_traits_are_planted_at_half_a_log_odds_and_idle_ones_at_none():
    traits = market().truth.traits
    planted = traits[traits["role"] == "planted"]
    assert len(planted) == 10
    assert planted["log_odds_ratio"].abs().tolist() == [0.5] * 10
    assert planted["log_odds_ratio"].sum() == 0
    assert planted["prevalence"].between(0.06, 0.43).all()
    assert (traits.loc[traits["role"] != "planted", "log_odds_ratio"] == 0).all()
    assert not traits.duplicated(["trait", "level"]).any()


def test_the_planted_log_odds_ratios_are_those_of_the_true_probabilities():
    m = market()
    logit = m.truth.accounts["log_odds"]
    for row in m.truth.traits.query("role == 'planted'").itertuples():
        others = m.truth.traits.query("role == 'planted' and trait != @row.trait")
        design = [m.tables["accounts"][c].eq("yes") for c in (row.trait, *others["trait"])]
        design += [m.truth.accounts["segment"].eq(s) for s in ("P2", "P3", "P4")]
        known = m.tables["accounts"][[row.trait, *others["trait"]]].notna().all(axis=1)
        x = np.column_stack([np.ones(known.sum()), *(d[known] for d in design)]).astype(float)
        assert np.linalg.lstsq(x, logit[known], rcond=None)[0][1] == pytest.approx(row.log_odds_ratio, abs=1e-9)


@pytest.mark.parametrize(
    ("scenario", "vary"),
    [("clean", False), ("clean", True), ("simpson", False), ("continuum", False), ("drift", False)],
)
def test_the_oracle_is_calibrated(scenario, vary):
    truth = pd.concat(
        [market(scenario, seed, vary=vary).truth.accounts for seed in ((1, 2) if scenario == "clean" else (1,))]
    )
    slope, _ = np.polyfit(truth["oracle_win"], truth["p_win"], 1)
    assert slope == pytest.approx(1, abs=0.03)
    assert truth["oracle_win"].mean() == pytest.approx(truth["p_win"].mean(), abs=0.004)
    assert truth["oracle_value"].mean() == pytest.approx(truth["expected_value"].mean(), rel=0.03)


def test_posteriors_sum_to_one_and_are_as_sure_as_they_are_right():
    truth = large().truth.accounts
    for prefix, best in (("oracle_segment_", "oracle_best"), ("oracle_all_", "oracle_best_all")):
        posterior = truth.filter(regex=f"^{prefix}")
        assert posterior.shape[1] == 4
        assert posterior.sum(axis=1).to_numpy() == pytest.approx(np.ones(len(truth)))
        assert (truth[best] == truth["segment"]).mean() == pytest.approx(posterior.max(axis=1).mean(), abs=0.012)


def test_the_oracle_ranks_better_than_any_single_column_and_worse_than_the_truth():
    m = market()
    truth, accounts = m.truth.accounts, m.tables["accounts"]
    perfect, oracle = _auc(truth["p_win"], truth["p_win"]), _auc(truth["oracle_win"], truth["p_win"])
    columns = {c: accounts[c].fillna(accounts[c].median()) for c in accounts.select_dtypes("number")}
    columns |= {c: accounts[c].eq("yes") * 1.0 for c in m.truth.traits.query("level == 'yes'")["trait"]}
    rates = truth["p_win"].groupby(accounts["industry"]).mean()
    columns["industry"] = accounts["industry"].map(rates).fillna(0.22)
    best = max(max(a, 1 - a) for a in (_auc(v, truth["p_win"]) for v in columns.values()))
    assert 0.5 < best < oracle < perfect


def test_quadrature_equals_a_plain_mean_over_draws():
    noise = np.random.default_rng(0).standard_normal(2_000_000)
    for center, spread in ((-1.3, 0.27), (0.5, 1.2)):
        plain = (1 / (1 + np.exp(-(center + spread * noise)))).mean()
        assert mean_sigmoid(np.array([center]), spread)[0] == pytest.approx(plain, abs=5e-4)


def test_realised_wins_agree_with_the_true_probabilities():
    deals = joined(large())
    old = deals[deals["created_at"] < AS_OF - pd.DateOffset(months=13)]
    within = (old["status"] == "won") & ((old["closed_at"] - old["created_at"]).dt.days <= 365)
    bins = pd.qcut(old["p_win"], 5)
    # Sellers and quarters are drawn, so a market may lie a little off its own expectation.
    assert within.groupby(bins, observed=True).mean().to_numpy() == pytest.approx(
        old["p_win"].groupby(bins, observed=True).mean().to_numpy(), abs=0.04
    )


def test_no_effect_is_left_in_the_null_market():
    m = market("null")
    assert m.truth.accounts["p_win"].nunique() == 1
    assert m.truth.accounts["segment"].nunique() == 1
    assert (m.truth.traits["log_odds_ratio"] == 0).all()


def test_a_continuum_has_a_factor_and_no_segments():
    truth = market("continuum").truth
    assert set(truth.accounts["segment"]) == {"none"}
    assert truth.segments.empty
    assert np.corrcoef(truth.accounts["factor"], truth.accounts["p_win"])[0, 1] > 0.9
    assert np.corrcoef(truth.accounts["factor"], truth.accounts["oracle_win"])[0, 1] > 0.7


def test_simpsons_trait_helps_in_each_channel_and_hurts_overall():
    m = market("simpson")
    trait = _column(m, "planted flag 23")
    deals = m.tables["opportunities"].merge(m.tables["accounts"][["account_id", trait]], on="account_id")
    closed = deals[(deals["status"] != "open") & deals[trait].notna()]
    won = closed["status"].eq("won")
    crude = won.groupby(closed[trait]).mean()
    inside = won.groupby([closed["source"], closed[trait]]).mean().unstack()
    assert crude["yes"] < crude["no"]
    assert (inside["yes"] > inside["no"]).all()
    assert inside.loc["referral"].mean() == pytest.approx(0.42, abs=0.07)


def test_leaks_are_filled_after_the_outcome_and_change_nothing_else():
    clean, leaking = market(), market("leak")
    pd.testing.assert_frame_equal(clean.truth.accounts, leaking.truth.accounts)
    own = list(CANONICAL["opportunities"].by_name)
    pd.testing.assert_frame_equal(clean.tables["opportunities"], leaking.tables["opportunities"][own])
    written, filled = (_column(leaking, f"{what}") for what in ("written at win", "filled after win"))
    deals, accounts = leaking.tables["opportunities"], leaking.tables["accounts"]
    assert deals[written].notna().groupby(deals["status"]).mean()[["won", "open"]].tolist() == pytest.approx(
        [0.9, 0.03], abs=0.03
    )
    customers = leaking.truth.accounts["is_customer"]
    assert accounts[filled].notna().groupby(customers).mean().tolist() == pytest.approx([0.55, 0.95], abs=0.04)


def test_confounded_traits_are_common_in_referral_and_do_nothing():
    m = market("confounded")
    source = m.tables["opportunities"].groupby("account_id")["source"].first()
    referred = source.eq("referral").reindex(m.tables["accounts"]["account_id"]).to_numpy()
    names = m.truth.columns.query("role == 'confounded'")["column"]
    yes = m.tables["accounts"][names].eq("yes")
    assert len(names) == 5
    assert (yes[referred].mean() / yes[~referred].mean()).mean() == pytest.approx(2.2, abs=0.3)


def test_scenarios_spoil_what_they_say():
    huge = market("heavy-tails").tables["opportunities"]
    assert huge.loc[huge["amount"] == 40e6, "status"].tolist() == ["won"]
    assert _closed_rate(market("rare-wins")) < 0.03
    assert _column(market("rare-wins"), "tools the account uses")
    closed_on = market("definition-change").tables["opportunities"]["closed_at"].value_counts()
    assert 595 <= closed_on.iloc[0] <= 605
    assert closed_on.iloc[1] < 30
    need = _column(market("mnar"), "need of the account")
    lost_only = ~market("mnar").truth.accounts["is_customer"]
    assert market("mnar").tables["accounts"][need].isna()[lost_only].mean() > 0.3
    bundles = market("vendor-artefact").tables["accounts"]
    stack = _column(market("vendor-artefact"), "tools the account uses")
    tools = bundles[stack].str.get_dummies(";")
    young = bundles["created_at"] > bundles["created_at"].median()
    assert (tools[young].mean() - tools[~young].mean()).abs().median() > 0.1


def test_the_drifting_segment_and_trait_turn_at_quarter_seven():
    m = market("drift", 2, 6000)
    deals = joined(m).query("status != 'open' and segment == 'P2'")
    late = deals["created_at"] >= pd.Timestamp("2025-07-01")
    won = deals["status"].eq("won").groupby(late).mean()
    assert won[False] - won[True] > 0.05
    turned = m.truth.traits.query("role == 'planted'")["log_odds_ratio"]
    before = market("clean", 2).truth.traits.query("role == 'planted'")["log_odds_ratio"]
    assert (np.sort(turned) != np.sort(before)).any()


def test_the_slow_segment_only_looks_worse_while_its_deals_are_open():
    m = market("censoring")
    deals = joined(m)
    recent = deals[deals["created_at"] > AS_OF - pd.Timedelta(days=180)]
    naive = recent["status"].eq("won").groupby(recent["segment"]).mean()
    truth = m.truth.segments.set_index("segment")["p_win_new"]
    assert truth["P2"] > truth["P1"]
    assert naive["P2"] < naive["P1"]


def test_one_cell_of_twenty_five_is_real():
    m = market("tiny-segments")
    cell = m.truth.traits.query("role == 'planted'").set_index("level")
    assert len(cell) == 25
    assert (cell["log_odds_ratio"] != 0).sum() == 1
    assert cell.loc[cell["log_odds_ratio"] != 0, "prevalence"].item() == pytest.approx(150 / 3000)
    assert ((cell["prevalence"] * 3000).round() <= 15).sum() == 15


def test_duplicates_stand_under_another_spelling_and_share_the_opportunities():
    m = market("duplicates")
    truth = m.truth.accounts
    twins = truth[truth["duplicate_of"].notna()]
    assert len(twins) == 450
    names = m.tables["accounts"].set_index("account_id")["name"]
    assert (names[twins["account_id"]].to_numpy() != names[twins["duplicate_of"]].to_numpy()).all()
    moved = m.tables["opportunities"]["account_id"].isin(twins["account_id"]).sum()
    kept = m.tables["opportunities"]["account_id"].isin(twins["duplicate_of"]).sum()
    assert 0.4 < moved / (moved + kept) < 0.6
    parents = m.tables["accounts"]["parent_account_id"].iloc[:3000].dropna()
    assert (len(parents), parents.nunique()) == (600, 60)


def test_a_written_market_reads_back_and_keeps_its_truth_apart(tmp_path):
    m = market(accounts=600)
    folder = write_market(m, tmp_path / "w")
    deals = pd.read_csv(folder / "opportunities.csv", parse_dates=["created_at", "closed_at"])
    assert len(deals) == len(m.tables["opportunities"])
    assert (deals["closed_at"] == m.tables["opportunities"]["closed_at"]).sum() == deals["closed_at"].notna().sum()
    assert deals["amount"].tolist() == m.tables["opportunities"]["amount"].tolist()
    kept = pd.read_parquet(folder / "truth" / "accounts.parquet")
    pd.testing.assert_frame_equal(kept, m.truth.accounts)
    visible = {p.name for p in folder.iterdir() if p.is_file()}
    assert visible == {f"{t}.csv" for t in CANONICAL} | {"icplab.toml", "playbook.toml", "decisions.jsonl"}


@pytest.mark.parametrize("scenario", ["clean", "tiny-segments", "continuum"])
def test_settings_are_accepted_and_the_register_holds(scenario, tmp_path):
    m = market(scenario)
    (tmp_path / "icplab.toml").write_text(m.settings_toml)
    (tmp_path / "playbook.toml").write_text(m.playbook_toml)
    settings = read_settings(tmp_path)
    assert settings.defaults_taken == ()
    assert settings.capacity.tier_1 == 600
    assert {t.role for t in settings.traits.values()} == {"need", "technology"}
    assert set(settings.playbook["segments"]) == {f"S{i}" for i in range(1, 8)}
    assert check_register(m.decisions) is None
    assert check_register([m.decisions[0], {**m.decisions[1], "what": "something else"}]) == 2


def test_unknown_names_are_refused_with_the_nearest(tmp_path):
    with pytest.raises(BadInput, match=r'scenario "nul" is not known.*"null"'):
        simulate_market(50, 1, "nul")
    with pytest.raises(BadInput, match='layout "excel" is not known'):
        write_market(market(), tmp_path, layout="excel")


def test_the_committed_sample_is_what_the_command_writes(tmp_path):
    fresh = write_sample(tmp_path)
    names = sorted(p.name for p in fresh.iterdir())
    assert names == sorted(p.name for p in SAMPLE.iterdir())
    for name in names:
        assert (fresh / name).read_bytes() == (SAMPLE / name).read_bytes(), f"{name}: run `make sample`"
    assert sum(p.stat().st_size for p in SAMPLE.iterdir()) <= 3_000_000


def test_the_sample_has_enough_wins_quarters_and_unworked_accounts():
    deals = pd.read_csv(SAMPLE / "opportunities.csv", parse_dates=["created_at", "closed_at"])
    accounts = pd.read_csv(SAMPLE / "accounts.csv")
    assert (deals["status"] == "won").sum() >= 300
    assert deals["created_at"].dt.to_period("Q").nunique() >= 8
    assert 1 - accounts["account_id"].isin(deals["account_id"]).mean() == pytest.approx(0.25, abs=0.04)
    register = [json.loads(line) for line in (SAMPLE / "decisions.jsonl").read_text().splitlines()]
    assert len(register) == 3
    assert check_register(register) is None
    assert set(read_settings(SAMPLE).playbook["segments"]) == {"S1", "S2", "S3", "S4"}


def _closed_rate(m: Market) -> float:
    status = m.tables["opportunities"]["status"]
    return (status == "won").sum() / (status != "open").sum()


def _column(m: Market, what: str) -> str:
    return m.truth.columns.set_index("what").loc[what, "column"]


def _auc(score: pd.Series, p: pd.Series) -> float:
    """Expected AUC of a score over outcomes with probabilities p."""
    table = pd.DataFrame({"s": score.to_numpy(float), "won": p.to_numpy(), "lost": 1 - p.to_numpy()})
    table = table.groupby("s")[["won", "lost"]].sum()
    below = table["lost"].cumsum() - table["lost"] / 2
    return float((table["won"] * below).sum() / (table["won"].sum() * table["lost"].sum()))
