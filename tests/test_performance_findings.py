"""Findings of the performance step: each trap raises its own, and a market without the trap does not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from icplab.core.config import Economics, Goals, Plan, Settings
from icplab.performance import cells, found, levels, paper, pictures, traps

AS_OF = pd.Timestamp("2026-06-30").as_unit("us")
SETTINGS = Settings(plan=Plan(window_days=0, minimum_n=40, minimum_n_money=60))


def market(n: int = 1200, seed: int = 1, rate: float = 0.25, **columns: object) -> pd.DataFrame:
    """Closed opportunities over two years, one an account, with one win rate for all."""
    rng = np.random.default_rng(seed)
    created = AS_OF - pd.to_timedelta(rng.integers(120, 820, n), unit="D")
    frame = pd.DataFrame(
        {
            "opportunity_id": [f"o{i:05d}" for i in range(n)],
            "account_id": [f"a{i:05d}" for i in range(n)],
            "family_id": [f"a{i:05d}" for i in range(n)],
            "created_at": pd.Series(created).astype("datetime64[us]"),
            "closed_at": pd.Series(created + pd.to_timedelta(rng.integers(20, 100, n), unit="D")).astype(
                "datetime64[us]"
            ),
            "status": np.where(rng.random(n) < rate, "won", "lost"),
            "acv": np.exp(rng.normal(9, 0.8, n)),
            "margin_rate": 0.7,
            "source": rng.choice(["web", "referral"], n),
            "type": "new",
            "product": rng.choice(["plus", "core"], n),
            "loss_reason": pd.Series([pd.NA] * n, dtype="str"),
        }
    )
    return frame.assign(**columns)


def placed(deals: pd.DataFrame, level: object) -> pd.Series:
    return pd.Series(np.asarray(level), index=deals["opportunity_id"])


def codes(said: object, severity: str = "watch") -> list[str]:
    return [f.code for f in said if f.severity == severity]  # type: ignore[attr-defined]


def stages(deals: pd.DataFrame, moved_from: str = "") -> pd.DataFrame:
    """Everybody enters `new`, four in five `qualified` in time; half as many from `moved_from` on."""
    rng = np.random.default_rng(3)
    share = np.full(len(deals), 0.8)
    if moved_from:
        share[(deals["created_at"] >= pd.Timestamp(moved_from)).to_numpy()] = 0.45
    passes = rng.random(len(deals)) < share
    rows = [deals.assign(stage="new"), deals[passes].assign(stage="qualified")]
    frame = pd.concat(rows)
    return frame[["opportunity_id", "stage"]].assign(entered_at=frame["created_at"] + pd.Timedelta(days=10))


def test_a_stage_that_moved_is_found_without_an_events_table_and_dated_to_the_month():
    deals = market()
    (said,) = traps.find_definition_changes(deals, stages(deals, "2025-07-01"), None, SETTINGS, AS_OF)
    assert said.code == "definition-change"
    assert said.subject == "stage qualified since 2025-07"
    assert said.numbers["before"] == pytest.approx(0.8, abs=0.05)
    assert said.numbers["after"] == pytest.approx(0.45, abs=0.05)


def test_a_stage_that_did_not_move_a_slow_drift_and_no_history_say_nothing():
    deals = market()
    assert not list(traps.find_definition_changes(deals, stages(deals), None, SETTINGS, AS_OF))
    assert not list(traps.find_definition_changes(deals, None, None, SETTINGS, AS_OF))
    age = (AS_OF - deals["created_at"]).dt.days.to_numpy()
    passes = np.random.default_rng(5).random(len(deals)) < 0.35 + 0.5 * age / age.max()
    drift = stages(deals).query("stage == 'new'")
    late = deals[passes].assign(stage="qualified", entered_at=deals["created_at"] + pd.Timedelta(days=10))
    drifting = pd.concat([drift, late[["opportunity_id", "stage", "entered_at"]]])
    assert not list(traps.find_definition_changes(deals, drifting, None, SETTINGS, AS_OF))


def test_a_declared_change_stands_for_the_stage_that_moved_with_it():
    deals = market()
    events = pd.DataFrame(
        {"happened_at": [pd.Timestamp("2025-07-03")], "kind": ["definition"], "description": ["qualified later"]}
    )
    said = list(traps.find_definition_changes(deals, stages(deals, "2025-07-01"), events, SETTINGS, AS_OF))
    assert [f.subject for f in said] == ["2025-07-03"]


@pytest.mark.parametrize("status", ["lost", "won"])
def test_a_bulk_day_is_named_with_the_rate_without_it(status):
    deals = market()
    day = pd.Timestamp("2025-09-01")
    # 150 further closings of one kind on one day.
    extra = market(150, seed=9, status=status, closed_at=pd.Series([day] * 150).astype("datetime64[us]"))
    extra["opportunity_id"] = "x" + extra["opportunity_id"]
    both = pd.concat([deals, extra], ignore_index=True)
    (said,) = traps.find_bulk_days(both)
    assert (said.code, said.severity, said.subject) == ("bulk-close", "watch", "2025-09-01")
    usual = both[~((both["status"] == status) & (both["closed_at"] == day))]
    assert said.numbers["win_rate_without"] == pytest.approx((usual["status"] == "won").mean())
    assert not list(traps.find_bulk_days(deals))


def test_one_deal_that_carries_the_mean_is_a_heavy_tail_and_names_whom_it_crowns():
    deals = market()
    won = deals.index[deals["status"] == "won"]
    region = pd.Series(np.where(np.arange(len(deals)) % 2, "north", "south"))
    deals.loc[region == "south", "acv"] *= 0.5
    largest = next(i for i in won if region[i] == "south")
    deals.loc[largest, "acv"] = deals.loc[won, "acv"].sum()
    (said,) = traps.find_heavy_tail(deals, SETTINGS, AS_OF, {"region": placed(deals, region)})
    assert said.severity == "watch"
    assert "region “south”" in said.sentence
    assert said.numbers["top_share"] > 0.4
    assert not list(traps.find_heavy_tail(market(), SETTINGS, AS_OF))


def test_open_deals_that_would_be_counted_as_lost_are_a_warning_and_few_of_them_are_not():
    deals = market()
    young = deals.assign(status=deals["status"].where(deals.index % 2 == 0, "open"))
    row = pd.Series({"value": 0.25, "low": 0.22, "high": 0.28, "n": 1200.0})
    assert codes(traps.find_censoring(row, young, SETTINGS, AS_OF)) == ["censoring"]
    assert codes(traps.find_censoring(row, deals, SETTINGS, AS_OF)) == []


def mixed(share_now: float, share_before: float, seed: int = 4) -> tuple[pd.DataFrame, pd.Series]:
    """Referrals win 45 %, web 15 %, in both years; only their shares change."""
    rng = np.random.default_rng(seed)
    deals = market(2400, seed)
    now = ((AS_OF - deals["closed_at"]).dt.days < 365).to_numpy()
    referral = rng.random(len(deals)) < np.where(now, share_now, share_before)
    deals["status"] = np.where(rng.random(len(deals)) < np.where(referral, 0.45, 0.15), "won", "lost")
    return deals, placed(deals, np.where(referral, "referral", "web"))


def test_a_shift_of_the_mix_is_told_from_a_change_of_rates():
    deals, source = mixed(0.2, 0.6)
    (said,) = traps.find_mix_shifts(deals, {"source": source}, SETTINGS, AS_OF, seed=1)
    assert said.code == "mix-shift"
    assert said.numbers["mix"] == pytest.approx(-0.4 * 0.30, abs=0.03)
    assert said.numbers["change"] == pytest.approx(said.numbers["mix"] + said.numbers["rate"])
    steady, same = mixed(0.4, 0.4)
    assert not list(traps.find_mix_shifts(steady, {"source": same}, SETTINGS, AS_OF, seed=1))


def test_a_mix_adds_up_when_a_level_comes_or_goes():
    deals, source = mixed(0.5, 0.0)
    table = traps.measure_mix(deals, {"source": source}, SETTINGS, AS_OF, seed=1)
    assert table["mix"][0] + table["rate"][0] == pytest.approx(table["change"][0])
    assert table["mix"][0] == pytest.approx(0.15, abs=0.04)


def test_a_small_level_that_leads_by_luck_is_a_warning_and_the_real_leader_is_named():
    deals = market(1500, rate=0.2)
    name = np.array([f"big{i % 3}" for i in range(1500)], dtype=object)
    name[:60] = [f"tiny{i // 10}" for i in range(60)]
    deals.loc[:9, "status"] = ["won"] * 6 + ["lost"] * 4
    real = name == "big2"
    deals.loc[real, "status"] = np.where(np.random.default_rng(2).random(real.sum()) < 0.35, "won", "lost")
    counts = levels.count_levels(deals, {"cell": placed(deals, name)}, SETTINGS, AS_OF)
    (said,) = levels.find_small_groups(counts, SETTINGS)
    assert (said.severity, said.numbers["level"], said.numbers["leader"]) == ("watch", "tiny0", "big2")
    (best,) = levels.find_leaders(counts, ["cell"])
    assert (best.code, best.numbers["level"]) == ("best-level", "big2")


def test_few_small_levels_are_a_note_and_levels_without_difference_have_no_leader():
    deals = market(1500)
    name = np.array([f"big{i % 4}" for i in range(1500)], dtype=object)
    name[:10] = "tiny"
    counts = levels.count_levels(deals, {"cell": placed(deals, name)}, SETTINGS, AS_OF)
    (said,) = levels.find_small_groups(counts, SETTINGS)
    assert said.severity == "info"
    assert [f.code for f in levels.find_leaders(counts, ["cell"])] == ["no-difference"]


def test_the_horizon_rate_of_a_level_equals_aalen_and_johansen():
    from icplab.core.stats.survival import aalen_johansen, count_events, value_at

    rng = np.random.default_rng(8)
    days, cause = rng.integers(1, 500, 400).astype(float), rng.integers(0, 3, 400)
    n, _, rate, trials = levels._incidence(days, cause == 1, cause == 0, 365)
    curve = aalen_johansen(count_events(days, cause))
    assert rate == pytest.approx(float(value_at(curve.days, curve.incidence, 365)), abs=1e-12)
    assert 0 < trials <= n == 400


def subscriptions(deals: pd.DataFrame, monthly: np.ndarray) -> pd.DataFrame:
    won = (deals["status"] == "won").to_numpy()
    frame = deals.loc[won, ["account_id"]].assign(started_at=deals["closed_at"], mrr=monthly[won], gross_margin=0.7)
    ended = frame["started_at"] + pd.Timedelta(days=300)
    late = np.arange(len(frame)) % 5 != 0
    return frame.assign(
        ended_at=ended.mask(late | (ended > AS_OF)), currency=pd.Series(pd.NA, frame.index, dtype="str")
    )


def test_a_cell_that_wins_more_and_is_worth_more_is_found_and_one_that_only_wins_more_is_not():
    deals = market(2000)
    accounts = deals[["account_id", "family_id"]].assign(region=[f"r{i % 5}" for i in range(2000)])
    first, second = (accounts["region"] == r for r in ("r0", "r1"))
    rng = np.random.default_rng(6)
    rate = np.where(first | second, 0.45, 0.2)
    deals["status"] = np.where(rng.random(2000) < rate, "won", "lost")
    monthly = np.exp(rng.normal(6, 0.5, 2000)) * np.where(first, 2.5, 1.0)
    given = {"accounts": accounts, "cube": ["region"], "settings": SETTINGS, "as_of": AS_OF, "seed": 1}
    table = cells.compare_cells(deals, subscriptions=subscriptions(deals, monthly), **given)
    assert table.loc[table["above"], "cell"].tolist() == ["r0"]
    assert table["value_is"].unique().tolist() == ["lifetime value"]
    (said,) = cells.find_cells(table, ["region"], SETTINGS)
    assert (said.code, said.subject) == ("cell-above-rest", "r0")
    plain = cells.compare_cells(deals, subscriptions=None, **given)
    assert plain["value_is"].unique().tolist() == ["first-year margin"]
    unpriced = subscriptions(deals, monthly).assign(gross_margin=np.nan)
    pd.testing.assert_frame_equal(cells.compare_cells(deals, subscriptions=unpriced, **given), plain)


def test_lifetime_value_of_a_cell_is_margin_over_the_discounted_capped_life():
    # 100 customers paying 70 margin a month, 10 endings in 1,000 months: churn of one percent, steadied at the same rate.
    sums = {
        c: np.array([[v]]) for c, v in {"margin": 7000.0, "customers": 100.0, "ended": 10.0, "months": 1000.0}.items()
    }
    settings = Settings(economics=Economics(discount_rate=0.10, ltv_months=60))
    value = cells._value(sums, np.array([[0.01]]), settings, lifetime=True)[0, 0]
    assert value == pytest.approx(sum(70 * 0.99**m / 1.1 ** (m / 12) for m in range(1, 61)))


def test_claims_find_the_levels_they_name_and_say_which_name_nothing():
    goals = Goals(strategic_bets=("more referral business", "space tourism"), product_focus=("plus",))
    claims = paper.list_claims(Settings(goals=goals), pd.DataFrame({"account_id": []}), market())
    named = claims.set_index("claim")[["cut", "level"]]
    assert named.loc["more referral business"].tolist() == ["source", "referral"]
    assert named.loc["plus"].tolist() == ["product", "plus"]
    assert named.loc["space tourism"].tolist() == ["", ""]


def test_a_bet_that_brings_less_is_good_on_paper_only_and_one_that_does_not_is_not():
    deals = market(2000)
    weak = (deals["source"] == "referral").to_numpy()
    deals["status"] = np.where(np.random.default_rng(7).random(2000) < np.where(weak, 0.12, 0.30), "won", "lost")
    settings = Settings(plan=SETTINGS.plan, goals=Goals(strategic_bets=("referral", "web")))
    claims = paper.list_claims(settings, pd.DataFrame({"account_id": []}), deals)
    compared = paper.compare_claims(claims, deals, {}, settings, AS_OF, seed=1)
    said = {f.subject: f.severity for f in paper.find_paper(claims, compared, settings)}
    assert said == {"referral": "watch", "web": "info"}
    assert compared.set_index("claim").loc["referral", "win_rate"] == pytest.approx(
        (deals.loc[weak, "status"] == "won").mean(), abs=1e-6
    )


def test_segments_that_people_call_attractive_are_held_to_their_results():
    playbook = {"segments": {"S1": {"scores": {"strategic_fit": 5, "problem_intensity": 4}}, "S2": {"scores": {}}}}
    segments = pd.DataFrame({"segment_id": ["S1", "S2"], "segment": ["Small", "Large"]})
    claims = paper.list_claims(Settings(playbook=playbook), pd.DataFrame(), pd.DataFrame(), segments=segments)
    assert claims[["source", "cut", "level"]].to_numpy().tolist() == [["playbook", "segment", "S1"]]


def test_an_order_that_depends_on_the_allocation_is_said():
    rows = [("new_logo", "a", 100.0), ("new_logo", "b", 130.0), ("new_logo_by_accounts", "a", 150.0), ("new_logo_by_accounts", "b", 110.0)]  # fmt: skip
    kpis = pd.DataFrame(rows, columns=["basis", "level", "value"]).assign(
        kpi="cac", n=90.0, cut="region", period="all", status="ok"
    )
    (said,) = found._allocations(kpis)
    assert (said.code, said.severity) == ("allocation-dependent", "info")
    kpis["value"] = [100.0, 130.0, 105.0, 140.0]
    assert not list(found._allocations(kpis))


def test_levels_behind_the_cheapest_that_change_places_with_the_allocation_are_said():
    values = {"new_logo": (50.0, 100.0, 140.0), "new_logo_by_accounts": (50.0, 150.0, 110.0)}
    rows = [(basis, level, v) for basis, three in values.items() for level, v in zip("abc", three, strict=True)]
    kpis = pd.DataFrame(rows, columns=["basis", "level", "value"]).assign(
        kpi="cac", n=90.0, cut="region", period="all", status="ok"
    )
    (said,) = found._allocations(kpis)
    assert said.numbers["order_changes"]
    assert "“b”, “c” change places" in said.sentence
    assert "“a”" not in said.sentence


def test_the_waterfall_of_retention_adds_up_and_equals_nrr():
    accounts = pd.DataFrame({"account_id": list("abcde"), "family_id": ["f", "f", "c", "d", "e"]})
    old, new = pd.Timestamp("2024-01-01"), pd.Timestamp("2026-01-01")
    # a 100, and a second account of its family joins with 50; c leaves; d stays with 100 of 100; e is new.
    rows = [("a", old, None, 100.0), ("b", new, None, 50.0), ("c", old, new, 100.0), ("d", old, None, 100.0), ("e", new, None, 30.0)]  # fmt: skip
    table = pd.DataFrame(rows, columns=["account_id", "started_at", "ended_at", "mrr"])
    table = table.assign(ended_at=pd.to_datetime(table["ended_at"]), currency=pd.Series([pd.NA] * 5, dtype="str"))
    rates = pd.DataFrame({"currency": [], "valid_from": [], "rate": []})
    picture = pictures.draw_retention_steps(table, accounts=accounts, rates=rates, settings=SETTINGS, as_of=AS_OF)
    steps = picture.table.set_index("step")["value"]
    assert steps["grown"] == 600
    assert steps["customers lost"] == -1200
    assert (
        steps.iloc[0] + steps["customers lost"] + steps["reduced"] + steps["grown"] == steps["the same customers today"]
    )
    assert "67 were kept" in picture.title
    assert "now pay 83" in picture.title


def test_cohorts_show_only_ages_that_everybody_could_reach():
    starts = pd.to_datetime(["2025-01-10", "2025-02-10", "2025-12-01"])
    table = pd.DataFrame({"account_id": list("abc"), "started_at": starts, "ended_at": [starts[0] + pd.Timedelta(days=100), pd.NaT, pd.NaT]})  # fmt: skip
    shown = pictures.draw_cohorts(table, SETTINGS, AS_OF).table.set_index(["cohort", "age"])["value"]
    assert shown["2025H1", "3 months"] == 1.0
    assert shown["2025H1", "6 months"] == 0.5
    assert ("2025H2", "9 months") not in shown


def test_limits_of_the_funnel_hold_nearly_all_levels_of_a_market_without_differences():
    deals = market(4000)
    cuts = {f"c{k}": placed(deals, np.random.default_rng(k).integers(0, 8, 4000).astype(str)) for k in range(10)}
    funnel = pictures.draw_funnel(deals, cuts, SETTINGS, AS_OF)
    assert len(funnel.table) == 80
    assert funnel.table["outside"].sum() <= 2
    assert funnel.reference == pytest.approx((deals["status"] == "won").mean())
