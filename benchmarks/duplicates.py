"""Reads nothing, makes recall and precision of merged accounts on planted duplicates, over seeds and generators.

`python -m benchmarks.duplicates` prints a table; `--sizes` adds seconds at 1,500, 10,000 and 100,000 accounts.
"""

from __future__ import annotations

import argparse
import time

import pandas as pd

from benchmarks.planted_duplicates import plant, true_pairs
from icplab.core.schema import CANONICAL
from icplab.intake.matching import find_pairs
from icplab.intake.matching.decide import groups_of, join_clear
from icplab.simulate import simulate_market

SEEDS = range(101, 111)  # none of them was used to set the weights
ACCOUNTS = 1500
RECALL, PRECISION = 0.90, 0.97
Pairs = set[tuple[str, str]]


def merged_pairs(frame: pd.DataFrame) -> Pairs:
    """Pairs of accounts that a run would merge without an answer."""
    return _closed(find_pairs(frame))


def _closed(found: pd.DataFrame) -> Pairs:
    pairs = found.sort_values("probability", ascending=False, kind="stable")
    by_verdict = {v: list(zip(p["account_id_1"], p["account_id_2"], strict=True)) for v, p in pairs.groupby("verdict")}
    roots: dict[str, str] = {}
    join_clear(roots, by_verdict.get("clear", []), by_verdict.get("group", []))
    members = groups_of(roots).rename("group").rename_axis("account").reset_index()
    both = members.merge(members, on="group")
    both = both[both["account_x"] < both["account_y"]]
    return set(zip(both["account_x"], both["account_y"], strict=True))


def measure(frame: pd.DataFrame, truth: Pairs) -> dict[str, float]:
    """Recall and precision of what is merged, recall with what is asked, questions and how many of them are true."""
    found = find_pairs(frame)
    merged = _closed(found)
    asked = found[found["verdict"] == "ask"]
    questions = set(zip(asked["account_id_1"], asked["account_id_2"], strict=True)) - merged
    return {
        "pairs": len(truth),
        "recall": len(truth & merged) / len(truth) if truth else float("nan"),
        "precision": len(truth & merged) / len(merged) if merged else float("nan"),
        "with_questions": len(truth & (merged | questions)) / len(truth) if truth else float("nan"),
        "questions": len(questions),
        "true_questions": len(truth & questions),
        "wrong_merges": len(merged - truth),
    }


def simulated(seed: int, scenario: str, *, drop: tuple[str, ...] = ()) -> tuple[pd.DataFrame, Pairs]:
    """Accounts of a simulated market, with columns emptied, and the planted pairs."""
    market = simulate_market(accounts=ACCOUNTS, seed=seed, scenario=scenario)
    twins = market.truth.accounts.dropna(subset="duplicate_of")
    pairs = set(zip(twins["duplicate_of"], twins["account_id"], strict=True))
    frame = market.tables["accounts"]
    empty = CANONICAL["accounts"].empty().dtypes
    return frame.assign(**{c: pd.Series([None] * len(frame)).astype(empty[c]) for c in drop}), pairs


def recovery(seeds: range) -> pd.DataFrame:
    """One row per generator and seed."""
    rows = []
    for seed in seeds:
        for vocabulary in ("trades", "places"):
            for kind, options in (("", {}), (" thin", {"thin": True}), (" without duplicates", {"share": 0.0})):
                frame = plant(ACCOUNTS, seed, vocabulary, **options)  # type: ignore[arg-type]
                rows.append({"market": vocabulary + kind, "seed": seed, **measure(frame, true_pairs(frame))})
        rows.append({"market": "duplicates", "seed": seed, **measure(*simulated(seed, "duplicates"))})
        bare = ("linkedin_url", "founded_year", "annual_revenue")
        rows.append({"market": "duplicates bare", "seed": seed, **measure(*simulated(seed, "duplicates", drop=bare))})
        rows.append({"market": "clean", "seed": seed, **measure(*simulated(seed, "clean"))})
        unnamed = simulated(seed, "clean", drop=("linkedin_url", "domain"))
        rows.append({"market": "clean, names only", "seed": seed, **measure(*unnamed)})
    return pd.DataFrame(rows)


def seconds(sizes: tuple[int, ...]) -> pd.DataFrame:
    """Wall-clock and processor seconds of matching, by number of accounts."""
    rows = []
    for size in sizes:
        frame = plant(size, 1, "trades")
        wall, processor = time.perf_counter(), time.process_time()
        pairs = len(find_pairs(frame))
        rows.append((len(frame), pairs, time.perf_counter() - wall, time.process_time() - processor))
    return pd.DataFrame(rows, columns=["accounts", "pairs listed", "seconds", "processor seconds"])


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    parser.add_argument("--sizes", action="store_true", help="also time 1,500, 10,000 and 100,000 accounts")
    options = parser.parse_args()
    table = recovery(SEEDS[: options.seeds])
    print(table.groupby("market", sort=False).mean(numeric_only=True).drop(columns="seed").round(3).to_string())
    print(f"wanted: recall {RECALL:.2f} at precision {PRECISION:.2f}; none merged where none is planted")
    if options.sizes:
        print(seconds((1_500, 10_000, 100_000)).round(2).to_string(index=False))


if __name__ == "__main__":
    main()
