"""Reads profiles and who matches them, makes the segments' ICPs side by side and what each segment yields."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from icplab.core import formats as fmt
from icplab.core.schema import ALL
from icplab.core.stats.intervals import wilson
from icplab.traits.cards import POTENTIAL, figure_words, rule_words, share_words
from icplab.traits.pain import NOT_ENOUGH
from icplab.traits.sentences import level_words

Say = Callable[[dict], str]

YIELD = [
    "segment", "accounts", "inside", "share", "never_worked", "n", "win_rate", "low", "high", "market", "index",
    "index_low", "index_high",
]  # fmt: skip
MIN_CLOSED = 20  # closed opportunities inside below which a segment's yield is not printed


def compare_icps(icps: Sequence[dict]) -> pd.DataFrame:
    """Profiles side by side: one row per question, one column per segment; each figure with its interval and n."""
    names = [f"{fmt.plain(i['segment_id'])} {fmt.plain(i['segment'])}" for i in icps]
    rows = [[question, *(say(i) for i in icps)] for question, say in _QUESTIONS.items()]
    return pd.DataFrame(rows, columns=["what", *names])


def measure_yield(icps: Sequence[dict], matches: pd.DataFrame, opportunities: pd.DataFrame) -> pd.DataFrame:
    """How many ICP accounts each segment holds, how many nobody has worked, and how they win against the whole market.

    Parameters
    ----------
    icps, matches
        From `draft_icps` and `match_icp`.
    opportunities
        As `features` builds them; closed ones other than renewals count.

    Returns
    -------
    DataFrame
        One row per segment: segment, accounts, inside (accounts that meet its rule), share, never_worked (of those inside),
        n (closed opportunities of accounts inside), win_rate with its 95 % Wilson interval, market (win rate of all closed
        opportunities), index (win_rate over market, 100 = as the market) with its interval; missing below MIN_CLOSED. The
        rule was drafted on these opportunities, so the index flatters.
    """
    rows = opportunities[opportunities["type"] != "renewal"]
    closed = rows[rows["status"].isin(["won", "lost"]) & rows["account_id"].notna()]
    won = (closed["status"] == "won").to_numpy()
    market = float(won.mean()) if len(won) else np.nan
    usual = market or np.nan  # where nobody won, nothing is so many times what is usual
    found = []
    for icp in icps:
        own = matches[matches["segment_id"] == icp["segment_id"]]
        inside = own.loc[own["icp"] == "yes", "account_id"]
        here = closed["account_id"].isin(set(inside)).to_numpy()
        n, wins = int(here.sum()), int(won[here].sum())
        rate = (wins / n, *(float(end) for end in wilson(wins, n))) if n >= MIN_CLOSED else (np.nan, np.nan, np.nan)
        found.append(
            {
                "segment": f"{fmt.plain(icp['segment_id'])} {fmt.plain(icp['segment'])}",
                "accounts": len(own),
                "inside": len(inside),
                "share": len(inside) / len(own) if len(own) else np.nan,
                "never_worked": int((~inside.isin(set(opportunities["account_id"].dropna()))).sum()),
                "n": n,
                **dict(zip(("win_rate", "low", "high"), rate, strict=True)),
                "market": market,
                **{k: 100 * r / usual for k, r in zip(("index", "index_low", "index_high"), rate, strict=True)},
            }
        )
    table = pd.DataFrame(found, columns=YIELD)
    return table.astype({c: "str" if c == "segment" else "float64" for c in YIELD})


def _own_traits(icp: dict) -> str:
    """What goes with winning here and not in the whole market."""
    entries = [t for part in ("fit", "anti_traits") for t in _traits(icp, part) if t["scope"] != ALL]
    said = [f"{level_words(t['trait'], t['level'])} × {fmt.ratio(t['odds_ratio'])}" for t in entries]
    return "; ".join(said) or "none known to differ from the whole market"


def _traits(icp: dict, part: str) -> list[dict]:
    entries = icp["fit"]["traits"] if part == "fit" else icp[part]
    return entries if isinstance(entries, list) else []


def _roles(icp: dict) -> str:
    entries = icp["key_roles"]
    if not isinstance(entries, list):
        return str(entries)
    return ", ".join(fmt.plain(e["role"]) for e in entries if e["associated"]) or f"none of {len(entries)} told apart"


def _potential(name: str, unit: str) -> Say:
    return lambda icp: figure_words(icp["potential"][name], unit)


def _pain(name: str) -> Say:
    return lambda icp: share_words(icp["pain"][name])


_QUESTIONS: dict[str, Say] = {
    "accounts": lambda i: (
        f"{fmt.integer(i['fit']['accounts'])}, {fmt.integer(i['fit']['never_worked'])} of them never worked"
    ),
    **{words: _potential(name, unit) for name, (words, unit) in POTENTIAL.items()},
    "bought": lambda i: share_words(i["potential"]["products"]),
    "traits of its own": _own_traits,
    "needs": _pain("needs"),
    "lost because": _pain("loss_reasons"),
    "disqualified because": _pain("disqualification_reasons"),
    "only the timing": _pain("timing_reasons"),
    "roles that tell": _roles,
    "qualify by": lambda i: rule_words(i["qualification_rule"]) if i["qualification_rule"] else NOT_ENOUGH,
}
