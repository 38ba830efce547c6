"""Reads a filter and its candidate conditions, makes a better one: each condition in turn is chosen anew beside the others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SWEEPS = 6  # rounds over the conditions of a filter; most stop after two or three
MAX_LEVELS_IN_SET = 6  # levels of a category in one "is one of"
MAX_TOOLS_IN_SET = 4  # tools of a stack in one "contains any of"
VALUE_BONUS = 0.002  # F1 that each further value of a list must gain


@dataclass(frozen=True)
class Candidates:
    """Single conditions to choose from, and which of them may be joined in a list.

    Attributes
    ----------
    holds : (n, m) 0/1 whether a condition holds for an account
    trait : (m,) code of what a condition is about; two conditions of a filter are not about the same
    exclusive : per category, the places of its levels: an account has one of them
    joint : per stack, the places of its tools: an account may have several
    """

    holds: np.ndarray
    trait: np.ndarray
    exclusive: tuple[np.ndarray, ...]
    joint: tuple[np.ndarray, ...]


Choice = tuple[int, ...]  # places of the conditions that are joined by "or" in one list


@dataclass(frozen=True)
class Filter:
    """Lists of conditions of which at least `needed` must hold, and what they are worth (F1 less what length must gain)."""

    lists: tuple[Choice, ...]
    needed: int
    worth: float


def improve_filter(given: Filter, candidates: Candidates, inside: np.ndarray, price: Price) -> Filter:
    """The filter after each of its lists has been chosen anew, and one added where there is room, until nothing gains.

    Parameters
    ----------
    given : filter to start from
    candidates : single conditions
    inside : (n,) 0/1 whether an account belongs to the segment
    price : what longer and less plain filters must gain

    Notes
    -----
    For one list beside fixed others F1 is a ratio of sums over accounts that wait for exactly one more condition. For levels of a
    category, which exclude each other, the best list therefore holds those with the largest precision (Dinkelbach 1967);
    tools of a stack, which do not, are added one by one.
    """
    best = given
    for _ in range(SWEEPS):
        before = best.worth
        for place in range(len(best.lists) + 1):
            best = max((best, *_choose_anew(best, place, candidates, inside, price)), key=lambda f: f.worth)
        if best.worth <= before + 1e-9:
            break
    return best


@dataclass(frozen=True)
class Price:
    """F1 that a filter must gain: per condition beyond the first, and for "at least m of" over "all of"; most conditions."""

    condition: float
    plain: float
    most: int

    def of(self, lists: tuple[Choice, ...], needed: int) -> float:
        """What the filter's form costs."""
        values = sum(len(c) - 1 for c in lists)
        return self.condition * (len(lists) - 1) + VALUE_BONUS * values + self.plain * (needed < len(lists))


def _choose_anew(given: Filter, place: int, candidates: Candidates, inside: np.ndarray, price: Price) -> list[Filter]:
    """Filters with another list at one place; behind the last place, with one list more."""
    rest = (*given.lists[:place], *given.lists[place + 1 :])
    if len(rest) >= price.most:
        return []
    count = np.zeros(len(inside), dtype=np.int8)
    for chosen in rest:
        count += candidates.holds[:, list(chosen)].max(axis=1) > 0
    made = []
    for needed in range(1, len(rest) + 2):
        passes, lacks = count >= needed, count == needed - 1
        fixed = (float((passes & (inside > 0)).sum()), float(passes.sum()), float(inside.sum()))
        for chosen, f1 in _best_lists(candidates, inside, lacks, fixed, rest):
            lists = (*rest[:place], chosen, *rest[place:])
            made.append(Filter(lists, needed, f1 - price.of(lists, needed)))
    return made


def _best_lists(
    candidates: Candidates, inside: np.ndarray, lacks: np.ndarray, fixed: tuple[float, float, float], rest: tuple
) -> list[tuple[Choice, float]]:
    """The best single condition, list of levels and list of tools, with the F1 of each."""
    rows = np.flatnonzero(lacks)
    holds, member = candidates.holds[rows], inside[rows].astype(candidates.holds.dtype)
    hit, matched = member @ holds, holds.sum(axis=0)
    score = 2 * (fixed[0] + hit) / np.maximum(fixed[1] + matched + fixed[2], 1)
    used = [candidates.trait[list(c)] for c in rest]
    score[np.isin(candidates.trait, np.concatenate(used) if used else [])] = -1.0
    first = int(score.argmax())
    out: list[tuple[Choice, float]] = [((first,), float(score[first]))]
    for members in candidates.exclusive:
        if score[members[0]] >= 0:
            out.append(_levels_together(members, hit[members], matched[members], fixed))
    for members in candidates.joint:
        free = members[score[members] >= 0]
        if len(free):
            out.append(_tools_together(free, holds[:, free], member, fixed))
    return [(c, f) for c, f in out if f >= 0]


def _levels_together(
    members: np.ndarray, hit: np.ndarray, matched: np.ndarray, fixed: tuple[float, float, float]
) -> tuple[Choice, float]:
    order = np.argsort(-hit / np.maximum(matched, 1), kind="stable")[:MAX_LEVELS_IN_SET]
    f1 = 2 * (fixed[0] + np.cumsum(hit[order])) / np.maximum(fixed[1] + np.cumsum(matched[order]) + fixed[2], 1)
    worth = f1 - VALUE_BONUS * np.arange(len(order))
    size = int(worth.argmax()) + 1
    return tuple(sorted(members[order[:size]].tolist())), float(f1[size - 1])


def _tools_together(
    members: np.ndarray, holds: np.ndarray, member: np.ndarray, fixed: tuple[float, float, float]
) -> tuple[Choice, float]:
    chosen: list[int] = []
    left = np.ones(len(member), dtype=holds.dtype)
    hit, matched, f1 = fixed[0], fixed[1], -1.0
    for _ in range(min(MAX_TOOLS_IN_SET, len(members))):
        more, all_more = (left * member) @ holds, left @ holds
        score = 2 * (hit + more) / np.maximum(matched + all_more + fixed[2], 1)
        best = int(score.argmax())
        if best in chosen or score[best] <= f1 + VALUE_BONUS:
            break
        chosen.append(best)
        hit, matched, f1 = hit + float(more[best]), matched + float(all_more[best]), float(score[best])
        left = left * (1 - holds[:, best])
    return tuple(sorted(members[chosen].tolist())), f1
