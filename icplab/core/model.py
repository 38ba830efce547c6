"""Reads and writes the frozen model (`model.json`) and applies it: points, probability, value and tier of any account.

JSON only, never a pickle. Scoring in a run and scoring later by `icplab score` are this one function, so they cannot differ.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

import numpy as np
import pandas as pd

from icplab.core.errors import BadInput, Problem

FORMAT = 1  # of model.json; a reader refuses a newer one
MISSING = -1  # code of a missing value: takes the average points of the input
UNSEEN = -2  # code of a level the model never saw: treated like a missing one, but flagged
OTHER = "(other)"  # levels too rare to have points of their own
POSTERIOR = "posterior_"  # prefix of membership columns: posterior_S1 is the probability of segment S1
RANKED = ("tier_1", "tier_2", "tier_3")
OUT_OF_MARKET = ("partner", "competitor")
INCOMPLETE_SHARE = 0.5  # flag accounts that lack more than this share of the inputs
CHUNK = 20_000  # accounts per block when every draw of the uncertainty is looked at


@dataclass(frozen=True)
class Input:
    """One line of the scorecard: a trait, its levels and what each is worth.

    `kind` is number (edges cut it into levels), flag, category, item (one value of a multi-valued column) or posterior
    (membership probabilities, so the points are their weighted mean). `missing` is what an unknown value is worth.
    """

    trait: str
    table: str
    kind: str
    levels: tuple[str, ...]
    points: tuple[float, ...]
    missing: float = 0.0
    edges: tuple[float, ...] = ()
    item: str = ""

    @property
    def name(self) -> str:
        """Trait as shown: items carry their column."""
        return f"{self.trait}: {self.item}" if self.item else self.trait


@dataclass(frozen=True)
class Value:
    """Expected value of a won opportunity: exp(intercept + effects) × smearing × keep(segment) × margin − cost."""

    basis: str = "not_measured"
    intercept: float = 0.0
    inputs: tuple[Input, ...] = ()
    smearing: float = 1.0
    margin: float = 1.0
    keep: dict[str, float] = field(default_factory=dict)  # segment -> discounted years kept; "" is the whole market
    cost_per_year: float = 0.0


@dataclass(frozen=True)
class Model:
    """Everything needed to score an account. See docs/methodology/tiers.md."""

    as_of: str
    tool: str
    settings: str  # hash of what was decided before looking at the data
    horizon_days: int
    currency: str
    verdict: str  # usable, no-usable-ranking or insufficient-evidence
    base_rate: float | None  # overall win rate within the horizon; null when nothing is closed
    base_points: int = 0
    inputs: tuple[Input, ...] = ()
    calibration: tuple[float, float] = (0.0, 0.0)  # of accounts: probability = logistic(a + b × points)
    opportunity_base: int = 0
    opportunity_inputs: tuple[Input, ...] = ()  # card of an opportunity on the day it is opened; none: it does not rank
    opportunity_calibration: tuple[float, float] = (0.0, 0.0)
    value: Value = Value()
    intent_half: float = 4.0  # decayed activity that gives an intent score of 50
    cuts: dict[str, float] = field(default_factory=dict)  # tier -> lowest expected value
    support: tuple[Input, ...] = ()  # what worked accounts look like; outside it fit is unknown
    draws: dict[str, list] = field(default_factory=dict)  # uncertainty of points, value and cut points
    segments: dict = field(default_factory=dict)  # assigner, as the segments step made it
    checks: dict[str, float | str] = field(default_factory=dict)
    format: int = FORMAT

    @property
    def usable(self) -> bool:
        return self.verdict == "usable"

    @property
    def version(self) -> str:
        """Short name that files carry: date and a hash of the points."""
        import hashlib

        content = json.dumps(to_document(self), sort_keys=True).encode()
        return f"{self.as_of}-{hashlib.sha256(content).hexdigest()[:8]}"

    @property
    def best_points(self) -> int:
        """Highest total an account can reach, motion aside."""
        return self.base_points + int(sum(max(i.points) for i in self.inputs if i.trait != "motion"))


def to_document(model: Model) -> dict:
    """The model as plain JSON content."""
    return json.loads(json.dumps(asdict(model)))


def from_document(content: dict) -> Model:
    """Inverse of `to_document`.

    Raises
    ------
    BadInput
        ICP-E100 when the document is no model, was written by a newer icplab, or has keys this one does not know.
    """
    known = {f.name for f in fields(Model)}
    if not isinstance(content, dict) or content.get("format", 0) not in range(1, FORMAT + 1):
        raise BadInput(
            Problem(
                "ICP-E100",
                f"is not a model of format {FORMAT} or older",
                fix="use the icplab that wrote it",
                file="model.json",
            )
        )
    strange = sorted(set(content) - known)
    if strange:
        raise BadInput(
            Problem("ICP-E100", "is not a key of a model", file="model.json", value=strange[0], count=len(strange))
        )
    value = {**content["value"], "inputs": _inputs(content["value"]["inputs"])}
    return Model(
        **{
            **content,
            "inputs": _inputs(content["inputs"]),
            "opportunity_inputs": _inputs(content["opportunity_inputs"]),
            "support": _inputs(content["support"]),
            "value": Value(**value),
            "calibration": tuple(content["calibration"]),
            "opportunity_calibration": tuple(content["opportunity_calibration"]),
        }
    )


def write_model(model: Model, path: Path) -> Path:
    """Write `model.json`; returns its path."""
    path.write_text(json.dumps(to_document(model), indent=1, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")
    return path


def read_model(path: Path) -> Model:
    """Read `model.json`; raises `BadInput` when it is missing, damaged or too new."""
    try:
        return from_document(json.loads(Path(path).read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise BadInput(
            Problem("ICP-E001", "is not there", fix="name a model.json of a run", file=Path(path).name)
        ) from error
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise BadInput(
            Problem("ICP-E100", f"is damaged: {error}", fix="take it from its run again", file=Path(path).name)
        ) from error


def add_segments(accounts: pd.DataFrame, account_segments: pd.DataFrame) -> pd.DataFrame:
    """Account table with segment_id, membership columns (where there are any) and motion; rows in account_id order."""
    columns = ["account_id", "segment_id", *(c for c in map(str, account_segments) if c.startswith(POSTERIOR))]
    joined = accounts.drop(columns=[c for c in columns[1:] if c in accounts]).merge(
        account_segments[columns], on="account_id", how="left"
    )
    customer = joined["is_customer"].fillna(False).astype("bool")
    motion = pd.Series(np.where(customer, "expansion", "new"), index=joined.index, dtype="str")
    return joined.assign(motion=motion).sort_values("account_id", ignore_index=True)


def with_posteriors(account_segments: pd.DataFrame, posteriors: pd.DataFrame) -> pd.DataFrame:
    """The artefact `account_segments` with one membership column per segment, from account_id and a column per segment."""
    columns = {c: POSTERIOR + c for c in posteriors.columns if c != "account_id"}
    return account_segments.merge(posteriors.rename(columns=columns), on="account_id", how="left")


def level_codes(item: Input, frame: pd.DataFrame) -> np.ndarray:
    """Position of each row's level in `item.levels`; MISSING or UNSEEN where there is none.

    A column that is not there at all is missing everywhere. Not for kind posterior, which has no single level.
    """
    if item.trait not in frame:
        return np.full(len(frame), MISSING)
    values = frame[item.trait]
    if item.kind == "number":
        numbers = values.to_numpy("float64", na_value=np.nan)
        return np.where(np.isnan(numbers), MISSING, np.searchsorted(item.edges, numbers, side="right"))
    if item.kind == "flag":
        return values.astype("boolean").astype("Int8").fillna(MISSING).to_numpy("int64")
    known = values.notna().to_numpy()
    if item.kind == "item":
        has = (";" + values.astype("str") + ";").str.contains(f";{item.item};", regex=False).fillna(False)
        return np.where(known, has.to_numpy("int64"), MISSING)
    codes = pd.Index(item.levels).get_indexer(pd.Index(values.astype("str")))
    rest = item.levels.index(OTHER) if OTHER in item.levels else UNSEEN
    return np.where(~known, MISSING, np.where(codes < 0, rest, codes))


def weights_of(item: Input, frame: pd.DataFrame) -> np.ndarray:
    """Rows × (levels + 1): which level a row has (or with which probability); the last column says it is unknown."""
    weights = np.zeros((len(frame), len(item.levels) + 1))
    if item.kind == "posterior":
        columns = [POSTERIOR + level for level in item.levels]
        if set(columns) <= set(frame):
            weights[:, :-1] = frame[columns].to_numpy("float64", na_value=np.nan)
        unknown = ~(np.nansum(weights, axis=1) > 0)
        weights[unknown] = 0.0
        weights[:, -1] = unknown
        return weights
    codes = level_codes(item, frame)
    weights[np.arange(len(frame)), np.where(codes < 0, len(item.levels), codes)] = 1.0
    return weights


def points_of(item: Input, frame: pd.DataFrame) -> np.ndarray:
    """Points of one input per row, whole numbers."""
    return np.rint(effect_of(item, frame)).astype("int64")


def effect_of(item: Input, frame: pd.DataFrame) -> np.ndarray:
    """What one input adds per row, unrounded."""
    worth = np.array([*item.points, item.missing])
    if item.kind == "posterior":
        return weights_of(item, frame) @ worth
    codes = level_codes(item, frame)
    return worth[np.where(codes < 0, len(item.levels), codes)]


def level_of(item: Input, frame: pd.DataFrame) -> pd.Series:
    """Level of one input per row, in words; a posterior is named by the segment it is highest for."""
    if item.kind == "posterior":
        weights = weights_of(item, frame)
        codes = np.where(weights[:, -1] > 0, MISSING, weights[:, :-1].argmax(axis=1))
    else:
        codes = level_codes(item, frame)
    names = np.array([*item.levels, "not seen before", "unknown"], dtype=object)
    return pd.Series(names[codes], index=frame.index, dtype="str")


def apply_model(model: Model, accounts: pd.DataFrame) -> pd.DataFrame:
    """Score accounts with a frozen model.

    Parameters
    ----------
    model : as fitted, or read from model.json
    accounts : account table with segments (`add_segments`): account_id, segment_id, motion, is_customer, account_type,
        n_opportunities and the traits the model asks for. A trait that is not there counts as unknown.

    Returns
    -------
    DataFrame, one row per account in the order given: the artefact `scores` without intent. `points` is the total of the
    card. Where the model found no usable ranking, win_probability is the base rate and every tier is `insufficient`.
    """
    accounts = accounts.reset_index(drop=True)
    points = account_points(model, accounts)
    probability = win_probability(model, points)
    value = value_of(model.value, accounts)
    scored = pd.DataFrame(
        {
            "account_id": accounts["account_id"],
            "segment_id": accounts["segment_id"].fillna("unassigned"),
            "motion": accounts["motion"],
            "points": points,
            "fit_score": _fit_score(model, accounts, points),
            "win_probability": np.round(probability, 6),
            "expected_value": np.round(probability * value, 2),
            "value_basis": model.value.basis,
            "flags": _flags(model, accounts),
            "reasons": _reasons(model, accounts),
        }
    )
    return place_accounts(model, accounts, scored)


def place_accounts(model: Model, accounts: pd.DataFrame, scored: pd.DataFrame) -> pd.DataFrame:
    """`scored` with tier, tier_confidence and icp by the cut points the model has; rows as in `accounts`."""
    accounts = accounts.reset_index(drop=True)
    out_of_market = accounts["account_type"].isin(OUT_OF_MARKET).to_numpy()
    unassigned = (accounts["segment_id"].isna() | (accounts["segment_id"] == "unassigned")).to_numpy()
    measured = model.value.basis != "not_measured"
    # Without any amounts accounts can still be ordered by likelihood; the basis says so.
    order = scored["expected_value" if measured else "win_probability"].to_numpy("float64")
    placed = scored.assign(tier=_tier(model, order, out_of_market, unassigned).set_axis(scored.index))
    placed["tier_confidence"] = _tier_confidence(model, accounts, placed["tier"].reset_index(drop=True))
    placed["icp"] = _icp(model, placed, out_of_market)
    return placed


def points_table(model: Model, *, opportunity: bool = False) -> pd.DataFrame:
    """The scorecard of accounts (or of opportunities) as a table a person can apply: input, level, points."""
    base = model.opportunity_base if opportunity else model.base_points
    lines: list[tuple[str, str, float]] = [("base", "", base)]
    for item in model.opportunity_inputs if opportunity else model.inputs:
        lines += [(item.name, level, points) for level, points in zip(item.levels, item.points, strict=True)]
        lines.append((item.name, "(unknown)", item.missing))
    return pd.DataFrame(lines, columns=["input", "level", "points"])


def account_points(model: Model, accounts: pd.DataFrame) -> np.ndarray:
    """Total of the card per account."""
    total = np.full(len(accounts), model.base_points, dtype="int64")
    for item in model.inputs:
        total += points_of(item, accounts)
    return total


def opportunity_points(model: Model, opportunities: pd.DataFrame, accounts: pd.DataFrame) -> np.ndarray:
    """Total of the opportunity card per row; `accounts` holds the account of each row, with the motion of that row."""
    total = np.full(len(opportunities), model.opportunity_base, dtype="int64")
    for item in model.opportunity_inputs:
        total += points_of(item, accounts if item.table == "accounts" else opportunities)
    return total


def win_probability(model: Model, points: np.ndarray, *, opportunity: bool = False) -> np.ndarray:
    """Probability of winning within the horizon for a total of points; the base rate where nothing ranks."""
    intercept, slope = model.opportunity_calibration if opportunity else model.calibration
    ranks = bool(model.opportunity_inputs) if opportunity else model.usable
    if not ranks:
        return np.full(len(points), np.nan if model.base_rate is None else model.base_rate)
    return 1 / (1 + np.exp(-(intercept + slope * points)))


def value_of(value: Value, accounts: pd.DataFrame) -> np.ndarray:
    """Expected value of a won opportunity per account, in the reporting currency; NaN when nothing was measured.

    Where membership is a probability the money is averaged over the segments, not its logarithm.
    """
    if value.basis == "not_measured":
        return np.full(len(accounts), np.nan)
    return _worth(value, accounts, np.zeros((1, sum(len(i.levels) + 1 for i in value.inputs))))[:, 0]


def _worth(value: Value, accounts: pd.DataFrame, draws: np.ndarray) -> np.ndarray:
    """Accounts × draws: money over the horizon, with the effects moved by each draw."""
    log = np.full((len(accounts), len(draws)), value.intercept)
    shares, by_segment, keep = _keep(value, accounts)
    at = 0
    for item in value.inputs:
        wide = len(item.levels) + 1
        effects = np.array([*item.points, item.missing])[:, None] + draws[:, at : at + wide].T
        weights = weights_of(item, accounts)
        if item.kind == "posterior":
            shares, by_segment = weights, effects
            keep = np.array(
                [*(value.keep.get(k, value.keep.get("", 1.0)) for k in item.levels), value.keep.get("", 1.0)]
            )
        else:
            log += weights @ effects
        at += wide
    base = np.exp(log) * value.smearing * value.margin
    return base * (shares @ (np.exp(by_segment) * keep[:, None])) - value.cost_per_year * (shares @ keep)[:, None]


def _keep(value: Value, accounts: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hard segments as shares (one 1 per row), no effect of their own, and discounted years kept of each."""
    names = [k for k in value.keep if k]
    codes = (
        pd.Index(names).get_indexer(pd.Index(accounts["segment_id"].astype("str")))
        if names
        else np.full(len(accounts), -1)
    )
    shares = np.zeros((len(accounts), len(names) + 1))
    shares[np.arange(len(accounts)), codes] = 1.0  # unknown segments are -1: the whole market stands last
    keep = np.array([*(value.keep[k] for k in names), value.keep.get("", 1.0)])
    return shares, np.zeros((len(names) + 1, 1)), keep


