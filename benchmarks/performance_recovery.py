"""Reads planted truth, makes the recovery rows of key figures: one-year win rates, pooled rates, verdicts of the scenarios.

`python -m benchmarks.performance_recovery` prints the table (about a quarter of an hour); `--quick` takes a few minutes with
fewer seeds and says so. The naive analyst stands in the same table and is judged by the same judge: won over opportunities
created in the last year, raw league tables, no warnings. Seeds below 1,000 are for tuning; figures come from 10,000 on.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402

RESULTS = Path(__file__).parent / "results" / "performance.json"
FIRST = 10_000
# Seeds: markets of 300 and of 2,000 opportunities a segment, sets of pooled segments, markets per scenario.
FULL, QUICK = (200, 60, 200, 20), (40, 10, 40, 5)
SCENARIOS = ("simpson", "tiny-segments", "heavy-tails", "censoring", "definition-change", "clean")
ACCOUNTS = 1500
PER_ACCOUNT = 1.6  # opportunities of an account in B0
NOISE = 0.3  # accounts of a pooled segment differ by it in their log odds
AS_OF = pd.Timestamp("2026-06-30").as_unit("us")


def win_rates(seed: int, n: int) -> dict[str, float]:
    """K1: a fast and a slow segment of about `n` opportunities each; won within a year, against the truth."""
    from benchmarks.naive import win_rate_by_created
    from icplab import features, performance
    from icplab.core.config import Plan, Settings
    from icplab.simulate import Recipe, simulate_market

    lean = replace(
        Recipe(), tools=4, tools_each=1, traits=0, idle_flags=0, idle_categories=0, idle_numbers=0, activity=0.0
    )
    market = simulate_market(round(2 * n / PER_ACCOUNT), seed, "censoring", recipe=lean)
    settings = Settings(plan=Plan(window_days=0))
    opportunities = features.build_opportunities(market.tables, settings, AS_OF)
    accounts = market.tables["accounts"][["account_id"]].assign(family_id=market.tables["accounts"]["account_id"])
    segment = market.truth.accounts.set_index("account_id")["segment"].astype("str")
    given = {"accounts": accounts, "settings": settings, "as_of": AS_OF, "cut": "segment", "levels": segment}
    curves = performance.build_curves(opportunities, **given)
    found = curves[curves["day"] <= settings.plan.horizon_days].groupby("level")["won"].last()
    naive = win_rate_by_created(opportunities, segment, AS_OF)
    truth = market.truth.accounts.groupby(segment.to_numpy())["p_win"].mean()
    decided = opportunities[opportunities["status"] != "open"]
    count = decided.groupby(decided["account_id"].map(segment)).size()
    return {
        **{
            f"{who}_{s}": float(rate[s] - truth[s])
            for who, rate in (("icplab", found), ("naive", naive))
            for s in truth.index
        },
        **{f"{who}_order": float(rate["P2"] > rate["P1"]) for who, rate in (("icplab", found), ("naive", naive))},
        **{f"decided_{s}": float(count[s]) for s in truth.index},
        **{f"se_{s}": se for s, se in _standard_errors(opportunities, segment, settings.plan.horizon_days).items()},
    }


def _standard_errors(opportunities: pd.DataFrame, segment: pd.Series, horizon: int) -> dict[str, float]:
    """Standard error of the Aalen-Johansen probability per segment, the efficient one where no shape is assumed.

    Delta method over independent opportunities (Marubini and Valsecchi 1995, section 10.2.2).
    """
    closed = opportunities["closed_at"].where(opportunities["status"] != "open", AS_OF)
    day = (closed - opportunities["created_at"]).dt.days
    found = {}
    for name, part in opportunities.assign(day=day).groupby(opportunities["account_id"].map(segment)):
        part = part[part["created_at"].notna() & (part["day"] >= 0)]
        kinds = pd.crosstab(part["day"], part["status"]).reindex(columns=["won", "lost", "open"], fill_value=0)
        left = kinds.sum(axis=1).to_numpy(dtype=float)
        at_risk, won = left[::-1].cumsum()[::-1], kinds["won"].to_numpy(dtype=float)
        ended = won + kinds["lost"].to_numpy(dtype=float)
        before = np.append(1.0, np.cumprod(1 - ended / at_risk)[:-1])
        kept = kinds.index.to_numpy() <= horizon
        at_risk, won, ended, before = (v[kept] for v in (at_risk, won, ended, before))
        incidence = np.cumsum(before * won / at_risk)
        ahead = incidence[-1] - incidence
        with np.errstate(divide="ignore", invalid="ignore"):
            first = np.where(at_risk > ended, ahead**2 * ended / (at_risk * (at_risk - ended)), 0.0)
        second = before**2 * won * (at_risk - won) / at_risk**3
        found[str(name)] = float(np.sqrt((first + second - 2 * ahead * before * won / at_risk**2).sum()))
    return found


def pooled_rates(seed: int, segments: int = 12) -> dict[str, float]:
    """K4: segments of 10 to 150 opportunities whose true rates are drawn; pooled and raw closed rates against the truth."""
    from icplab import performance
    from icplab.core.config import Plan, Settings

    rng = np.random.default_rng(seed)
    spread, size = rng.uniform(0.02, 0.08), np.exp(rng.uniform(np.log(10), np.log(150), segments)).round().astype(int)
    rate = np.clip(rng.normal(rng.uniform(0.15, 0.35), spread, segments), 0.02, 0.9)
    segment = np.repeat(np.arange(segments), size)
    opportunities, accounts, levels = _draw_closed(rng, segment, rate)
    kpis = performance.measure_kpis(
        opportunities,
        accounts=accounts,
        cut="segment",
        levels=levels,
        settings=Settings(plan=Plan(window_days=0, minimum_n=1)),
        as_of=AS_OF,
        seed=seed,
        replicates=200,
    )
    rows = kpis[(kpis["kpi"] == "win_rate") & (kpis["basis"] == "closed") & (kpis["period"] == "all")]
    expected = _expected_rate(rate)
    truth = pd.Series(expected, index=[f"s{i:02d}" for i in range(segments)])[rows["level"]].to_numpy()
    found = {"icplab": rows["pooled"].to_numpy(), "naive": rows["value"].to_numpy()}
    return {
        **{f"{who}_square": float(((v - truth) ** 2).mean()) for who, v in found.items()},
        **{f"{who}_winner": float(v.max() - truth[v.argmax()]) for who, v in found.items()},
    }


def verdicts(scenario: str, seed: int, accounts: int = ACCOUNTS) -> dict[str, float]:
    """Findings of one market of a scenario, judged: right, false, and for small cells who is called the best."""
    from benchmarks.judge import judge_verdicts
    from benchmarks.naive import raw_leader
    from benchmarks.workbench import performance_findings
    from icplab.simulate import simulate_market

    market = simulate_market(accounts, seed, scenario, vary=True)
    # Crude beside standardised costs most and bears on these two only.
    found, opportunities, levels = performance_findings(market, seed, compare=scenario in ("simpson", "clean"))
    said = [(f.code, f.severity, f.subject, dict(f.numbers)) for f in found]
    scores = judge_verdicts(scenario, said, market.truth)
    nothing = judge_verdicts(scenario, [], market.truth)
    leaders = {cut: raw_leader(opportunities, level) for cut, level in levels.items()}
    naive = judge_verdicts(
        scenario, [("best-level", "info", c, {"level": v}) for c, v in leaders.items()], market.truth
    )
    return {**{f"icplab_{k}": v for k, v in scores.items()}, **{f"naive_{k}": naive.get(k, nothing[k]) for k in scores}}


def _expected_rate(rate: np.ndarray) -> np.ndarray:
    """Win rate of a segment whose accounts differ by NOISE in their own log odds: above `rate` where that is below a half."""
    points, weights = np.polynomial.hermite_e.hermegauss(21)
    odds = np.log(rate / (1 - rate))[:, None] + NOISE * points
    return (1 / (1 + np.exp(-odds))) @ weights / weights.sum()


def _draw_closed(
    rng: np.random.Generator, segment: np.ndarray, rate: np.ndarray
) -> tuple[pd.DataFrame, pd.DataFrame, pd.Series]:
    """Closed opportunities, one or more an account, whose accounts differ a little in their own log odds."""
    n = len(segment)
    account = np.cumsum(np.r_[True, (segment[1:] != segment[:-1]) | (rng.random(n - 1) < 1 / PER_ACCOUNT)]) - 1
    noise = rng.normal(0, NOISE, account[-1] + 1)[account]
    odds = np.log(rate / (1 - rate))[segment] + noise
    won = rng.random(n) < 1 / (1 + np.exp(-odds))
    closed = AS_OF - pd.to_timedelta(rng.integers(0, 700, n), unit="D")
    ids = pd.Series([f"a{a:05d}" for a in account])
    blank = pd.Series([pd.NA] * n, dtype="str")
    opportunities = pd.DataFrame(
        {
            "opportunity_id": [f"o{i:05d}" for i in range(n)],
            "account_id": ids,
            "family_id": ids,
            "created_at": pd.Series(closed - pd.Timedelta(days=60)).astype("datetime64[us]"),
            "closed_at": pd.Series(closed).astype("datetime64[us]"),
            "status": np.where(won, "won", "lost"),
            "type": "new",
            **dict.fromkeys(
                ("motion", "stage", "source", "campaign_id", "owner", "product", "loss_reason", "play"), blank
            ),
            "acv": 1000.0,
            "margin_rate": np.nan,
        }
    )
    accounts = pd.DataFrame({"account_id": ids.unique()}).assign(family_id=ids.unique())
    levels = pd.Series([f"s{s:02d}" for s in segment], index=ids)
    return opportunities, accounts, levels[~levels.index.duplicated()]


def summarise(results: dict[str, list[dict]]) -> list[tuple[str, str, str, str]]:
    """Lines of the table: what, icplab, naive, target."""
    from benchmarks.judge import wilson_share

    def share(values: pd.Series) -> str:
        p, low, high = wilson_share(values)
        return f"{100 * p:.1f} % ({100 * low:.0f}–{100 * high:.0f})"

    def points(value: float) -> str:
        return f"{100 * value:+.2f}"

    lines = []
    for n in (300, 2000):
        frame = pd.DataFrame(results[f"K1 n={n}"])
        for s, name in (("P1", "fast"), ("P2", "slow")):
            errors = [frame[f"{who}_{s}"] for who in ("icplab", "naive")]
            if n == 300:
                lines.append((f"K1 n=300, {name}: mean error, points", *(points(e.mean()) for e in errors), "± 1.0"))
            else:
                about = f"K1 n=2,000, {name} ({frame[f'decided_{s}'].mean():,.0f} decided): error ≤ 1.5 points"
                lines.append((about, *(share(e.abs() <= 0.015) for e in errors), "≥ 80 %"))
        if n == 2000:
            both = [
                pd.concat([frame[f"{who}_{s}"] for s in ("P1", "P2")]).abs() <= 0.015 for who in ("icplab", "naive")
            ]
            lines.append(("K1 n=2,000, both: error ≤ 1.5 points", *map(share, both), "≥ 80 %"))
            for s, name in (("P1", "fast"), ("P2", "slow")):
                best = [_within(0.015 / se) for se in frame[f"se_{s}"]]
                spread, se = frame[f"icplab_{s}"].std(), np.sqrt((frame[f"se_{s}"] ** 2).mean())
                about = f"K1 n=2,000, {name}: reached with no bias and the standard error"
                lines.append(
                    (about, f"{100 * np.mean(best):.1f} %", "", f"SE {100 * se:.2f}, spread {100 * spread:.2f}")
                )
        order = [share(frame[f"{who}_order"]) for who in ("icplab", "naive")]
        lines.append((f"K1 n={n:,}: slow above fast", *order, "≥ 95 %" if n == 2000 else ""))
    frame = pd.DataFrame(results["K4"])
    rmse = [np.sqrt(frame[f"{who}_square"].mean()) for who in ("icplab", "naive")]
    lines.append(("K4 root mean squared error, pooled / raw", f"{rmse[0] / rmse[1]:.2f}", "1.00", "≤ 0.65"))
    winner = [points(frame[f"{who}_winner"].mean()) for who in ("icplab", "naive")]
    lines.append(("K4 bias of the reported winner, points", *winner, "≤ 1"))
    for scenario in SCENARIOS:
        frame = pd.DataFrame(results[scenario])
        for key in sorted(c.removeprefix("icplab_") for c in frame if c.startswith("icplab_")):
            both = [share(frame[f"{who}_{key}"]) for who in ("icplab", "naive")]
            target = "≤ 5 %" if key.startswith(("false", "any")) else "≥ 95 %"
            lines.append((f"{scenario}: {key.replace('_', ' ')}", *both, target))
    return lines


def _within(ratio: float) -> float:
    """P(|N(0, 1)| <= ratio)."""
    return math.erf(ratio / math.sqrt(2))


def main(arguments: list[str] | None = None) -> int:
    """Command line; exit 0 when every market was judged."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few seeds: minutes, wide intervals")
    parser.add_argument("--first", type=int, default=FIRST, help="first seed; below 1,000 is for tuning")
    parser.add_argument("--only", nargs="+", default=[], help="rows to make: K1, K4, or scenarios")
    given = parser.parse_args(arguments)
    seeds = dict(zip(("K1 n=300", "K1 n=2000", "K4", "scenario"), QUICK if given.quick else FULL, strict=True))
    tasks = {
        "K1 n=300": lambda seed: win_rates(seed, 300),
        "K1 n=2000": lambda seed: win_rates(seed, 2000),
        "K4": pooled_rates,
        **{s: (lambda seed, s=s: verdicts(s, seed)) for s in SCENARIOS},
    }
    results: dict[str, list[dict]] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    for name, task in tasks.items():
        if given.only and name.split(" ")[0] not in given.only:
            continue
        start, count = time.perf_counter(), seeds.get(name, seeds["scenario"])
        results[name] = [task(given.first + i) for i in range(count)]
        print(f"{name}: {count} seeds, {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    missing = [name for name in tasks if name not in results]
    if missing:
        print(f"no results yet for {', '.join(missing)}; the table needs all rows", file=sys.stderr)
        return 0
    print_table(results, given.first)
    return 0


def print_table(results: dict[str, list[dict]], first: int) -> None:
    """icplab beside the naive analyst, one row a claim."""
    counts = ", ".join(f"{name} {len(rows)}" for name, rows in results.items())
    print(f"Key figures against planted truth; seeds from {first:,} on: {counts}")
    print(f"  {'':58} {'icplab':>18} {'naive':>18}   target")
    for what, ours, theirs, target in summarise(results):
        print(f"  {what:58} {ours:>18} {theirs:>18}   {target}")


if __name__ == "__main__":
    sys.exit(main())
