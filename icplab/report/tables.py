"""Reads a table, makes its HTML: intervals folded into estimates, every column printed in its format, everything escaped."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

import pandas as pd

from icplab.core import formats as fmt
from icplab.core.errors import ContractBroken, nearest
from icplab.report.download import download_html

FIRST_ROWS = 12  # rows of a long table that are shown at once
LAST_ROW = 400  # rows of a table that a page holds at all
LONGEST_CELL = 600  # characters of a text cell
DAY = r"\d{4}-\d\d-\d\d"
# Columns of p-values: printed alike in every table.
P_VALUES = frozenset({"p", "q", "p_value", "q_value"})

Format = str | Sequence[str] | Callable[[Any], str]


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
    parts.append(download_html(frame, caption))
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
    if "note" in frame and "note" not in formats and len(frame) and frame["note"].fillna("").eq("").all():
        hidden |= {"note"}
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
    words = values.dropna().astype("str")
    return "date" if len(words) and bool(words.str.fullmatch(DAY).all()) else "text"


def _label(name: object, form: Format, labels: dict[str, str], has_interval: bool, currency: str) -> str:
    if name in labels:
        return _capital(fmt.plain(labels[str(name)]))
    words = fmt.name(str(name)).strip()
    words = words if name in P_VALUES else _capital(words)
    if form in ("days", "months") and str(form) not in words.lower():
        words += f" ({form})"
    if form in ("money", "money_short") and currency:
        words += f" ({fmt.plain(currency, 8)})"
    return words + (", 95 % interval" if has_interval and words in ("Value",) else "")


def _capital(words: str) -> str:
    return words if len(words) < 2 else words[0].upper() + words[1:]


def _print(value: object, kind: object) -> str:
    """One cell; `kind` is a format or the unit of an estimate."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if kind == "text":
        return fmt.text(value, LONGEST_CELL)
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
    shown = escape(fmt.beside_interval(value, low, high, kind)) or shown
    return f'{shown} <span class="icp-ci">({escape(fmt.interval(low, high, kind.removeprefix("in "), value, full=True))})</span>'


def _table(columns: list[_Column], cells: list[list[str]], start: int, stop: int, caption: str, name: str) -> str:
    heads = "".join(f'<th scope="col"{_class(c)}>{escape(c.label)}</th>' for c in columns)
    parts = [column[start:stop] for column in cells]
    headings = _headings(columns[0], parts[0]) if parts else []
    others = [[f"<td{_class(c)}>{v}</td>" for v in part] for c, part in zip(columns[1:], parts[1:], strict=True)]
    rows = "".join(f"<tr>{''.join(row)}</tr>" for row in zip(headings, *others, strict=True))
    body = rows or f'<tr><td class="t" colspan="{max(1, len(columns))}">No rows.</td></tr>'
    return (
        f'<div class="icp-scroll" role="group" aria-label="Table: {name}" tabindex="0"><table class="icp-table">'
        f"{caption}<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _headings(column: _Column, values: list[str]) -> list[str]:
    """Row headings; text that repeats itself stands once, beside all of its rows."""
    runs = [(value, len(list(same))) for value, same in itertools.groupby(values)]
    if column.numeric or len(runs) == len(values):
        return [f'<th scope="row"{_class(column)}>{value}</th>' for value in values]
    cells: list[str] = []
    for value, rows in runs:
        span = f' rowspan="{rows}"' if rows > 1 else ""
        cells += [f'<th scope="row{"group" if span else ""}"{span}{_class(column)}>{value}</th>', *[""] * (rows - 1)]
    return cells


def _class(column: _Column) -> str:
    return "" if column.numeric else ' class="d"' if column.format in ("date", "name") else ' class="t"'


def _rest(shown: int, kept: int, rows: int) -> str:
    words = f"{kept - shown:,} more rows"
    return words if kept == rows else f"{words} (of {rows:,} in all; the artefact holds every one)"