def with_cuts(model: Model, cuts: dict[str, float], draws: dict[str, list]) -> Model:
    """The model with its tier cut points, and those of every draw of its uncertainty."""
    return replace(model, cuts=cuts, draws={**model.draws, **draws})


def probability_draws(model: Model, accounts: pd.DataFrame) -> np.ndarray:
    """Accounts × draws: win probability under each draw of the uncertain points."""
    shift = np.asarray(model.draws["points"])
    total = account_points(model, accounts)[:, None] + _shifts(model.inputs, shift, accounts)
    intercept, slope = model.calibration
    return 1 / (1 + np.exp(-(intercept + slope * total)))


def expected_value_draws(model: Model, accounts: pd.DataFrame) -> np.ndarray:
    """Accounts × draws: expected value under each draw of the uncertain points and values."""
    probability = probability_draws(model, accounts)
    if model.value.basis == "not_measured":
        return probability
    return probability * _worth(model.value, accounts, np.asarray(model.draws["value"]))


def _shifts(inputs: tuple[Input, ...], draws: np.ndarray, accounts: pd.DataFrame) -> np.ndarray:
    """Accounts × draws: by how much each draw moves each account. `draws` is draws × levels of all inputs."""
    total = np.zeros((len(accounts), draws.shape[0]))
    at = 0
    for item in inputs:
        wide = len(item.levels) + 1
        total += weights_of(item, accounts) @ draws[:, at : at + wide].T
        at += wide
    return total


