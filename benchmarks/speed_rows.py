"""Reads calls, makes rows of a speed table: seconds of each, measured in turns within one run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One comparison: seconds of each repeat, ours and the peer's, and the ratio of the medians."""

    what: str
    peer: str
    ours: list[float]
    theirs: list[float]
    target: str

    @property
    def ratio(self) -> float:
        """How many times longer the peer takes."""
        return statistics.median(self.theirs) / statistics.median(self.ours)


def in_turns(calls: list[Callable[[], None]], repeats: int) -> list[list[float]]:
    """Seconds of each call, taken in turns so that a busy machine meets all of them alike."""
    seconds: list[list[float]] = [[] for _ in calls]
    for _ in range(repeats):
        for call, measured in zip(calls, seconds, strict=True):
            began = time.perf_counter()
            call()
            measured.append(round(time.perf_counter() - began, 4))
    return seconds
