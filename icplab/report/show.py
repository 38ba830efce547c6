"""Reads a step, findings or a table, makes the HTML that notebooks show: escaped, captioned, the same on every page."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Any

import pandas as pd

from icplab.core import formats as fmt
from icplab.core.errors import ContractBroken, nearest
from icplab.core.findings import SEVERITIES, Finding, findings_table

FIRST_ROWS = 12  # rows of a long table that are shown at once
LAST_ROW = 400  # rows of a table that a page holds at all
# Word and shape of each severity: told apart without colour.
SEVERITY_MARKS = {"act": ("▲", "Act"), "watch": ("◆", "Watch"), "info": ("○", "Note")}
# Kept readable in JupyterLab, which has none of the page's style sheet (pages drop <style> and bring their own).
LAB_STYLE = (
    "<style>.icp-facts{display:flex;flex-wrap:wrap;gap:.2em 2em}.icp-facts dt{opacity:.7;font-weight:400}"
    ".icp-facts dd{margin:0}.icp-findings{padding-left:0;list-style:none}.icp-findings li{margin:.6em 0;"
    "padding-left:.8em;border-left:3px solid}.icp-findings p{margin:.1em 0}.icp-meta{opacity:.75;font-size:.92em}"
    ".icp-table caption{text-align:left;font-weight:600;padding:.3em 0}.icp-table .t{text-align:left}</style>"
)

# Columns of p-values: printed alike in every table.
P_VALUES = frozenset({"p", "q", "p_value", "q_value"})
SHOWN_NOTES = 5  # findings of severity info that stand open; the others open on demand

Format = str | Sequence[str] | Callable[[Any], str]


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
        ("icplab", _version()),
    ]
    return [(label, value) for label, value in facts if value]


def header_html(step: Any) -> str:
    """The header of a page as a compact definition list."""
    pairs = header_facts(step)
    rows = "".join(f"<div><dt>{escape(label)}</dt><dd>{escape(value)}</dd></div>" for label, value in pairs)
    return f'<dl class="icp-facts icp-line">{rows}</dl>'


def findings_html(table: pd.DataFrame, *, steps: Mapping[str, tuple[str, str]] | None = None) -> str:
    """The artefact `findings` as a list; `steps` maps a step to address and name of its page."""
    if table.empty:
        return '<p class="icp-none">No findings.</p>'
    order = table["severity"].map(lambda s: -SEVERITIES.index(s))
    ordered = table.assign(_order=order).sort_values(["_order", "code", "subject", "sentence"], kind="stable")
    items = [(row["severity"], _finding_item(row, steps or {})) for row in ordered.to_dict("records")]
    notes = [i for i, (severity, _) in enumerate(items) if severity == "info"]
    cut = notes[SHOWN_NOTES] if len(notes) > SHOWN_NOTES + 1 else len(items)
    first, rest = ("".join(item for _, item in part) for part in (items[:cut], items[cut:]))
    more = f"<details><summary>{len(items) - cut} more notes</summary>{_listed(rest)}</details>" if rest else ""
    return _listed(first) + more


def table_html(
    frame: pd.DataFrame,
    caption: str,
    formats: Mapping[str, Format] | None = None,
    note: str = "",
    index: bool = False,
    *,
    labels: Mapping[str, str] | None = None,
    first_rows: int = FIRST_ROWS,
    currency: str = "",
) -> str:
    """What `show_table` shows, as a string."""
    frame = frame.reset_index() if index else frame
    columns = _plan(frame, dict(formats or {}), dict(labels or {}), currency)
    held = frame.head(LAST_ROW)
    cells = [column.cells(held) for column in columns]
    shown = first_rows if len(frame) > first_rows + 3 else len(frame)
    heading, kept = escape(fmt.plain(caption, 400)), min(len(frame), LAST_ROW)
    parts = [_table(columns, cells, 0, shown, f"<caption>{heading}</caption>", heading)]
    if kept > shown:
        rest = _table(columns, cells, shown, kept, f'<caption class="icp-sr">{heading}, continued</caption>', heading)
        parts.append(f"<details><summary>{_rest(shown, kept, len(frame))}</summary>{rest}</details>")
    if note:
        parts.append(f'<p class="icp-note">{escape(fmt.plain(note, 2000))}</p>')
    return f'<div class="icp-block">{"".join(parts)}</div>'


@dataclasses.dataclass(frozen=True)
class _Column:
    """One printed column: where it comes from, how it is printed, whether it is aligned as a number."""

    name: str
    label: str
    format: Format
    low: str = ""
    high: str = ""

    @property
    def numeric(self) -> bool:
        """Whether its cells line up at the right."""
        return self.format not in ("text", "name", "date") and not callable(self.format)

    def cells(self, frame: pd.DataFrame) -> list[str]:
        values = frame[self.name]
        if callable(self.format):
            return [escape(fmt.plain(self.format(v))) for v in values]
        units = _units(frame["unit"]) if self.format == "unit" else [str(self.format)] * len(frame)
        if not self.low:
            return [escape(_print(v, u)) for v, u in zip(values, units, strict=True)]
        bounds = zip(values, frame[self.low], frame[self.high], units, strict=True)
        return [_estimate_cell(*each) for each in bounds]


def _plan(frame: pd.DataFrame, formats: dict[str, Format], labels: dict[str, str], currency: str) -> list[_Column]:
    """Columns in order: intervals folded into the estimate they belong to, each with a label and a format."""
    for name in [*formats, *labels]:
        if name not in frame:
            raise ContractBroken(f'table has no column "{name}"{nearest(name, map(str, frame.columns))}')
    folds = _folds(frame, formats)
    hidden = {bound for pair in folds.values() for bound in pair}
    hidden |= {"unit"} if "unit" in formats.values() else set()
    if "status" in frame and "status" not in formats and len(frame) and frame["status"].eq("ok").all():
        hidden |= {"status"}  # says nothing
    plan = []
    for name in frame.columns:
        if name in hidden:
            continue
        given = formats.get(name, "")
        form: Format = given if isinstance(given, str) or callable(given) else given[0]
        form = _check(_named(name, form) or form or _guess(frame[name]))
        plan.append(
            _Column(name, _label(name, form, labels, name in folds, currency), form, *folds.get(name, ("", "")))
        )
    return plan


def _folds(frame: pd.DataFrame, formats: dict[str, Format]) -> dict[str, tuple[str, str]]:
    """Estimate column -> its bounds: those named in `formats`, and those that names or places give away.

    `x_low, x_high` belong to `x`; `low, high` to `value`, else to the column they stand behind. Bounds with a format
    of their own that differs from the estimate's stay columns.
    """
    folds = {n: (f[1], f[2]) for n, f in formats.items() if not isinstance(f, str) and not callable(f)}
    names = [str(name) for name in frame.columns]
    for name in names:
        for bounds in ((f"{name}_low", f"{name}_high"), ("low", "high")):
            taken = {bound for pair in folds.values() for bound in pair}
            fits = set(bounds) <= set(names) and not taken & set(bounds) and name not in folds
            if fits and _belong(names, name, bounds) and _same_format(formats, name, bounds):
                folds[name] = bounds
    missing = [b for pair in folds.values() for b in pair if b not in frame]
    if missing:
        raise ContractBroken(f"table has no interval column {missing}")
    return folds


def _belong(names: list[str], name: str, bounds: tuple[str, str]) -> bool:
    if bounds[0] != "low" or name == "value":
        return True
    at = names.index(name)
    return "value" not in names and tuple(names[at + 1 : at + 3]) == bounds


def _same_format(formats: dict[str, Format], name: str, bounds: tuple[str, str]) -> bool:
    return all(formats.get(bound, formats.get(name)) == formats.get(name) for bound in bounds)


def _check(form: Format) -> Format:
    if isinstance(form, str) and form not in fmt.FORMATS and form != "unit":
        raise ContractBroken(f'format "{form}" is not known{nearest(form, [*fmt.FORMATS, "unit"])}')
    return form


def _named(name: object, form: Format) -> str:
    """The format of columns that mean the same in every table, unless another was asked for."""
    if name in P_VALUES and form in ("", "number", "ratio"):
        return "p"
    return "name" if name in fmt.OWN_WORDS and form in ("", "text") else ""


def _guess(values: pd.Series) -> str:
    if pd.api.types.is_bool_dtype(values):
        return "text"
    if pd.api.types.is_datetime64_any_dtype(values):
        return "date"
    if pd.api.types.is_integer_dtype(values):
        return "integer"
    if pd.api.types.is_float_dtype(values):
        whole = values.dropna()
        return "integer" if len(whole) and bool((whole % 1 == 0).all()) else "number"
    return "text"


def _label(name: object, form: Format, labels: dict[str, str], has_interval: bool, currency: str) -> str:
    if name in labels:
        return fmt.plain(labels[str(name)])
    words = fmt.name(str(name)).strip()
    words = words if len(words) < 2 else words[0].upper() + words[1:]
    if form in ("days", "months") and str(form) not in words.lower():
        words += f" ({form})"
    if form in ("money", "money_short") and currency:
        words += f" ({fmt.plain(currency, 8)})"
    return words + (", 95 % interval" if has_interval and words in ("Value",) else "")


def _print(value: object, kind: object) -> str:
    """One cell; `kind` is a format or the unit of an estimate."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if kind in fmt.FORMATS:
        return fmt.FORMATS[str(kind)](value)
    return fmt.quantity(value, str(kind).removeprefix("in "))  # type: ignore[arg-type]


