"""Reads a step, findings or a table, makes the HTML that notebooks show: escaped, captioned, the same on every page."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

import pandas as pd

from icplab.core import formats as fmt
from icplab.core.findings import CODE_ORDER, SEVERITIES, Finding, findings_table
from icplab.report.tables import FIRST_ROWS, Format, table_html

# Word and shape of each severity: told apart without colour.
SEVERITY_MARKS = {"act": ("▲", "Act"), "watch": ("◆", "Watch"), "info": ("○", "Note")}
# Kept readable in JupyterLab, which has none of the page's style sheet (pages drop <style> and bring their own).
LAB_STYLE = (
    "<style>.icp-facts{display:flex;flex-wrap:wrap;gap:.2em 2em}.icp-facts dt{opacity:.7;font-weight:400}"
    ".icp-facts dd{margin:0}.icp-findings{padding-left:0;list-style:none}.icp-findings li{margin:.6em 0;"
    "padding-left:.8em;border-left:3px solid}.icp-findings p{margin:.1em 0}.icp-meta{opacity:.75;font-size:.92em}"
    ".icp-table caption{text-align:left;font-weight:600;padding:.3em 0}.icp-table .t{text-align:left}</style>"
)

SHOWN_NOTES = 5  # findings of severity info that stand open; the others open on demand


@dataclasses.dataclass(frozen=True)
class Shown:
    """A piece of HTML that a notebook displays, with the plain words a terminal gets."""

    html: str
    words: str

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.words


def show_header(step: Any) -> None:
    """Show what a page rests on: workspace, as-of date, inputs with records, data vintage, version.

    Parameters
    ----------
    step
        An open step: `name`, `as_of`, `settings.workspace`, `seed` and `inputs` are read.
    """
    _display(Shown(LAB_STYLE + header_html(step), "; ".join(f"{k}: {v}" for k, v in header_facts(step))))


def show_findings(findings: Iterable[Finding] | pd.DataFrame) -> None:
    """Show findings as a list, most urgent first: severity in a word and a shape, sentence, owner, action.

    Parameters
    ----------
    findings
        `Finding` objects, or the artefact `findings`.
    """
    table = findings if isinstance(findings, pd.DataFrame) else findings_table(findings)
    _display(Shown(findings_html(table), "\n".join(f"{r.severity}: {r.sentence}" for r in table.itertuples())))


def show_table(
    frame: pd.DataFrame,
    caption: str,
    formats: Mapping[str, Format] | None = None,
    note: str = "",
    index: bool = False,
    *,
    labels: Mapping[str, str] | None = None,
    first_rows: int = FIRST_ROWS,
    currency: str = "",
) -> None:
    """Show a table: caption, scoped headings, numbers aligned and formatted, everything from the data escaped.

    Parameters
    ----------
    frame
        One row per line. The first column (or the index) is the row heading.
    caption
        What the table says; stands above it.
    formats
        Per column: `percent` (of a fraction), `points` (a difference of rates), `money`, `money_short`, `integer`,
        `number`, `days`, `months`, `ratio`, `p` (a p-value), `text`, `name` (a word of the tool), `date`; `unit` prints each row in the unit of the frame's column `unit` (a KPI table);
        `(format, low, high)` folds two columns in as the interval, `31 % (27–35)`; or a function of one value.
        Columns not named are formatted by their type; a `status` that is ok everywhere is left out. `x_low` and `x_high` beside `x`, and `low` and `high`
        beside `value`, are folded in unasked.
    note
        A sentence under the table: basis, denominator, what it does not show.
    index
        Whether the index is shown as row headings.
    labels
        Heading per column; default: the name with spaces.
    first_rows
        Rows shown at once; the others open on demand. At most `LAST_ROW` rows are held by a page.
    currency
        Currency code printed with `money` columns' headings.

    Raises
    ------
    ContractBroken
        A format or a column named in `formats` does not exist.
    """
    html = table_html(frame, caption, formats, note, index, labels=labels, first_rows=first_rows, currency=currency)
    _display(Shown(html, f"{fmt.plain(caption)} ({len(frame):,} rows)"))


def header_facts(step: Any) -> list[tuple[str, str]]:
    """Label and value of every fact in a page's header; facts that are not known are left out."""
    workspace = step.settings.workspace
    inputs = step.inputs or {}
    facts = [
        ("Workspace", fmt.plain(workspace.name or "unnamed workspace")),
        ("As known on", fmt.date(step.as_of)),
        ("Data", _data_fact(inputs)),
        ("Vintage", _vintage(getattr(step, "tables", None) or {}, step.as_of)),
        ("Currency", fmt.plain(workspace.currency)),
        ("Exploratory, as the plan was changed", fmt.plain("; ".join(getattr(step, "exploratory", ())), 600)),
        ("icplab", _version()),
    ]
    return [(label, value) for label, value in facts if value]


