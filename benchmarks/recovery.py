"""Reads planted truth, makes the recovery table: icplab and a naive analyst, judged by the same judge against a Bayes oracle.

`python -m benchmarks.recovery --seeds 20 --first 10000 --accounts 3000 --scenarios clean null` prints a table per scenario and
writes every figure to benchmarks/results/recovery.json. Seeds below 1,000 are for tuning; figures are reported on 10,000 and
above. Each market is a process of its own, so two cores do two at a time.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

# One thread a process, said before numpy loads: two markets at a time use both cores, and sums come out the same anywhere.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import pandas as pd  # noqa: E402

RESULTS = Path(__file__).parent / "results" / "recovery.json"
ANALYSTS = ("icplab", "naive")
# Metric, how it is printed, target of the method where this first version has one, and whether higher is better.
METRICS = (
    ("ari_share", "{:.3f}", "≥ 0.90", True, "ARI of segments / oracle's"),
    ("k", "{:.2f}", "4", None, "segments found"),
    ("traits_found", "{:.2f}", "", True, "planted traits found"),
    ("power_strong", "{:.3f}", "≥ 0.90", True, "power at odds ratio ≥ 1.6"),
    ("traits_false", "{:.2f}", "", False, "false traits"),
    ("fdp", "{:.3f}", "≤ 0.12", False, "false-discovery proportion"),
    ("captured", "{:.3f}", "≥ 0.95", True, "tier-1 value / oracle's list"),
    ("auc_share", "{:.3f}", "≥ 0.95", True, "(AUC − ½) / (oracle's − ½)"),
    ("slope", "{:.2f}", "0.9–1.1", None, "calibration slope"),
    ("in_the_large", "{:+.3f}", "± 0.010", None, "mean predicted − mean true"),
    ("usable", "{:.2f}", "", None, "share with a usable ranking"),
    ("seconds", "{:.1f}", "", False, "seconds a market"),
)


def judge_market(scenario: str, seed: int, accounts: int) -> dict:
    """Both analysts' scores on one market."""
    from benchmarks import naive, workbench
    from benchmarks.judge import judge
    from icplab import features
    from icplab.simulate import simulate_market

    market = simulate_market(accounts=accounts, seed=seed, scenario=scenario)
    start = time.perf_counter()
    answer, extra = workbench.analyse(market, seed)
    ours = {**judge(answer, market.truth), **extra, "seconds": time.perf_counter() - start}
    settings = workbench.settings_of(market)
    as_of = pd.Timestamp(settings.workspace.as_of).as_unit("us")
    tables = (
        features.build_accounts(market.tables, settings, as_of),
        features.build_opportunities(market.tables, settings, as_of),
        features.build_catalogue(market.tables, settings),
    )
    start = time.perf_counter()
    theirs = {**judge(naive.analyse(*tables, seed=seed), market.truth), "seconds": time.perf_counter() - start}
    wins = int((market.tables["opportunities"]["status"] == "won").sum())
    return {"scenario": scenario, "seed": seed, "wins": wins, "icplab": ours, "naive": theirs}


def summarise(results: list[dict], analyst: str) -> pd.DataFrame:
    """Mean and worst decile of each metric over the seeds."""
    frame = pd.DataFrame([r[analyst] for r in results])
    rows = {}
    for name, _, _, higher, _ in METRICS:
        values = frame.get(name, pd.Series(dtype=float)).dropna()
        worst = values.quantile(0.1 if higher else 0.9) if len(values) and higher is not None else float("nan")
        rows[name] = {"mean": values.mean(), "worst_decile": worst, "seeds": len(values)}
    return pd.DataFrame(rows).T


def print_table(scenario: str, results: list[dict]) -> None:
    """One scenario's table: icplab beside the naive analyst."""
    ours, theirs = summarise(results, "icplab"), summarise(results, "naive")
    wins = sum(r["wins"] for r in results) / len(results)
    print(f"\n{scenario}: {len(results)} markets, {wins:.0f} wins each on average")
    print(f"  {'':32} {'icplab':>9} {'worst 10 %':>11} {'naive':>9}   target")
    for name, style, target, _, words in METRICS:
        cells = [ours.at[name, "mean"], ours.at[name, "worst_decile"], theirs.at[name, "mean"]]
        shown = ["–" if pd.isna(c) else style.format(c) for c in cells]
        print(f"  {words:32} {shown[0]:>9} {shown[1]:>11} {shown[2]:>9}   {target}")


def main(arguments: list[str] | None = None) -> int:
    """Command line; exit 0 when every market was judged."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20, help="markets per scenario")
    parser.add_argument("--first", type=int, default=10_000, help="first seed")
    parser.add_argument("--accounts", type=int, default=3000)
    parser.add_argument("--scenarios", nargs="+", default=["clean", "null"])
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args(arguments)
    tasks = [
        (s, seed, given.accounts) for s in given.scenarios for seed in range(given.first, given.first + given.seeds)
    ]
    results = []
    with ProcessPoolExecutor(given.jobs) as pool:
        waiting = {pool.submit(judge_market, *task): task for task in tasks}
        for done in as_completed(waiting):
            results.append(done.result())
            print(f"\r{len(results)} of {len(tasks)} markets", end="", file=sys.stderr, flush=True)
    results.sort(key=lambda r: (given.scenarios.index(r["scenario"]), r["seed"]))
    for scenario in given.scenarios:
        print_table(scenario, [r for r in results if r["scenario"] == scenario])
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
