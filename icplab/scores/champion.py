"""Reads the scorecard in force and the newly fitted one, makes the choice between them, on opportunities neither has seen.

Money and cut points are of today in either case: margins, prices and capacity are facts. What is contested is the card: which
inputs, how many points, what probability.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from icplab.core import formats as fmt
from icplab.core.errors import BadInput
from icplab.core.findings import Finding
from icplab.core.model import Model, account_points, from_document, value_of, win_probability
from icplab.core.stats.resample import draw_weights
from icplab.core.store import Store
from icplab.scores.forward import MIN_LOST, MIN_TEST_WON, MIN_WON, Fold, auc, best_share, fit_accounts
from icplab.scores.level import measure_level
from icplab.scores.scorecard import build_card, calibrate, opportunity_effects, points_of_rows
from icplab.scores.training import Training, label_outcomes

STEP = "50_tiers"
FOLD_DAYS, MAX_FOLDS = 45, 4  # the new card is fitted again at the start of each fold; longer spans have longer folds
REPLICATES = 1000  # resamples of families behind the interval of a gain
LEVEL = 0.975  # of each of the two gains that decide: 95 % for both together
BEST = 0.2  # share of the opportunities that counts as worked first
CARD = (
    *("base_points", "inputs", "calibration", "opportunity_base", "opportunity_inputs", "opportunity_calibration"),
    *("support", "intent_half", "intent_days"),
)
VALUE, BRIER, PAIRS = "value held by the best fifth", "Brier score, lower is better", "pairs in order"
DECIDING = (VALUE, BRIER)
COLUMNS = ("figure", "in_force", "fitted_anew", "gain", "low", "high", "n")


@dataclass(frozen=True)
class Contest:
    """The card in force and why.

    Attributes
    ----------
    model : to go on with, without cut points; `model.contest` says the same as this in plain content
    verdict : first (nothing to defend), champion (stays), challenger (proven better), forced (the old one cannot go on)
    reason : in words
    figures : one row per figure: in_force, fitted_anew, gain (positive: the new one is better), low, high, n
    """

    model: Model
    verdict: str
    reason: str
    figures: pd.DataFrame


def read_champion(before: Store | None) -> Model | None:
    """The model of the run before; None where there is none that this version reads."""
    if before is None or not before.has("model"):
        return None
    try:
        return from_document(before.read_json("model"))
    except BadInput:
        return None


def settle_champion(training: Training, challenger: Model, champion: Model | None, seed: int) -> Contest:
    """Keep the card in force unless the newly fitted one is better on what was opened since.

    Parameters
    ----------
    training : of today; its accounts carry today's traits, for both cards alike
    challenger : as fitted on everything known today
    champion : model of the run before (`read_champion`)
    seed : of the resampling of families

    Returns
    -------
    Contest

    Notes
    -----
    Tested are opportunities opened after the day the champion's card was fitted: the only ones it has not seen. They are cut
    into folds of about FOLD_DAYS; in each, the challenger is fitted again, selection too, on what was known when the fold
    began, while the champion stays as it is. Both rank by probability × today's worth of a win, are judged on the same rows, and
    families are resampled for both together. The card changes when the lower bound of the gain is above zero for the value
    held by the best fifth or for the Brier score, and the other one is not clearly worse. The span grows until a change:
    a champion that stays is met by more evidence every quarter. Repeated looks are not corrected for.
    """
    nothing = pd.DataFrame(columns=list(COLUMNS))
    if not challenger.usable:
        return _settled(
            challenger, "first", "the newly fitted card ranks nothing, so none is in force", nothing, champion
        )
    if champion is None or not champion.usable:
        why = "there is no earlier run" if champion is None else "the run before had no usable ranking"
        return _settled(challenger, "first", why, nothing, champion)
    if why := _cannot_go_on(training, challenger, champion):
        return _settled(challenger, "forced", why, nothing, champion)
    tested = _predict(training, challenger, champion)
    won = int(tested["outcome"].sum()) if len(tested) else 0
    if min(won, len(tested) - won) < MIN_TEST_WON:
        why = f"only {won} won and {len(tested) - won} lost opportunities were opened since it was fitted"
        return _settled(_kept(champion, challenger), "champion", why, nothing, champion)
    figures = _measure(tested, seed)
    better, why = _is_better(figures)
    model = challenger if better else _kept(champion, challenger)
    return _settled(model, "challenger" if better else "champion", why, figures, champion)


def champion_findings(contest: Contest) -> list[Finding]:
    """Which card is in force and on what evidence; nothing where there was no earlier one."""
    if contest.verdict == "first":
        return []
    day = fmt.date(contest.model.contest["in_force_since"])
    numbers = {r["figure"]: {c: r[c] for c in COLUMNS[1:]} for r in contest.model.contest["figures"]}
    if contest.verdict == "champion":
        sentence = f"The scorecard of {day} stays in force: {contest.reason}."
        action = "Nothing to import anew but tiers; points and formulas in the CRM stay as they are."
        return [Finding("model-kept", STEP, "info", "scorecard", sentence, numbers, action=action)]
    sentence = f"The scorecard changes: {contest.reason}."
    action = "Replace points and formulas in the CRM by those of this run, and tell the teams why scores moved."
    return [Finding("model-changed", STEP, "watch", "scorecard", sentence, numbers, action=action)]


def _cannot_go_on(training: Training, challenger: Model, champion: Model) -> str:
    """Why the champion's card could not be used today, in words; empty where it can."""
    if not training.dated:
        return "without dates no opportunity is known to be newer than the old card"
    if (champion.horizon_days, champion.currency) != (challenger.horizon_days, challenger.currency):
        return "horizon or currency are others than those of the old card"
    items = (*champion.inputs, *champion.opportunity_inputs)
    gone = sorted({i.trait for i in items if i.kind != "posterior"} - set(training.offered))
    if gone:
        return f"{', '.join(fmt.plain(t, 40) for t in gone)} of the old card may no longer predict (gone, or set aside as a leak)"
    ids = set(challenger.segments.get("ids", []))
    known = {level for i in items if i.kind == "posterior" or i.trait == "segment_id" for level in i.levels}
    return "segments were redrawn, and the old card speaks of others" if known - ids else ""


