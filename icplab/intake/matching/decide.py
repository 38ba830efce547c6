"""Reads compared pairs and the analyst's answers, makes what becomes of each pair, and groups of accounts that are one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

Pair = tuple[str, str]
LONG_NAME = 20.0  # bits of a name that stands for itself where nothing speaks against it: two rare words or more
STRONG = 4.0  # bits from which a shared telephone number or street is told apart from chance
GROUP_BITS = 8.0  # of a name that members of a group share


@dataclass(frozen=True)
class Contradiction:
    """Answers that cannot all be meant: `apart` is answered no, and `chain` joins the two by answers yes."""

    apart: Pair
    chain: tuple[str, ...]


def judge_pairs(found: pd.DataFrame, clear: float, ask: float) -> pd.Series:
    """What the evidence says of each pair: clear, ask, group or apart.

    *clear* needs a probability of at least `clear` and nothing that a name alone cannot settle: names that are the same but for
    slips, no other place, number, web address or company page, not parent and child, and where countries or legal forms differ, or the
    name is all there is, more fields that agree. *group* is a name with another place, or one web address under different names.
    """
    alike = found["name_kind"].isin(["same", "slip", "slips"])
    same_page = found["page"] == "same"
    # A name inside the other is the same one where company page and street or telephone are too.
    alike |= (found["name_kind"] == "part") & same_page & ((found["phone"] >= STRONG) | (found["street"] >= STRONG))
    reached = same_page | (found["phone"] >= STRONG) | (found["street"] >= STRONG)
    opposed = found["numbers_differ"] | found["places_differ"] | found["is_parent"] | (found["page"] == "differs")
    opposed |= (found["web"] == "differs") & ~same_page
    opposed |= found["countries_differ"] & (~reached | found["legal_differs"])
    opposed |= (found["web"] != "same") & ~reached & ~_supported(found)
    is_clear = alike & ~opposed & (found["probability"] >= clear)
    one_web = found["web"].isin(["same", "twin"]) & (found["shared_bits"] >= GROUP_BITS)
    place = (
        found["places_differ"]
        & found["name_kind"].isin(["same", "slip", "slips", "part"])
        & (found["shared_bits"] >= GROUP_BITS)
    )
    is_group = ~is_clear & ~found["is_parent"] & ~found["numbers_differ"] & (place | (one_web & ~alike))
    is_asked = ~is_clear & ~is_group & (found["probability"] >= ask) & ~found["is_parent"] & ~found["numbers_differ"]
    return pd.Series(np.select([is_clear, is_group, is_asked], ["clear", "group", "ask"], "apart"), index=found.index)


def _supported(found: pd.DataFrame) -> pd.Series:
    """Whether what describes the two bears a name out that nothing else does: more so where it has a slip or web addresses differ."""
    needed = 0 + (found["name"] < LONG_NAME) + (found["name_kind"] != "same") + found["web"].isin(["twin", "slip"])
    return (found["agreeing"] >= needed + 2 * found["opposed"]) & (found["opposed"] <= 1)


def join_answers(answers: Mapping[Pair, str]) -> tuple[dict[str, str], list[Contradiction]]:
    """Root of every account that answers `yes` join, and the answers `no` that contradict them."""
    roots: dict[str, str] = {}
    for left, right in sorted(pair for pair, said in answers.items() if said == "yes"):
        _unite(roots, left, right)
    apart = sorted(pair for pair, said in answers.items() if said in ("no", "group"))
    wrong = [p for p in apart if _root(roots, p[0]) == _root(roots, p[1])]
    return roots, [Contradiction(p, _members(roots, p[0])) for p in wrong]


def join_clear(roots: dict[str, str], clear: Iterable[Pair], apart: Iterable[Pair]) -> list[Pair]:
    """Join clear-cut pairs, the surest first, never putting together what must stay apart.

    Returns
    -------
    list of pairs that were not joined because a third account stands between them
    """
    enemies: dict[str, set[str]] = {}
    for left, right in apart:
        a, b = _root(roots, left), _root(roots, right)
        enemies.setdefault(a, set()).add(b)
        enemies.setdefault(b, set()).add(a)
    refused = []
    for left, right in clear:
        a, b = _root(roots, left), _root(roots, right)
        if b in enemies.get(a, ()):
            refused.append((left, right))
        elif a != b:
            kept = _unite(roots, a, b)
            gone = b if kept == a else a
            for other in enemies.pop(gone, set()):
                enemies[other].discard(gone)
                enemies[other].add(kept)
                enemies.setdefault(kept, set()).add(other)
    return refused


def groups_of(roots: dict[str, str]) -> pd.Series:
    """Root of every account that is joined to another one (index: account_id)."""
    return pd.Series({a: _root(roots, a) for a in sorted(roots)}, dtype="str")


def _root(roots: dict[str, str], account: str) -> str:
    while (above := roots.get(account, account)) != account:
        roots[account] = roots.get(above, above)
        account = above
    return account


def _unite(roots: dict[str, str], left: str, right: str) -> str:
    low, high = sorted((_root(roots, left), _root(roots, right)))
    roots[low] = low
    roots[high] = low
    return low


def _members(roots: dict[str, str], account: str) -> tuple[str, ...]:
    root = _root(roots, account)
    return tuple(a for a in sorted(roots) if _root(roots, a) == root)