def _units(units: pd.Series) -> list[str]:
    """Unit of each row; a duration says its unit, because the rows of the column differ."""
    return [
        {"days": "in days", "months": "in months"}.get(u, fmt.UNIT_FORMATS.get(u, "number")) for u in units.fillna("")
    ]


def _estimate_cell(value: float, low: float, high: float, kind: str) -> str:
    shown = escape(_print(value, kind))
    if pd.isna(value) or pd.isna(low) or pd.isna(high):
        return shown
    if kind == "percent":
        shown = escape(fmt.percent(value, fmt.percent_digits(value, low, high)))
    return f'{shown} <span class="icp-ci">({escape(fmt.interval(low, high, kind.removeprefix("in "), value, full=True))})</span>'


def _table(columns: list[_Column], cells: list[list[str]], start: int, stop: int, caption: str, name: str) -> str:
    heads = "".join(f'<th scope="col"{_class(c)}>{escape(c.label)}</th>' for c in columns)
    rows = "".join(
        f"<tr>{''.join(_cell(c, value, i == 0) for i, (c, value) in enumerate(zip(columns, row, strict=True)))}</tr>"
        for row in zip(*(column[start:stop] for column in cells), strict=True)
    )
    body = rows or f'<tr><td class="t" colspan="{max(1, len(columns))}">No rows.</td></tr>'
    return (
        f'<div class="icp-scroll" role="group" aria-label="Table: {name}" tabindex="0"><table class="icp-table">'
        f"{caption}<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _cell(column: _Column, value: str, first: bool) -> str:
    return f'<th scope="row"{_class(column)}>{value}</th>' if first else f"<td{_class(column)}>{value}</td>"


def _class(column: _Column) -> str:
    return "" if column.numeric else ' class="d"' if column.format == "date" else ' class="t"'


def _rest(shown: int, kept: int, rows: int) -> str:
    words = f"{kept - shown:,} more rows"
    return words if kept == rows else f"{words} (of {rows:,} in all; the artefact holds every one)"


def _listed(items: str) -> str:
    return f'<ul class="icp-findings">{items}</ul>'


def _finding_item(row: Mapping[Any, Any], steps: Mapping[str, tuple[str, str]]) -> str:
    severity = str(row["severity"])
    shape, word = SEVERITY_MARKS[severity]
    owner, action = (fmt.text(row.get(c)) for c in ("owner", "action"))
    meta = [f"<b>Owner</b> {escape(owner)}"] if owner not in ("", fmt.MISSING) else []
    if row.get("step") in steps:
        href, label = steps[row["step"]]
        meta.append(f'<a href="{escape(href)}">evidence in {escape(label)}</a>')
    do = f'<p class="icp-do"><b>Do</b> {escape(fmt.plain(action, 600))}</p>' if action not in ("", fmt.MISSING) else ""
    return (
        f'<li class="icp-{severity}"><p class="icp-say"><span class="icp-mark"><span aria-hidden="true">{shape}</span> '
        f"{word}</span> {escape(fmt.plain(row['sentence'], 1000))}</p>{do}"
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