def header_html(step: Any) -> str:
    """The header of a page as a compact definition list."""
    pairs = header_facts(step)
    rows = "".join(f"<div><dt>{escape(label)}</dt><dd>{escape(value)}</dd></div>" for label, value in pairs)
    return f'<dl class="icp-facts icp-line">{rows}</dl>'


def findings_html(table: pd.DataFrame, *, steps: Mapping[str, tuple[str, str]] | None = None) -> str:
    """The artefact `findings` as a list; `steps` maps a step to address and name of its page.

    A column `question` puts what is to be decided in front of the sentence, a column `by` adds the date to do it by.
    """
    if table.empty:
        return '<p class="icp-none">No findings.</p>'
    order = table["severity"].map(lambda s: -SEVERITIES.index(s))
    keys = ["_order"] if "question" in table else ["_order", "_code", "subject", "sentence"]  # decisions come in order
    ordered = table.assign(_order=order, _code=table["code"].map(CODE_ORDER)).sort_values(keys, kind="stable")
    items = [(row["severity"], _finding_item(row, steps or {})) for row in ordered.to_dict("records")]
    notes = [i for i, (severity, _) in enumerate(items) if severity == "info"]
    cut = notes[SHOWN_NOTES] if len(notes) > SHOWN_NOTES + 1 else len(items)
    first, rest = ("".join(item for _, item in part) for part in (items[:cut], items[cut:]))
    more = f"<details><summary>{len(items) - cut} more notes</summary>{_listed(rest)}</details>" if rest else ""
    return _listed(first) + more


def _listed(items: str) -> str:
    return f'<ul class="icp-findings">{items}</ul>'


def _finding_item(row: Mapping[Any, Any], steps: Mapping[str, tuple[str, str]]) -> str:
    severity = str(row["severity"])
    shape, word = SEVERITY_MARKS[severity]
    owner, action = (fmt.text(row.get(c)) for c in ("owner", "action"))
    meta = [f"<b>Owner</b> {escape(owner)}"] if owner not in ("", fmt.MISSING) else []
    meta += [f"<b>By</b> {fmt.date(row['by'])}"] if not pd.isna(row.get("by")) else []
    says, rest = escape(fmt.plain(row["sentence"], 1000)), ""
    if row.get("question"):  # the evidence is not what shouts
        word, says, rest = "Decide", escape(fmt.plain(row["question"], 200)), f"<p>{says}</p>"
    if row.get("step") in steps:
        href, label = steps[row["step"]]
        meta.append(f'<a href="{escape(href)}">evidence in {escape(label)}</a>')
    do = f'<p class="icp-do"><b>Do</b> {escape(fmt.plain(action, 600))}</p>' if action not in ("", fmt.MISSING) else ""
    return (
        f'<li class="icp-{severity}"><p class="icp-say"><span class="icp-mark"><span aria-hidden="true">{shape}</span> '
        f"{word}</span> {says}</p>{rest}{do}"
        f'<p class="icp-meta">{" · ".join(meta)}</p></li>'
    )


def _data_fact(inputs: Mapping[str, Any]) -> str:
    """Files and used records, from what the intake wrote down."""
    files = inputs.get("files") or []
    names = files if isinstance(files, Mapping) else list(files)
    ledger = inputs.get("ledger") or []
    rows = ledger.to_dict("records") if isinstance(ledger, pd.DataFrame) else list(ledger)
    used = sum(int(r.get("records") or 0) for r in rows if isinstance(r, Mapping) and r.get("outcome") == "used")
    words = f"{len(names)} file{'s' if len(names) != 1 else ''}" if names else ""
    return f"{words}, {used:,} records used" if words and used else words


def _vintage(tables: Mapping[str, pd.DataFrame], as_of: Any) -> str:
    """First and last day on which anything is dated in the opportunities."""
    table = tables.get("opportunities")
    if table is None or "created_at" not in table:
        return ""
    stamps = pd.concat([table[c] for c in ("created_at", "closed_at") if c in table]).dropna()
    if stamps.empty:
        return "no dates in the opportunities"
    return f"opportunities from {fmt.date(stamps.min())} to {fmt.date(stamps.max())}"


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("icplab")
    except PackageNotFoundError:
        return ""


def _display(shown: Shown) -> None:
    from IPython.display import display

    display(shown)
