"""Times optimal monotone binning beside optbinning under the same limits, and compares information values by one judge.

`python -m benchmarks.speed_binning --peer PYTHON` runs both; PYTHON is an interpreter in whose environment optbinning is installed (it
is no dependency of icplab). Limits of both: bins at most, smallest share of a bin, one direction. The peer keeps its default of 20
prebins; with `--prebins 64` it gets as many as icplab. Processor seconds are printed too: the machine may be shared.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time

import numpy as np

VARIABLES, BINS, SHARE = 30, 6, 0.05
WEAK = 0.005  # information value below which a ratio says nothing


def draw(rows: int, seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Numbers of several shapes: normal, heavy-tailed, with atoms, some blank; half of them matter, straight or in steps."""
    rng = np.random.default_rng(seed)
    columns, score = [], np.full(rows, -1.2)
    for k in range(VARIABLES):
        x = rng.normal(size=rows)
        if k % 2 == 0:
            score += rng.uniform(0.1, 0.5) * rng.choice([-1, 1]) * (np.tanh(x) if k % 4 else (x > rng.normal()) - 0.5)
        shown = (x, np.exp(x), np.round(x, 1), np.where(rng.random(rows) < 0.1, np.nan, x))[k % 4]
        columns.append(shown)
    return columns, (rng.random(rows) < 1 / (1 + np.exp(-score))).astype(float)


def information(x: np.ndarray, y: np.ndarray, edges: list[float]) -> float:
    """Information value of bins of the known values."""
    known = ~np.isnan(x)
    cell = np.searchsorted(edges, x[known], side="right")
    events = np.bincount(cell, y[known], len(edges) + 1)
    others = np.bincount(cell, minlength=len(edges) + 1) - events
    a, b = others / others.sum(), events / events.sum()
    return float(((b - a) * np.log(b / a)).sum())


def icplab(columns: list[np.ndarray], y: np.ndarray, prebins: int) -> list[list[float]]:
    from icplab.core.stats.binning import monotone_bins

    found = monotone_bins(columns, y, max_bins=BINS, min_share=SHARE, threads=2)
    return [list(b.edges) for b in found]


def optbinning(columns: list[np.ndarray], y: np.ndarray, prebins: int) -> list[list[float]]:
    from optbinning import OptimalBinning

    found = []
    for x in columns:
        model = OptimalBinning(
            max_n_prebins=prebins, max_n_bins=BINS, min_bin_size=SHARE, monotonic_trend="auto_asc_desc"
        )
        found.append(model.fit(x, y).splits.tolist())
    return found


def contend(name: str, rows: int, seed: int, prebins: int) -> None:
    columns, y = draw(rows, seed)
    method = {"icplab": icplab, "optbinning": optbinning}[name]
    method([c[:1000] for c in columns[:2]], y[:1000], prebins)  # imports and first calls are not what is compared
    start, used = time.perf_counter(), time.process_time()
    edges = method(columns, y, prebins)
    seconds = {"seconds": time.perf_counter() - start, "cpu": time.process_time() - used}
    values = [information(x, y, e) for x, e in zip(columns, edges, strict=True)]
    print(json.dumps({**seconds, "iv": values, "bins": [len(e) + 1 for e in edges]}))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=10_000)
    parser.add_argument("--prebins", type=int, default=20)
    parser.add_argument("--peer", default=sys.executable)
    parser.add_argument("--contend", choices=("icplab", "optbinning"))
    given = parser.parse_args()
    shared = ["--rows", str(given.rows), "--seed", str(given.seed), "--prebins", str(given.prebins)]
    if given.contend:
        contend(given.contend, given.rows, given.seed, given.prebins)
        return
    rounds = {}
    for name, python in (("icplab", sys.executable), ("optbinning", given.peer)):
        command = [python, "-m", "benchmarks.speed_binning", "--contend", name, *shared]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        rounds[name] = json.loads(done.stdout.splitlines()[-1])
    ours, theirs = rounds["icplab"], rounds["optbinning"]
    own, peer = np.array(ours["iv"]), np.array(theirs["iv"])
    share = (own / peer)[peer >= WEAK]
    print(f"{given.rows:,} rows × {VARIABLES} numbers, at most {BINS} bins of at least {SHARE:.0%}, one direction")
    print(f"  icplab     {ours['seconds']:7.2f} s, processor {ours['cpu']:7.2f} s, information {own.sum():.4f}")
    print(f"  optbinning {theirs['seconds']:7.2f} s, processor {theirs['cpu']:7.2f} s, information {peer.sum():.4f}")
    print(
        f"  {theirs['seconds'] / ours['seconds']:.1f} times as fast (processor {theirs['cpu'] / ours['cpu']:.1f});"
        f" share of the peer's information per variable: lowest {share.min():.4f}, mean {share.mean():.4f} of {len(share)}"
    )


if __name__ == "__main__":
    main()
