"""Key figures equal what others have published or computed: a consultant's segment table, public datasets, scipy.

Survival tables, sBG fits, Wilson and cumulative incidence against their publications stand in the tests of core.stats.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from icplab import performance
from icplab.core.config import Economics, Plan, Settings
from icplab.core.schema import CANONICAL
from icplab.core.stats.resample import resample_sums
from icplab.core.stats.survival import kaplan_meier
from icplab.performance.cost import payback
from icplab.performance.facts import build_facts, slice_level
from icplab.performance.figures import Figure, over
from icplab.performance.kpis import TABLES
from icplab.performance.lifetime import life_of

# Segment table of ryanconsulting.ai: ACV, CAC, LTV in thousands; GRR, NRR in per cent; LTV:CAC and payback in months as printed.
SEGMENTS = {
    "enterprise": (185, 62, 412, 95, 118, 6.6, 8.2, 0.49),
    "mid-market": (44, 14, 89, 88, 106, 6.4, 7.8, 0.49),
    "smb": (12, 4.8, 18, 74, 82, 3.8, 9.6, 0.50),
    "startup": (6, 2.1, 7, 61, 68, 3.3, 11.4, 0.37),
}


@pytest.mark.parametrize("segment", SEGMENTS)
def test_the_published_segment_table_comes_out(segment):
    acv, cac, ltv, grr, nrr, printed, months, margin = SEGMENTS[segment]
    one = np.ones(3)
    cost, value = Figure(cac, cac * one, 100), Figure(ltv, ltv * one, 100)
    assert over(value, cost).value == pytest.approx(printed, abs=0.051)
    # Its payback needs a gross margin that the table does not print; these are the ones that fit.
    monthly = Figure(acv * margin / 12, acv * margin / 12 * one, 100)
    assert payback(cost, monthly).value == pytest.approx(months, abs=0.11)
    # Retention identity: what NRR has beyond GRR is expansion, here by two customers, one of which grows.
    left, grown = 100 - grr, nrr - grr
    assert measured_retention([100.0, 100.0], [100.0 - 2 * left, 100.0 + 2 * grown]) == pytest.approx(
        (grr / 100, nrr / 100, grown / 100)
    )


def measured_retention(before: list[float], now: list[float]) -> tuple[float, float, float]:
    """GRR, NRR and expansion of customers by what they paid a year ago and pay now."""
    then, today = pd.Timestamp("2025-06-30"), pd.Timestamp("2026-06-30").as_unit("us")
    change = pd.Timestamp("2026-01-01")
    rows = [(f"a{i}", then, change, b) for i, b in enumerate(before)]
    rows += [(f"a{i}", change, pd.NaT, n) for i, n in enumerate(now)]
    kpis = performance.measure_kpis(
        CANONICAL["opportunities"].empty().assign(family_id=pd.Series([], dtype="str"), acv=0.0, margin_rate=0.0),
        accounts=accounts_of([f"a{i}" for i in range(len(before))]),
        subscriptions=subscriptions_of(rows),
        settings=Settings(plan=Plan(window_days=0)),
        as_of=today,
        seed=1,
        replicates=20,
    ).set_index(["kpi", "basis"])["value"]
    return kpis["grr", "12m"], kpis["nrr", "12m"], kpis["expansion", "12m"]


def accounts_of(ids: list[str]) -> pd.DataFrame:
    return pd.DataFrame({"account_id": ids, "family_id": ids}, dtype="str")


def subscriptions_of(rows: list[tuple]) -> pd.DataFrame:
    given = pd.DataFrame(rows, columns=["account_id", "started_at", "ended_at", "mrr"])
    frame = CANONICAL["subscriptions"].empty().reindex(range(len(rows)))
    dates = {c: pd.to_datetime(given[c]).astype("datetime64[us]") for c in ("started_at", "ended_at")}
    names = pd.Series([f"s{i}" for i in range(len(rows))], dtype="str")
    return frame.assign(subscription_id=names, account_id=given["account_id"].astype("str"), mrr=given["mrr"], **dates)


def test_intervals_of_ratios_end_where_scipy_ends_them():
    from scipy.stats import bootstrap

    rng = np.random.default_rng(12)
    closed = 1 + rng.poisson(1, 400)
    won, size = rng.binomial(closed, 0.3), rng.lognormal(9, 0.8, 400)
    sums = resample_sums(np.column_stack([won * size, won]), 4000, seed=5)
    ours = np.quantile(sums[:, 0] / sums[:, 1], [0.025, 0.975])
    theirs = bootstrap(
        (won * size, won),
        lambda a, b, axis: a.sum(axis=axis) / b.sum(axis=axis),
        n_resamples=4000,
        paired=True,
        vectorized=True,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    np.testing.assert_allclose(ours, theirs, atol=0.1 * (theirs.high - theirs.low))


@pytest.mark.datasets
def test_telco_reference_figures(datasets):
    """1,869 of 7,043 customers left; by contract 42.71, 11.27 and 2.83 % (PROVENANCE of the dataset)."""
    from statsmodels.duration.survfunc import SurvfuncRight

    telco = pd.read_csv(datasets / "telco_churn_ibm" / "Telco-Customer-Churn.csv")
    left, as_of = telco["Churn"] == "Yes", pd.Timestamp("2026-06-30").as_unit("us")
    # A tenure of m months began a little more than m months ago and ended in the middle of the next.
    lived = pd.to_timedelta((telco["tenure"] + 0.5) * 30.4375, unit="D").dt.floor("D")
    rows = list(
        zip(
            telco["customerID"],
            as_of - lived,
            left.map({True: as_of, False: pd.NaT}),
            telco["MonthlyCharges"],
            strict=True,
        )
    )
    opportunities = (
        CANONICAL["opportunities"].empty().assign(family_id=pd.Series([], dtype="str"), acv=0.0, margin_rate=0.0)
    )
    tables = {**dict.fromkeys(TABLES), "opportunities": opportunities, "subscriptions": subscriptions_of(rows)}
    settings = Settings(plan=Plan(window_days=0), economics=Economics(gross_margin=0.5, ltv_months=100))
    facts = build_facts(
        tables, accounts_of(telco["customerID"].tolist()), settings=settings, as_of=as_of, seed=1, replicates=5
    )
    life = life_of(slice_level(facts, "all", None))
    assert life.customers == 7043 - 1869
    assert life.churned.sum() == 1869
    # Exposure: whole months lived, and for those who left the month in which they did.
    assert life.exposed.sum() == telco["tenure"].sum() + 1869
    by_contract = left.groupby(telco["Contract"]).mean()
    curve = kaplan_meier(telco["tenure"], left)
    theirs = SurvfuncRight(telco["tenure"], left.astype(int))
    ours = curve[curve["events"] > 0]
    np.testing.assert_allclose(ours["survival"], theirs.surv_prob, rtol=1e-9)
    assert by_contract.round(4).tolist() == [0.4271, 0.1127, 0.0283]
    # The fitted curve follows the observed one over the years that can be seen.
    at = np.searchsorted(curve["day"], [12, 24, 48], side="right") - 1
    np.testing.assert_allclose(life.kept[[12, 24, 48]], curve["survival"].to_numpy()[at], atol=0.05)
