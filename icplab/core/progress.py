"""Reads a loop, makes it show how far it is where somebody watches: in the lab, never in a run or a test."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sized
from typing import TypeVar

Item = TypeVar("Item")

SHOWN = "ICPLAB_PROGRESS"  # set to 1 by `icplab lab`; a run prints its own steps


def track(items: Iterable[Item], what: str) -> Iterable[Item]:
    """The items as they are; in the lab with a bar that is gone when the loop is done.

    `what` says what the loop does, such as "refitting for stability".
    """
    if os.environ.get(SHOWN) != "1":
        return items
    from tqdm.notebook import tqdm

    return tqdm(items, desc=what, total=len(items) if isinstance(items, Sized) else None, leave=False)
