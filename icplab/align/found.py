"""Reads notes of the intake, coverage and reach, makes the findings of the align step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pandas as pd

from icplab.core import formats
from icplab.core.config import Settings
from icplab.core.findings import CODES, Finding
from icplab.core.stats.intervals import LEVEL

STEP = "10_align"
LOW_FILL = 0.60  # below it a field says more about who filled it than about the market
UNEVEN_FILL = 0.15  # difference of fill between won and lost worth a look; the trait step tests it
# Finding that a note of the intake becomes when the intake does not say so itself, by its catalogue number.
NOTE_CODES = {
    "042": "duplicate-accounts",
    "043": "orphan-records",
    "044": "orphan-records",
    "047": "orphan-records",
    "058": "cut-export",
    "059": "stale-pipeline",
    "062": "bulk-close",
    "070": "low-coverage",
    "074": "cut-export",
    "080": "label-variants",
    "091": "low-coverage",
}


def findings(
    settings: Settings,
    inputs: Mapping[str, Any],
    coverage: pd.DataFrame,
    reach: pd.DataFrame,
    changed: pd.DataFrame | None = None,
) -> list[Finding]:
    """Sentences of the align step: notes of the intake, thin data, and questions these data cannot answer.

    Parameters
    ----------
    settings : Settings
        The plan, and which defaults were taken.
    inputs : mapping
        What the intake found: `notes` (code, message, fix, file, column, value, count, finding).
    coverage, reach : DataFrame
        From `measure_coverage` and `measure_reach`.
    changed : DataFrame, optional
        From `compare_plans`: lines of the plan that differ from the run before.

    Returns
    -------
    list of Finding
        One per kind of note and place, with its count; `low-coverage`, `insufficient-evidence`, `defaults-taken`.
    """
    return [
        *_plan_changed(changed),
        *_notes(inputs.get("notes", [])),
        *_thin(coverage),
        *_cannot_tell(reach),
        *_defaults(settings),
    ]


def _plan_changed(changed: pd.DataFrame | None) -> Iterator[Finding]:
    """Lines of the plan that were changed after an earlier run had shown results."""
    if changed is None or not len(changed):
        return
    named = "; ".join(f"{row['line']} was {row['before']}, is {row['now']}" for row in changed[:5].to_dict("records"))
    yield Finding(
        "plan-changed",
        STEP,
        "watch",
        "analysis plan",
        f"The plan changed after results had been seen: {named}{' and more' if len(changed) > 5 else ''}. What rests on it is "
        "exploratory for data up to the run before, and confirmed only by what comes after.",
        {"lines": len(changed)},
        action="Record in the council's register why the plan was changed.",
    )


def _notes(notes: Iterable[Mapping[str, Any]]) -> Iterator[Finding]:
    """Notes of the intake that bear on figures, one finding per kind and place."""
    for note in notes:
        code = str(note.get("finding") or "") or _code_of(str(note.get("code", "")))
        if code not in CODES or str(note.get("code", "")).split("-")[-1][:1] == "R":
            continue
        place = ", ".join(formats.plain(part) for part in (note.get("file"), note.get("column")) if part)
        value = f"“{formats.plain(note['value'])}” " if note.get("value") else ""
        count = int(note.get("count") or 1)
        yield Finding(
            code,
            STEP,
            "watch" if code in _WARNING and count > 0 else "info",
            place,
            f"{place}: {value}{formats.plain(note.get('message', ''), 400)} ({count:,} record{'s' if count != 1 else ''}).",
            {"count": count, "message_code": note.get("code", "")},
            action=formats.plain(note.get("fix") or "", 300),
        )


# Notes that change what figures mean, as against notes on how cells were read.
_WARNING = frozenset(
    {"duplicate-accounts", "orphan-records", "bulk-close", "stale-pipeline", "cut-export", "definition-change"}
)


def _code_of(note: str) -> str:
    """Finding code of a catalogue number such as ICP-W080."""
    letter_and_number = note.split("-")[-1]
    return NOTE_CODES.get(letter_and_number[1:], "") if letter_and_number[:1] in "WQ" else ""


def _thin(coverage: pd.DataFrame) -> Iterator[Finding]:
    """Data classes that are missing or thin, and fields filled unevenly by outcome."""
    for data_class, group in coverage.groupby("data_class", sort=True):
        if not (group["n"] > 0).any():
            yield Finding(
                "low-coverage",
                STEP,
                "info",
                str(data_class),
                f"There is no {data_class} data at all: segments and ICPs rest on the other classes.",
                {"fields": 0},
                action=f"Export {data_class} fields where the CRM holds them.",
            )
            continue
        thin = group[group["fill_rate"] < LOW_FILL].sort_values(["fill_rate", "field"])
        if len(thin):
            named = ", ".join(
                f"{formats.plain(f, 40)} ({formats.percent(v)})"
                for f, v in zip(thin["field"][:5], thin["fill_rate"][:5], strict=True)
            )
            yield Finding(
                "low-coverage",
                STEP,
                "info",
                str(data_class),
                f"{len(thin)} of {len(group)} {data_class} fields are filled for fewer than {formats.percent(LOW_FILL)}: {named}"
                f"{' and more' if len(thin) > 5 else ''}.",
                {"fields": len(group), "thin": len(thin), "limit": LOW_FILL},
                action="Fill the fields that a segment or an ICP will rest on.",
            )
    traits = coverage[~coverage["field"].str.startswith("any ") & (coverage["data_class"] != "economic")]
    uneven = traits[(traits["won"] - traits["lost"]).abs() > UNEVEN_FILL]
    for row in uneven.to_dict("records"):
        yield Finding(
            "low-coverage",
            STEP,
            "info",
            row["field"],
            f"{formats.plain(row['field'])} is filled for {formats.percent(row['won'])} of accounts that were won and "
            f"{formats.percent(row['lost'])} of those lost: it may have been filled after the outcome.",
            {"won": row["won"], "lost": row["lost"]},
            action="Find out when it is filled; the trait step tests it.",
        )


def _cannot_tell(reach: pd.DataFrame) -> Iterator[Finding]:
    """Questions that more data would settle."""
    open_questions = reach[reach["verdict"] != "yes"]
    for row in open_questions.to_dict("records"):
        needed = "" if pd.isna(row["n_needed"]) else f"; about {row['n_needed']:,.0f} {row['counts']} would settle it"
        if row["unit"] == "ratio":
            size = "no odds ratio" if pd.isna(row["half_width"]) else f"only odds ratios above {row['half_width']:.1f}"
            said = f"{size} would be found"
        else:
            said = (
                "there is nothing to go by"
                if pd.isna(row["half_width"])
                else f"known to ±{100 * row['half_width']:.0f} {'% of it' if row['unit'] == 'relative' else 'points'}"
            )
        yield Finding(
            "insufficient-evidence",
            STEP,
            "info",
            row["question"],
            f"These data cannot tell {row['question']}: {said}{needed}.",
            {"n": row["n"], "half_width": row["half_width"], "n_needed": row["n_needed"], "level": LEVEL},
        )


def _defaults(settings: Settings) -> Iterator[Finding]:
    if settings.defaults_taken:
        named = ", ".join(settings.defaults_taken)
        yield Finding(
            "defaults-taken",
            STEP,
            "info",
            "icplab.toml",
            f"Defaults were taken for what icplab.toml leaves out: {named}.",
            {"sections": len(settings.defaults_taken)},
            action="Write down what the business has decided, before the next run.",
        )