def _inputs(rows: list[dict]) -> tuple[Input, ...]:
    lists = ("levels", "points", "edges")
    return tuple(Input(**{**row, **{k: tuple(row[k]) for k in lists}}) for row in rows)


def _fit_score(model: Model, accounts: pd.DataFrame, points: np.ndarray) -> np.ndarray:
    """Points of slow traits as a share of the best possible total, 0-100; motion is not fit."""
    if not model.usable:
        return np.full(len(accounts), np.nan)
    motion = sum((points_of(i, accounts) for i in model.inputs if i.trait == "motion"), np.zeros(len(accounts)))
    best = max(model.best_points, 1)
    return np.round(np.clip(100 * (points - motion) / best, 0, 100), 1)


def _flags(model: Model, accounts: pd.DataFrame) -> pd.Series:
    """unknown_fit (unworked and outside the range of worked accounts), incomplete, unseen_level."""
    codes = [level_codes(i, accounts) for i in model.inputs if i.kind != "posterior"]
    lacking = np.mean([c == MISSING for c in codes], axis=0) if codes else np.zeros(len(accounts))
    unseen = np.any([c == UNSEEN for c in codes], axis=0) if codes else np.zeros(len(accounts), bool)
    unworked = (accounts["n_opportunities"].fillna(0) == 0).to_numpy()
    outside = np.zeros(len(accounts), bool)
    for item in model.support:
        codes_ = level_codes(item, accounts)
        # A number is cut into below, inside and above the range seen; categories are outside when never seen.
        outside |= np.isin(codes_, (0, 2)) if item.kind == "number" else codes_ == UNSEEN
    flags = pd.Series("", index=accounts.index, dtype="str")
    for name, rows in (
        ("unknown_fit", unworked & outside),
        ("incomplete", lacking > INCOMPLETE_SHARE),
        ("unseen_level", unseen),
    ):
        flags = flags.where(~rows, flags + ";" + name)
    return flags.str.lstrip(";")


