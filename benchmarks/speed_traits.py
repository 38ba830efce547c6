"""Reads nothing, makes the speed of trait effects against a loop over `statsmodels`, in the same run, with the agreement beside.

`python -m benchmarks.speed_traits` takes 500 traits × 4 outcomes × 10 segments with 7 nuisance columns and 10,000 rows: 20,000
adjusted logistic regressions. The loop is timed on a sample of them and multiplied up. Pairs: 100 levels × 100,000 rows with
999 exchanges of outcomes. Processor seconds of one thread, because the machine is shared.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402

RESULTS = Path(__file__).parent / "results" / "speed_traits.json"
ROWS, SEGMENTS, TRAITS, OUTCOMES, NUISANCES = 10_000, 10, 500, 4, 7
SAMPLE = 60


def draw(seed: int = 1) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """One (outcomes, traits, nuisance) per segment."""
    rng = np.random.default_rng(seed)
    parts = []
    for _ in range(SEGMENTS):
        n = ROWS // SEGMENTS
        z = np.column_stack([np.ones(n), rng.normal(size=(n, NUISANCES - 1))])
        x = (rng.random((n, TRAITS)) < rng.uniform(0.08, 0.5, TRAITS)).astype(float)
        eta = -0.8 + z[:, 1:4] @ [0.4, -0.3, 0.2]
        eta = eta[:, None] + x[:, :OUTCOMES] * 0.5
        parts.append(((rng.random((n, OUTCOMES)) < 1 / (1 + np.exp(-eta))).astype(float), x, z))
    return parts


def loop(parts: list, sample: int) -> tuple[float, np.ndarray]:
    """Processor seconds per regression of a loop, and estimate and error of each."""
    import statsmodels.api as sm

    rng = np.random.default_rng(2)
    places = [
        (int(rng.integers(SEGMENTS)), int(rng.integers(OUTCOMES)), int(rng.integers(TRAITS))) for _ in range(sample)
    ]
    found = []
    start = time.process_time()
    for segment, outcome, trait in places:
        y, x, z = parts[segment]
        fit = sm.Logit(y[:, outcome], np.column_stack([z, x[:, trait]])).fit(disp=0)
        found.append((segment, outcome, trait, fit.params[-1], fit.bse[-1]))
    return (time.process_time() - start) / sample, np.array(found)


def ours(parts: list) -> tuple[float, float, np.ndarray]:
    """Processor seconds of the screen and of all fits, and estimate and error per segment, outcome and trait."""
    from icplab.core.stats.logistic import fit_candidates, score_candidates

    start = time.process_time()
    for y, x, z in parts:
        for k in range(OUTCOMES):
            score_candidates(y[:, k], x, z)
    screen = time.process_time() - start
    start = time.process_time()
    fits = [
        [fit_candidates(y[:, k], x, z)[["estimate", "se_model"]].to_numpy() for k in range(OUTCOMES)]
        for y, x, z in parts
    ]
    return screen, time.process_time() - start, np.array(fits)


def pairs(permutations: int) -> float:
    """Processor seconds of all pairs of 100 levels over 100,000 rows."""
    from icplab.core.stats.pairs import measure_pairs

    rng = np.random.default_rng(3)
    n, m = 100_000, 100
    x = (rng.random((n, m)) < rng.uniform(0.05, 0.5, m)).astype(float)
    y = (rng.random(n) < 0.25).astype(float)
    start = time.process_time()
    measure_pairs(x, y, np.full(n, 0.25), np.arange(n), np.triu_indices(m, 1), permutations=permutations)
    return time.process_time() - start


def main(arguments: list[str] | None = None) -> int:
    """Print and write the ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sample", type=int, default=SAMPLE, help="regressions of the loop that are timed")
    parser.add_argument("--permutations", type=int, default=999, help="0 leaves the pairs out")
    given = parser.parse_args(arguments)
    parts = draw()
    total = SEGMENTS * OUTCOMES * TRAITS
    each, reference = loop(parts, given.sample)
    screen, full, fits = ours(parts)
    at = reference[:, :3].astype(int)
    gap = np.abs(fits[at[:, 0], at[:, 1], at[:, 2]] - reference[:, 3:]).max(axis=0)
    result = {
        "loop_seconds": each * total,
        "screen_seconds": screen,
        "screen_ratio": each * total / screen,
        "fit_seconds": full,
        "fit_ratio": each * total / full,
        "estimate_gap": gap[0],
        "error_gap": gap[1],
    }
    print(f"{total:,} regressions by a loop over statsmodels: {each * total:.0f} s (from {given.sample})")
    print(
        f"  screen {screen:.2f} s = {result['screen_ratio']:.0f}x (target 300); all fits {full:.2f} s = {result['fit_ratio']:.0f}x (35)"
    )
    print(f"  largest difference: estimate {gap[0]:.1e}, standard error {gap[1]:.1e} (target 1e-6)")
    if given.permutations:
        result["pairs_seconds"] = pairs(given.permutations)
        print(
            f"  4,950 pairs, 100,000 rows, {given.permutations} exchanges: {result['pairs_seconds']:.0f} s (target 60)"
        )
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