def _kept(champion: Model, challenger: Model) -> Model:
    """The champion's card with today's money; cut points follow."""
    card = {name: getattr(champion, name) for name in CARD}
    draws = {**challenger.draws, "points": champion.draws.get("points", [])}
    level = champion.checks.get("level_se", challenger.checks.get("level_se", 0.0))
    checks = {"level_se": level, "level_shift": champion.checks.get("level_shift", 0.0)}
    return replace(challenger, **card, draws=draws, checks={**challenger.checks, **checks})


def _settled(model: Model, verdict: str, reason: str, figures: pd.DataFrame, champion: Model | None) -> Contest:
    """The contest, written into the model too."""
    since = champion.fitted_on if verdict == "champion" and champion is not None else model.as_of
    content = {
        "verdict": verdict,
        "reason": reason,
        "in_force_since": since,
        "champion": champion.version if champion is not None else "",
        "figures": figures.round(6).to_dict("records"),
    }
    return Contest(replace(model, contest=content), verdict, reason, figures)


def _folds(training: Training, since: pd.Timestamp) -> list[Fold]:
    """Folds of the opportunities opened after a day, in equal spans."""
    created, end = training.opportunities["created_at"], training.as_of
    days = max((end - since).days, 1)
    count = min(max(round(days / FOLD_DAYS), 1), MAX_FOLDS)
    splits = [since + pd.Timedelta(days=round(days * k / count)) for k in range(count)] + [end]
    return [
        (
            start,
            (created <= start).to_numpy(),
            ((created > start) & (created <= until)).to_numpy(),
            f"{start:%Y-%m-%d}/{until:%Y-%m-%d}",
        )
        for start, until in itertools.pairwise(splits)
    ]


def _predict(training: Training, challenger: Model, champion: Model) -> pd.DataFrame:
    """Both cards on the tested opportunities with a known outcome; empty where there are none."""
    parts = [
        _fold(training, champion, k, fold) for k, fold in enumerate(_folds(training, pd.Timestamp(champion.fitted_on)))
    ]
    tested = pd.concat(parts, ignore_index=True)
    if tested.empty:
        return tested
    rows = training.opportunities.set_index("opportunity_id").loc[tested["opportunity_id"]]
    outcome, weight = label_outcomes(rows, training.as_of, training.horizon_days, training.dated)
    worth = np.nan_to_num(value_of(challenger.value, _market(training, rows)), nan=1.0)
    tested = tested.assign(outcome=outcome, weight=weight, worth=worth)
    return tested[tested["weight"] > 0].sort_values("opportunity_id", ignore_index=True)


