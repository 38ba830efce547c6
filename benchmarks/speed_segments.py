"""Reads nothing, makes the time of resampling every number of segments, beside naive refits of the same method in the same run.

`python -m benchmarks.speed_segments --accounts 10000 30000 100000 --reference 3` prints per size: seconds of `resample_each_k` for 2 to 7
segments, seconds that as many naive refits take (every account, fresh starts, measured on the first `--reference` resamples of
each k and projected to all), the mean absolute difference of the Jaccard similarities between the two, and which k each would
choose; then the growth. Processor seconds of one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from itertools import pairwise
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402

KS = (2, 3, 4, 5, 6, 7)
NAIVE_STARTS = 16  # as many as the fit itself takes


def blocks_of(accounts: int, seed: int):
    """The blocks of a planted market of 41 columns."""
    from benchmarks.segment_markets import make_planted
    from icplab.segments.blocks import read_blocks, write_recipe

    made = make_planted(accounts, seed)
    return read_blocks(write_recipe(made.accounts, made.catalogue), made.accounts)


def resample_fast(blocks, resamples: int, seed: int, ks: tuple[int, ...]) -> tuple[float, pd.DataFrame]:
    """Seconds and table of what the page shows: on at most as many accounts as a fit sees."""
    from icplab.segments.fit import FIT_ACCOUNTS
    from icplab.segments.stability import resample_each_k

    start = time.process_time()
    n = len(blocks.account_id)
    rows = np.sort(np.random.default_rng([seed, 3]).choice(n, min(n, FIT_ACCOUNTS), replace=False))
    some = blocks.take(rows)
    table = resample_each_k(
        some, list(ks), np.full(len(ks), True), seed=seed, resamples=resamples, family=some.account_id
    )
    return time.process_time() - start, table


def resample_naively(
    blocks, resamples: int, seed: int, ks: tuple[int, ...], kept: Path | None = None
) -> tuple[float, pd.DataFrame]:
    """Seconds per refit and the same table, every refit from fresh starts on every account.

    Refits are kept in a file, one line each, where one is named: a long reference may be made in parts.
    """
    from icplab.segments.mixture import Market, fit_mixture, log_density

    market = Market(blocks)
    weights = np.random.default_rng([seed, 8]).poisson(1.0, (resamples, market.n)).astype(float)
    rows = [json.loads(line) for line in kept.read_text().splitlines()] if kept and kept.exists() else []
    done = {(r["k"], r["b"]) for r in rows}
    for k in ks:
        todo = [b for b in range(resamples) if (k, b) not in done]
        if not todo:
            continue
        whole = fit_mixture(market, k, np.random.default_rng([seed, k]), NAIVE_STARTS, shapes=True)
        label = log_density(market, whole)[0].argmax(axis=0)
        for b in todo:
            rows.append({"k": k, "b": b, **_refit(blocks, weights[b], k, label, [seed, k, b])})
            if kept:
                with kept.open("a") as file:
                    file.write(json.dumps(rows[-1]) + "\n")
        print(f"  naive: {k} segments done", file=sys.stderr, flush=True)
    told = pd.DataFrame(rows)
    told = told[told["k"].isin(ks) & (told["b"] < resamples)]
    return float(told["seconds"].mean()), _naive_table(told)


def _refit(blocks, weight: np.ndarray, k: int, label: np.ndarray, seed: list[int]) -> dict:
    """One naive refit: its Jaccard similarities with the labels, its score and its seconds."""
    from icplab.segments.mixture import Market, fit_mixture, log_density
    from icplab.segments.resampling import jaccard_of_labels

    start = time.process_time()
    refit = fit_mixture(Market(blocks, weight), k, np.random.default_rng(seed), NAIVE_STARTS, shapes=True)
    again = log_density(Market(blocks), refit)[0].argmax(axis=0)
    similar = jaccard_of_labels(label, again, k).round(5).tolist()
    score = float(refit.score[0] - 0.5 * refit.parameters[0])
    return {"jaccard": similar, "score": score, "seconds": time.process_time() - start}


def _naive_table(told: pd.DataFrame) -> pd.DataFrame:
    """One row per k: mean and weakest Jaccard, their Monte-Carlo error, how often the k is chosen."""
    best = told.pivot(index="b", columns="k", values="score").dropna().idxmax(axis=1).value_counts(normalize=True)
    rows = []
    for k, part in told.groupby("k"):
        found = np.array(part["jaccard"].tolist())
        error = found.mean(axis=1).std(ddof=1) / np.sqrt(len(found)) if len(found) > 1 else np.nan
        rows.append((k, found.mean(), found.mean(axis=0).min(), error, best.get(k, 0.0)))
    return pd.DataFrame(rows, columns=["k", "jaccard", "weakest", "error", "chosen_in"]).round(4)


def judge(
    accounts: int, seed: int, resamples: int, reference: int, ks: tuple[int, ...], kept: Path | None
) -> tuple[int, float]:
    """One size, printed; its accounts and seconds."""
    blocks = blocks_of(accounts, seed)
    seconds, mine = resample_fast(blocks, resamples, seed, ks)
    print(
        f"\n{accounts:,} accounts, seed {seed}: {resamples} resamples of k = {ks[0]} to {ks[-1]} in {seconds:.1f} s",
        flush=True,
    )
    if reference:
        each, naive = resample_naively(blocks, reference, seed, ks, kept)
        projected = each * resamples * len(ks)
        gap = (mine["jaccard"] - naive["jaccard"]).abs()
        chosen = [int(table.loc[table["chosen_in"].idxmax(), "k"]) for table in (mine, naive)]
        print(
            f"  naive refits: {each:.2f} s each, {projected:,.0f} s in all (from {reference} per k): {projected / seconds:.0f}x (≥ 30x)"
        )
        print(
            f"  mean |Jaccard difference| {gap.mean():.3f} (≤ 0.03), largest {gap.max():.3f}; chosen {chosen[0]}, naively {chosen[1]}"
        )
        mine = mine.merge(naive, on="k", suffixes=("", "_naive"))
    print(mine.to_string(index=False), flush=True)
    return accounts, seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--accounts", type=int, nargs="+", default=[10_000, 30_000, 100_000])
    parser.add_argument("--resamples", type=int, default=100)
    parser.add_argument("--reference", type=int, default=3)
    parser.add_argument("--seed", type=int, default=10_000)
    parser.add_argument("--segments", type=int, nargs="+", default=list(KS))
    parser.add_argument("--kept", type=Path, help="file in which naive refits of one size and seed are kept")
    given = parser.parse_args()
    ks = tuple(given.segments)
    times = [judge(n, given.seed, given.resamples, given.reference, ks, given.kept) for n in given.accounts]
    for (n, t), (m, u) in pairwise(times):
        print(f"growth {n:,} to {m:,} accounts: exponent {np.log(u / t) / np.log(m / n):.2f} (≤ 1)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
