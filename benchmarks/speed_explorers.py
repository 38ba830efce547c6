"""Reads nothing, makes 10,000 accounts and prints how long explorers take to answer, beside the full work they preview."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np

from benchmarks.segment_markets import make_planted
from icplab import segments
from icplab.core.config import Settings
from icplab.tiers import preview_tiers

ACCOUNTS = 10_000
TRIES = 5


def seconds(work: Callable[[], object], tries: int = TRIES) -> float:
    """Median processor seconds of a call, the first one left out."""
    taken = []
    for _ in range(tries + 1):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return statistics.median(taken[1:])


def main() -> None:
    """Print milliseconds of processor time per answer; the aim is 200."""
    made = make_planted(ACCOUNTS, 5)
    start = time.process_time()
    found = segments.fit_segments(made.accounts, made.catalogue, settings=Settings(), seed=1, nulls=19, starts=4)
    whole = time.process_time() - start
    looks = segments.prepare_preview(found, made.accounts)
    for k in (2, 4, 7):
        look = seconds(lambda k=k: segments.preview_segments(looks, k=k))  # type: ignore[misc]
        print(
            f"segments, k = {k}: {1000 * look:.0f} ms, {whole / look:,.0f} times faster than fitting with 19 twin markets"
        )
    rng = np.random.default_rng(0)
    values, chances = rng.lognormal(8, 1, ACCOUNTS), rng.random(ACCOUNTS)
    cut = seconds(lambda: preview_tiers(values, chances, {"tier_1": 500, "tier_2": 1500}, 1200.0))
    print(f"tiers: {1000 * cut:.0f} ms")


if __name__ == "__main__":
    main()