def _fold(training: Training, champion: Model, number: int, fold: Fold) -> pd.DataFrame:
    """Probabilities of both for the opportunities of one fold; none where the past of it was too thin for a new card."""
    split, train, test, _ = fold
    split = training.as_of if split is None else split
    y, w = training.labels(split)
    w = np.where(train, w, 0.0)
    if not test.any() or ((y > 0) & (w > 0)).sum() < MIN_WON // 2 or ((y == 0) & (w > 0)).sum() < MIN_LOST // 2:
        return pd.DataFrame()
    rows = training.opportunities.loc[test]
    fitted = fit_accounts(training, y, w)
    points = points_of_rows(*build_card(fitted), fitted)
    a, b = calibrate(points, fitted.nuisance + opportunity_effects(fitted), y, w, 1.0)
    a += measure_level((a + b * points)[train], training.opportunities[train], split, training.horizon_days).shift
    return rows[["opportunity_id", "family_id"]].assign(
        fold=number,
        fitted_anew=1 / (1 + np.exp(-(a + b * points[test]))),
        in_force=win_probability(champion, account_points(champion, _market(training, rows))),
    )


def _market(training: Training, rows: pd.DataFrame) -> pd.DataFrame:
    """The account of each opportunity, with the motion of that opportunity."""
    accounts = training.accounts.set_index("account_id").loc[rows["account_id"]].reset_index()
    return accounts.assign(motion=rows["motion"].to_numpy())


def _measure(tested: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Figures of both cards and the gain of the new one, with its interval from resampled families."""
    codes, families = pd.factorize(tested["family_id"], sort=True)
    y, w, fold = (tested[c].to_numpy("float64") for c in ("outcome", "weight", "fold"))
    draws = np.vstack([w, draw_weights(len(families), REPLICATES, seed)[:, codes] * w])
    of = {name: _figures(tested, tested[name].to_numpy(), y, draws, fold) for name in ("in_force", "fitted_anew")}
    rows = []
    for figure in (VALUE, BRIER, PAIRS):
        old, new = of["in_force"][figure], of["fitted_anew"][figure]
        gain = old - new if figure == BRIER else new - old
        low, high = np.nanquantile(gain[1:], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        rows.append((figure, old[0], new[0], gain[0], low, high, float(len(tested))))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _figures(
    tested: pd.DataFrame, p: np.ndarray, y: np.ndarray, draws: np.ndarray, fold: np.ndarray
) -> dict[str, np.ndarray]:
    """One figure per resample: share of value held by the best fifth, Brier score, pairs in order."""
    worth = tested["worth"].to_numpy()
    inside = best_share((p * worth).round(9), draws[0], fold, BEST)
    earned = draws * (y * np.maximum(worth, 0.0))
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            VALUE: (earned @ inside) / earned.sum(axis=1),
            BRIER: draws @ (y - p) ** 2 / draws.sum(axis=1),
            PAIRS: auc(p.round(9), y, draws, fold),
        }


def _is_better(figures: pd.DataFrame) -> tuple[bool, str]:
    """Whether the new card is proven better, and the words for it."""
    deciding = figures[figures["figure"].isin(DECIDING)].set_index("figure")
    proven = deciding.index[deciding["low"] > 0].tolist()
    worse = deciding.index[deciding["high"] < 0].tolist()
    told = {c: float(deciding[c].loc[VALUE]) for c in COLUMNS[1:]}
    gain = f"{fmt.points(told['gain'])}, {fmt.interval(told['low'], told['high'], 'points')}"
    shown = (
        f"on {fmt.integer(told['n'])} opportunities opened since, its best fifth held {fmt.percent(told['in_force'])} of the value, "
        f"that of a newly fitted one {fmt.percent(told['fitted_anew'])} (difference {gain})"
    )
    if proven and not worse:
        return True, f"{shown}; the new one is better beyond chance by {' and '.join(p.split(',')[0] for p in proven)}"
    return False, f"{shown}, which is no proof that the new one is better"
