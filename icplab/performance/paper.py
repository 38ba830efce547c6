"""Reads what the plan and the playbook claim, and opportunities, makes claims beside what the data show of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from icplab.core import formats
from icplab.core.config import Settings
from icplab.core.findings import Finding
from icplab.core.stats.resample import draw_weights
from icplab.performance.prepare import no_decision

STEP = "20_performance"
FALSE_ALARM = 0.05
REPLICATES = 400
WEAKER = 0.90  # a claimed group below this share of the rest's value is weak in reality
HIGH_SCORE = 4.0  # of five: what people call attractive
SHORTEST = 3  # letters of a level that may be looked for inside a sentence
ALL_LEVELS = 60  # a column with more levels is a name, not a level somebody could mean
COLUMNS = {"claim": "str", "source": "str", "cut": "str", "level": "str"}


def list_claims(
    settings: Settings,
    accounts: pd.DataFrame,
    opportunities: pd.DataFrame,
    cuts: Sequence[str] = (),
    segments: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """What the team says is attractive, and the levels of the data that it speaks of.

    Parameters
    ----------
    settings : Settings
        `[goals] strategic_bets, product_focus`; `playbook.toml` with scores per segment.
    accounts, opportunities : DataFrame
        Whose levels are looked for; opportunities' `product`, `type` and `source` always are.
    cuts : sequence of str
        Further columns of accounts whose levels may be meant.
    segments : DataFrame, optional
        Artefact `segments`: `segment_id, segment`, and so the segments that bets and playbook scores name.

    Returns
    -------
    DataFrame
        `claim` (as written), `source` (strategic bet, product focus, playbook), `cut`, `level`; a claim that names
        several levels has several rows. `cut` is empty where nothing in the data answers to a claim: it cannot be tested.

    Notes
    -----
    A level is meant when the claim is the level, or names it as a whole word; nothing is guessed beyond that.
    """
    known = [(cut, level) for cut in ("product", "type", "source") for level in _levels_of(opportunities, cut)]
    known += [(cut, level) for cut in dict.fromkeys(cuts) if cut in accounts for level in _levels_of(accounts, cut)]
    rows = []
    if segments is not None and len(segments):
        pairs = zip(segments["segment_id"], segments["segment"], strict=True)
        names = {name: i for i, label in pairs for name in (str(i), str(label))}
        known += [("segment", name) for name in names]
        rows += _scored_segments(settings, names)
    for source, claims in (
        ("strategic bet", settings.goals.strategic_bets),
        ("product focus", settings.goals.product_focus),
    ):
        among = [k for k in known if k[0] == "product"] if source == "product focus" else known
        for claim in claims:
            meant = [k for k in among if _means(claim, k[1])]
            rows += [(claim, source, cut, level) for cut, level in meant] or [(claim, source, "", "")]
    table = pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS).drop_duplicates(ignore_index=True)
    if segments is not None and len(segments):
        table["level"] = table["level"].where(
            table["cut"] != "segment", table["level"].map(names).fillna(table["level"])
        )
    return table


def compare_claims(
    claims: pd.DataFrame,
    opportunities: pd.DataFrame,
    levels: Mapping[str, pd.Series],
    settings: Settings,
    as_of: pd.Timestamp,
    seed: int,
) -> pd.DataFrame:
    """Each claim's opportunities against all others: win rate, deal size, and value won per closed opportunity.

    Parameters
    ----------
    claims : DataFrame
        From `list_claims`. Levels of one claim, and all products in focus, count together.
    levels : mapping
        Per cut the level of each opportunity (index opportunity_id); columns of opportunities need none.

    Returns
    -------
    DataFrame
        `claim, source, n, win_rate, win_rest, acv, acv_rest, ratio` (value won per closed opportunity against the rest),
        `ratio_low, ratio_high, p_value` (one-sided: worth less), `status`.

    Notes
    -----
    Value is the annual value won, times the gross margin where it is known for every won opportunity. Spread over
    resampled families, on the log scale.
    """
    closed = opportunities[(opportunities["status"] != "open") & ~no_decision(opportunities)]
    if settings.dated and settings.plan.window_days:
        closed = closed[closed["closed_at"] > as_of - pd.Timedelta(days=settings.plan.window_days)]
    closed = closed.sort_values("opportunity_id", ignore_index=True)
    known = claims[claims["cut"] != ""]
    columns = ["claim", "source", *_NUMBERS, "status"]
    if not len(closed) or not len(known):
        return pd.DataFrame(columns=columns).astype(dict.fromkeys(_NUMBERS, "float64"))
    won = (closed["status"] == "won").to_numpy(dtype=float)
    margin = closed["margin_rate"].astype("float64")
    worth = closed["acv"].fillna(0.0) * (margin if margin[won > 0].notna().all() else 1.0)
    facts = np.column_stack([np.ones(len(closed)), won, won * closed["acv"].fillna(0.0), won * worth.fillna(0.0)])
    unit = pd.factorize(closed["family_id"].fillna("~" + closed["opportunity_id"]), sort=True)[0]
    n_units = int(unit.max()) + 1
    weights = np.vstack([np.ones((1, n_units), np.float32), draw_weights(n_units, REPLICATES, seed)])
    joint = known["claim"].where(known["source"] != "product focus", "every product in focus")
    rows = []
    for (source, claim), group in known.groupby(["source", joint], sort=True):
        inside = _inside(closed, group, levels)
        rows.append({"claim": claim, "source": source, **_against_rest(facts, inside, unit, weights, settings)})
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(_NUMBERS, "float64"))


def find_paper(claims: pd.DataFrame, compared: pd.DataFrame, settings: Settings, step: str = STEP) -> Iterator[Finding]:
    """Claims that the data contradict, bear out or cannot test."""
    tested = compared[compared["status"] == "ok"]
    currency = settings.workspace.currency
    for row in tested.to_dict("records"):
        weak = row["ratio"] < WEAKER and row["p_value"] <= FALSE_ALARM / len(tested)
        claim = f"“{formats.plain(row['claim'], 120)}” ({row['source']})"
        told = (
            f"its opportunities bring {formats.number(row['ratio'])} times the value per closed opportunity of all others "
            f"({formats.number(row['ratio_low'])} to {formats.number(row['ratio_high'])}): win rate "
            f"{formats.percent(row['win_rate'])} against {formats.percent(row['win_rest'])}, ACV "
            f"{formats.money(row['acv'], currency)} against {formats.money(row['acv_rest'], currency)}, "
            f"n = {row['n']:,.0f}."
        )
        yield Finding(
            "paper-vs-reality",
            step,
            "watch" if weak else "info",
            row["claim"],
            f"{claim} {'is good on paper and weak in reality' if weak else 'is not contradicted by the data'}: {told}",
            {k: row[k] for k in _NUMBERS},
            action="Say what would have to change for it to pay, or take it off the list." if weak else "",
        )
    silent = claims[claims["cut"] == ""]
    if len(silent):
        named = ", ".join(f"“{formats.plain(c, 80)}”" for c in silent["claim"])
        sentence = f"Nothing in the data answers to {named}: no product, type, source or level has such a name, so it is untested."
        yield Finding("paper-vs-reality", step, "info", "untested claims", sentence, {"claims": len(silent)})


_NUMBERS = ("n", "win_rate", "win_rest", "acv", "acv_rest", "ratio", "ratio_low", "ratio_high", "p_value")


def _levels_of(frame: pd.DataFrame, column: str) -> list[str]:
    if column not in frame or pd.api.types.is_numeric_dtype(frame[column]) or pd.api.types.is_bool_dtype(frame[column]):
        return []
    levels = frame[column].dropna().astype("str").unique()
    return sorted(levels) if len(levels) <= ALL_LEVELS else []


def _means(claim: str, level: str) -> bool:
    """Whether a claim is a level, or names it as a whole word."""
    said, name = claim.casefold().strip(), level.casefold().strip()
    if said == name:
        return True
    return len(name) >= SHORTEST and re.search(rf"(?<!\w){re.escape(name)}(?!\w)", said) is not None


def _scored_segments(settings: Settings, names: Mapping[str, str]) -> list[tuple[str, str, str, str]]:
    """Segments that people scored as attractive in the playbook."""
    rows = []
    playbook = settings.playbook.get("segments", {})
    for name, entry in playbook.items() if isinstance(playbook, Mapping) else ():
        scores = entry.get("scores", {}) if isinstance(entry, Mapping) else {}
        given = [v for v in scores.values() if isinstance(v, int | float)] if isinstance(scores, Mapping) else []
        if given and np.mean(given) >= HIGH_SCORE:
            claim = f"{name} scored {np.mean(given):.1f} of 5"
            rows.append((claim, "playbook", "segment" if name in names else "", str(name) if name in names else ""))
    return rows


def _inside(closed: pd.DataFrame, claim: pd.DataFrame, levels: Mapping[str, pd.Series]) -> npt.NDArray[np.bool_]:
    """Opportunities that a claim speaks of."""
    inside = np.zeros(len(closed), dtype=bool)
    for cut, group in claim.groupby("cut"):
        level = closed["opportunity_id"].map(levels[str(cut)]) if cut in levels else closed[str(cut)]
        inside |= level.astype("str").isin(group["level"]).to_numpy(dtype=bool)
    return inside


def _against_rest(
    facts: npt.NDArray[np.float64], inside: npt.NDArray, unit: npt.NDArray, weights: npt.NDArray, settings: Settings
) -> dict[str, object]:
    from scipy.special import ndtr

    n, won = facts[inside, :2].sum(axis=0)
    won_rest = facts[~inside, 1].sum()
    least = settings.plan.minimum_n_money
    if min(n, (~inside).sum()) < least or min(won, won_rest) < 5:
        return {"n": n, "status": "insufficient"}
    cells = (weights.shape[1], 2)
    drawn = [
        (weights @ np.bincount(unit * 2 + inside, weights=f, minlength=cells[0] * 2).reshape(cells).astype(np.float32))
        for f in facts.T
    ]
    n_of, won_of, acv_of, worth_of = (d.astype(float) for d in drawn)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(worth_of[:, 1] / n_of[:, 1]) - np.log(worth_of[:, 0] / n_of[:, 0])
        spread = float(np.std(logs[1:][np.isfinite(logs[1:])]))
    gap = float(logs[0])
    return {
        "n": n,
        "win_rate": won_of[0, 1] / n_of[0, 1],
        "win_rest": won_of[0, 0] / n_of[0, 0],
        "acv": acv_of[0, 1] / won_of[0, 1],
        "acv_rest": acv_of[0, 0] / won_of[0, 0],
        "ratio": np.exp(gap),
        "ratio_low": np.exp(gap - 1.96 * spread),
        "ratio_high": np.exp(gap + 1.96 * spread),
        "p_value": float(ndtr(gap / spread)) if spread > 0 else 1.0,
        "status": "ok",
    }