def _reasons(model: Model, accounts: pd.DataFrame) -> pd.Series:
    """JSON list per account: base first, then every input; the points sum to the total."""
    text = pd.Series(
        "[" + json.dumps({"trait": "base", "level": "", "points": model.base_points}), index=accounts.index
    )
    for item in model.inputs:
        levels, names = pd.factorize(level_of(item, accounts))
        points, lowest = points_of(item, accounts), int(points_of(item, accounts).min(initial=0))
        # Few distinct rows per input: render each once, then look it up.
        wide = len(names)
        distinct, place = np.unique((points - lowest) * wide + levels, return_inverse=True)
        lines = [
            ", "
            + json.dumps(
                {"trait": item.name, "level": str(names[k % wide]), "points": int(k // wide) + lowest},
                ensure_ascii=False,
            )
            for k in distinct
        ]
        text = text + pd.Series(np.array(lines, dtype=object)[place], index=accounts.index, dtype="str")
    return (text + "]").astype("str")


def _tier(model: Model, expected: np.ndarray, out_of_market: np.ndarray, unassigned: np.ndarray) -> pd.Series:
    """Tier by the frozen cut points; expected values below all of them are below break-even."""
    tier = np.full(len(expected), "insufficient", dtype=object)
    if model.usable and model.cuts:
        tier[:] = "not_icp"
        for name in reversed([t for t in RANKED if t in model.cuts]):
            tier[expected >= model.cuts[name]] = name
        tier[unassigned] = "insufficient"
    tier[out_of_market] = "not_icp"
    return pd.Series(tier, dtype="str")


def _tier_confidence(model: Model, accounts: pd.DataFrame, tier: pd.Series) -> np.ndarray:
    """Share of the draws that put an account into the tier it has; null where it is in none by rank."""
    confidence = np.full(len(accounts), np.nan)
    ranked = [t for t in RANKED if t in model.cuts]
    placed = np.flatnonzero(tier.isin([*ranked, "not_icp"]) & ~accounts["account_type"].isin(OUT_OF_MARKET))
    if not (model.usable and ranked and model.draws.get("cuts")):
        return confidence
    cuts = np.asarray(model.draws["cuts"])  # ranked tiers × draws, falling
    own = tier.map({t: k for k, t in enumerate([*ranked, "not_icp"])}).to_numpy()
    for start in range(0, len(placed), CHUNK):
        rows = placed[start : start + CHUNK]
        values = expected_value_draws(model, accounts.iloc[rows])
        below = (values[:, None, :] < cuts[None, :, :]).sum(axis=1)
        confidence[rows] = (below == own[rows, None].astype("int64")).mean(axis=1)
    return np.round(confidence, 3)


def _icp(model: Model, scored: pd.DataFrame, out_of_market: np.ndarray) -> pd.Series:
    """yes: wins at least as likely as average; unknown: no tier, or nothing like it was ever worked."""
    unknown = (scored["tier"] == "insufficient") | scored["flags"].str.contains("unknown_fit|incomplete", regex=True)
    fits = scored["win_probability"] >= (model.base_rate or 0.0)
    icp = np.where(
        out_of_market | (scored["tier"] == "not_icp"), "no", np.where(unknown, "unknown", np.where(fits, "yes", "no"))
    )
    return pd.Series(icp, index=scored.index, dtype="str")
