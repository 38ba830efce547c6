"""Reads a file of accounts and a frozen model, makes the same scores that a run would give them."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from icplab.activation import hubspot_companies, prepare_rows, salesforce_accounts
from icplab.core.config import Settings
from icplab.core.errors import BadInput, Problem, nearest
from icplab.core.formats import FORMULA_SIGNS
from icplab.core.model import UNSEEN, Model, add_segments, apply_model, level_codes, with_posteriors
from icplab.core.store import write_parquet
from icplab.features import type_values
from icplab.intake import read_accounts
from icplab.run.score_large import score_parquet
from icplab.segments import assign_segments, posteriors_of

# How the model and the segment assigner call the kinds that a column is read as.
READ_AS = {
    "number": "number",
    "band": "number",
    "flag": "flag",
    "category": "category",
    "item": "multi",
    "tool": "multi",
}
FORMATS = ("csv", "parquet", "salesforce", "hubspot")
# What the import files of a CRM say about an account besides its score.
ABOUT = ("name", "domain", "linkedin_url", "owner")
# Without history only the type says who is a customer; new accounts were never worked.
CUSTOMER = "customer"


@dataclass(frozen=True)
class Scored:
    """Scores of new accounts, and what the model missed.

    `scores` is the artefact `scores` without intent, one row per account; `missing` are inputs the file lacks altogether;
    `unknown` counts, per input, accounts where it is blank; `unseen` those with a level that the model never saw.
    """

    scores: pd.DataFrame
    missing: list[str]
    unknown: dict[str, int]
    unseen: dict[str, int]
    about: pd.DataFrame = field(default_factory=pd.DataFrame)  # account_id, ABOUT, is_customer
    members: pd.DataFrame = field(default_factory=pd.DataFrame)  # account_id, segment
    notes: tuple[str, ...] = ()  # what was made of another layout than the canonical one


def score_file(accounts: Path | str, model: Model, settings: Settings | None = None) -> Scored:
    """Score the accounts of a CSV or Parquet file with a frozen model.

    Parameters
    ----------
    accounts : file with account_id and the model's inputs under the names the model knows them by; `account_type`, where
        it is there, says who is a customer, partner or competitor. A CSV without a column account_id, or not written as
        UTF-8 with commas, is read as the intake reads it: workbooks, other spellings, exports of Salesforce and HubSpot
    model : from `read_model`
    settings : of a workspace, whose mapping of accounts is then used

    Raises
    ------
    BadInput
        The file cannot be read, has no account_id, or repeats one or leaves one blank; the model holds no segments.
    """
    kinds = input_kinds(model)
    frame, notes = _read(Path(accounts), settings)
    frame = _under_known_names(frame, kinds)
    present = {t: k for t, k in kinds.items() if t in frame}
    frame = frame.assign(**{t: type_values(frame[t], k) for t, k in present.items()})
    frame = frame.sort_values("account_id", ignore_index=True)
    if "account_type" not in frame:
        frame["account_type"] = pd.Series(index=frame.index, dtype="str")
    frame["is_customer"] = (frame["account_type"] == CUSTOMER).astype("boolean")
    frame["n_opportunities"] = 0.0
    members = with_posteriors(assign_segments(model.segments, frame), posteriors_of(model.segments, frame))
    market = add_segments(frame, members)
    inputs = [i for i in model.inputs if i.table == "accounts" and i.trait in present]
    unseen = {i.name: int((level_codes(i, market) == UNSEEN).sum()) for i in inputs if i.kind != "posterior"}
    return Scored(
        apply_model(model, market),
        sorted(set(kinds) - set(present)),
        {t: n for t in present if (n := int(frame[t].isna().sum()))},
        {name: n for name, n in unseen.items() if n},
        frame.assign(**{c: pd.Series(index=frame.index, dtype="str") for c in ABOUT if c not in frame})[
            ["account_id", *ABOUT, "is_customer"]
        ],
        members[["account_id", "segment"]],
        notes,
    )


def input_kinds(model: Model) -> dict[str, str]:
    """Every account column that the model or its segment assigner reads, and how."""
    items = [i for i in (*model.inputs, *model.value.inputs, *model.support) if i.table == "accounts"]
    kinds = {i.trait: i.kind for i in items if i.kind in READ_AS and i.trait not in ("motion", "segment_id")}
    recipe: Mapping = model.segments.get("recipe", {})
    if not {"kind", "ids", "recipe"} <= set(model.segments):
        message = "holds no segments, so accounts cannot be placed in them"
        raise BadInput(Problem("ICP-E100", message, "take it from its run again", "model.json"))
    kinds |= {e["trait"]: e["kind"] for part in ("numbers", "discrete") for e in recipe.get(part, [])}
    return {trait: READ_AS[kind] for trait, kind in sorted(kinds.items())}


def score_large(accounts: Path, model: Model, out: Path) -> str:
    """Score a Parquet file of a million accounts and more in the short form; what happened, in words."""
    _refuse_existing(out)
    counted = score_parquet(accounts, model, input_kinds(model), out)
    lines = [f"{sum(counted.tiers.values()):,} accounts by the model of {model.as_of} ({model.verdict})"]
    lines += [f"  {tier}: {count:,}" for tier, count in counted.tiers.items()]
    lines.append("Short form: reasons and tier confidence are left out above a million accounts")
    return "\n".join([*lines, *_unread(counted.missing, counted.unknown, counted.unseen)])


def write_scores(scored: Scored, path: Path, form: str) -> Path:
    """Write the scores as `csv` (every text quoted) or `parquet`; a file that is there is not replaced."""
    _refuse_existing(path)
    if form == "parquet":
        write_parquet(scored.scores, path)
        return path
    ids = scored.scores["account_id"]
    formulas = ids[ids.str.startswith(tuple(FORMULA_SIGNS))]
    if len(formulas):
        message = "a spreadsheet would take account ids for formulas, and changing them would break the join"
        problem = Problem(
            "ICP-E082", message, "write --format parquet", str(path), column="account_id", count=len(formulas)
        )
        raise BadInput(problem)
    scored.scores.to_csv(path, index=False, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n", encoding="utf-8")
    return path


def write_import(scored: Scored, model: Model, path: Path, form: str) -> Path:
    """Write the scores as the import file of a CRM: `salesforce` or `hubspot`, as the activate step writes it.

    Raises
    ------
    BadInput
        The file is there, the model has no tiers to import, or an id would be taken for a formula.
    """
    _refuse_existing(path)
    if not model.usable:
        message = f"holds no usable ranking ({model.verdict}), so there are no tiers to import"
        raise BadInput(Problem("ICP-E100", message, fix="write --format csv to look at the scores", file="model.json"))
    rows, _, refused = prepare_rows(
        scored.scores.assign(intent_score=float("nan")), scored.about, scored.members, model
    )
    if refused:
        message = "an import would take account ids for formulas, and changing them would break the join"
        raise BadInput(
            Problem("ICP-E082", message, "write --format parquet", str(path), column="account_id", count=refused)
        )
    table = {"salesforce": salesforce_accounts, "hubspot": hubspot_companies}[form](rows)
    table.to_csv(path, index=False, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\r\n", encoding="utf-8", na_rep="")
    return path


def describe_scores(scored: Scored, model: Model) -> str:
    """How many accounts came into which tier, and what the model did not know."""
    tiers = scored.scores["tier"].value_counts().sort_index()
    lines = [f"{len(scored.scores):,} accounts by the model of {model.as_of} ({model.verdict})"]
    lines += [f"  {tier}: {count:,}" for tier, count in tiers.items()]
    return "\n".join([*scored.notes, *lines, *_unread(scored.missing, scored.unknown, scored.unseen)])


def _unread(missing: list[str], unknown: dict[str, int], unseen: dict[str, int]) -> list[str]:
    """What the model did not know about the accounts, in words."""
    lines = [f"Not in the file, read as unknown: {', '.join(missing)}"] if missing else []
    lines += [f"Blank: {trait} in {n:,} accounts" for trait, n in unknown.items()]
    return lines + [f"Never seen by the model: {name} in {n:,} accounts" for name, n in unseen.items()]


def _refuse_existing(path: Path) -> None:
    if path.exists():
        raise BadInput(Problem("ICP-E100", "is there already", fix="name another file with --out", file=str(path)))


def _read(path: Path, settings: Settings | None) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """All columns as text, and what was noted; anything that could be read in two ways is refused."""
    if not path.is_file():
        raise BadInput(
            Problem("ICP-E001", "is not a file", fix="name a CSV or Parquet file of accounts", file=str(path))
        )
    if path.suffix == ".parquet":
        try:
            return _checked(pd.read_parquet(path).astype("str"), path), ()
        except (ValueError, OSError) as error:
            why = "is not a Parquet file, or a damaged one"
            raise BadInput(Problem("ICP-E100", why, "export it again", file=path.name)) from error
    if settings is None and path.suffix == ".csv" and (frame := _read_csv(path)) is not None:
        return _checked(frame, path), ()
    frame, problems = read_accounts(path, settings)
    return _checked(frame.astype("str"), path), tuple(str(p) for p in problems)


def _under_known_names(frame: pd.DataFrame, kinds: Mapping[str, str]) -> pd.DataFrame:
    """Columns in another spelling (Cloud_First__c, Cloud first) under the names of the model, where only one can be meant."""
    spelt: dict[str, list[str]] = {}
    for column in map(str, frame):
        spelt.setdefault(re.sub(r"__c$|[^a-z0-9]", "", column.lower()), []).append(column)
    meant = {t: spelt.get(re.sub(r"[^a-z0-9]", "", t.lower()), []) for t in kinds if t not in frame}
    return frame.rename(
        columns={found[0]: t for t, found in meant.items() if len(found) == 1 and found[0] not in kinds}
    )


def _checked(frame: pd.DataFrame, path: Path) -> pd.DataFrame:
    """The frame, every account of which has an id of its own."""
    if "account_id" not in frame:
        message = f"required column account_id is missing{nearest('account_id', frame.columns)}"
        raise BadInput(Problem("ICP-E027", message, fix="rename the column", file=path.name))
    blank, twice = frame["account_id"].isna(), frame["account_id"].duplicated()
    if blank.any() or twice.any():
        row = int((blank | twice).to_numpy().argmax())
        problem = Problem(
            "ICP-E043" if blank.iloc[row] else "ICP-E042",
            "is blank" if blank.iloc[row] else "is there twice",
            "give every account one row with an id of its own",
            path.name,
            row + 1,
            column="account_id",
            value="" if blank.iloc[row] else str(frame["account_id"].iloc[row]),
            count=int((blank | twice).sum()),
        )
        raise BadInput(problem)
    return frame


def _read_csv(path: Path) -> pd.DataFrame | None:
    """Strictly: UTF-8, as many fields as the header has, only an empty field is missing; None where it is written otherwise."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file, strict=True)
            header = next(rows, [])
            records = [row for row in rows if row]
    except (csv.Error, UnicodeError):
        return None
    if "account_id" not in header or not records or len(set(header)) < len(header):
        return None
    if any(len(row) != len(header) for row in records):
        return None
    frame = pd.DataFrame(records, columns=header, dtype="str")
    return frame.replace("", None).astype("str")
