"""Reads and writes the frozen model (`model.json`): scorecard, calibration, value, cut points. JSON only, never a pickle."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

import pandas as pd

from icplab.core.errors import BadInput, Problem

FORMAT = 1  # of model.json; a reader refuses a newer one
MISSING = -1  # code of a missing value: takes the average points of the input
UNSEEN = -2  # code of a level the model never saw: treated like a missing one, but flagged
OTHER = "(other)"  # levels too rare to have points of their own
POSTERIOR = "posterior_"  # prefix of membership columns: posterior_S1 is the probability of segment S1
RANKED = ("tier_1", "tier_2", "tier_3")
OUT_OF_MARKET = ("partner", "competitor")


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
    intent_days: int = 30  # half-life of a signal
    intent_half: float = 4.0  # decayed activity that gives an intent score of 50
    cuts: dict[str, float] = field(default_factory=dict)  # tier -> lowest expected value
    support: tuple[Input, ...] = ()  # what worked accounts look like; outside it fit is unknown
    draws: dict[str, list] = field(default_factory=dict)  # uncertainty of points, value and cut points
    segments: dict = field(default_factory=dict)  # assigner, as the segments step made it
    checks: dict[str, float | str] = field(default_factory=dict)
    contest: dict = field(default_factory=dict)  # card in force against the newly fitted one: verdict, reason, figures
    format: int = FORMAT

    @property
    def usable(self) -> bool:
        return self.verdict == "usable"

    @property
    def fitted_on(self) -> str:
        """Day the card was fitted on: earlier than `as_of` where it stayed in force."""
        return str(self.contest.get("in_force_since") or self.as_of)

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


def with_cuts(model: Model, cuts: dict[str, float], draws: dict[str, list]) -> Model:
    """The model with its tier cut points, and those of every draw of its uncertainty."""
    return replace(model, cuts=cuts, draws={**model.draws, **draws})


def points_table(model: Model, *, opportunity: bool = False, named: bool = False) -> pd.DataFrame:
    """The scorecard of accounts (or of opportunities) as a table a person can apply: input, level, points.

    With `named`, segments carry their names beside their ids.
    """
    names = dict(zip(model.segments.get("ids", []), model.segments.get("names", []), strict=False)) if named else {}
    base = model.opportunity_base if opportunity else model.base_points
    lines: list[tuple[str, str, float]] = [("base", "", base)]
    for item in model.opportunity_inputs if opportunity else model.inputs:
        own = names if item.kind == "posterior" or item.trait == "segment_id" else {}
        levels = [f"{v} {own[v]}" if own.get(v, v) != v else v for v in item.levels]
        lines += [(item.name, level, points) for level, points in zip(levels, item.points, strict=True)]
        lines.append((item.name, "(unknown)", item.missing))
    return pd.DataFrame(lines, columns=["input", "level", "points"])


def _inputs(rows: list[dict]) -> tuple[Input, ...]:
    lists = ("levels", "points", "edges")
    return tuple(Input(**{**row, **{k: tuple(row[k]) for k in lists}}) for row in rows)
