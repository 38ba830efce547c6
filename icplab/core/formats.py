"""Reads numbers, dates and untrusted text, makes what a reader sees: one way to print each kind, everywhere.

A rate is a fraction in every table and becomes per cent only here. Signs, spaces and dashes are typographic
(a true minus, a narrow no-break space before %), and a missing value is an en dash.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable
from typing import Any

import pandas as pd

MISSING = "–"
MINUS = "−"
THIN = "\u202f"  # narrow no-break space: between number and unit
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

# Units of estimate tables (core/schema.py, kpis.unit) and the format each is printed in.
UNIT_FORMATS = {
    "fraction": "percent",
    "rate": "percent",
    "percent": "percent",
    "money": "money",
    "days": "days",
    "months": "months",
    "ratio": "ratio",
    "count": "integer",
    "integer": "integer",
    "number": "number",
    "points": "points",
    "": "number",
}
# A terminal's escape sequence: colours, cursor, titles, links.
ANSI = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|[@-Z\\-_])")
SPACES = re.compile(r"[^\S\u00a0\u202f]+")  # no-break spaces stay
ACRONYMS = frozenset(
    {
        "acv",
        "arr",
        "mrr",
        "tcv",
        "cac",
        "ltv",
        "grr",
        "nrr",
        "icp",
        "crm",
        "kpi",
        "auc",
        "sla",
        "bic",
        "icl",
        "aic",
        "roi",
        "fdr",
    }
)
# Beginnings that spreadsheets and imports read as the start of a formula (OWASP, CSV injection), full-width ones too.
FORMULA_SIGNS = "=+-@\t\r\n＝＋－＠"
FORMULA = re.compile(rf"^\s*[{re.escape(FORMULA_SIGNS)}]")
CONTROLS = re.compile(r"[\x00-\x1f\x7f]+")
# Columns that hold words of the tool rather than of the data.
OWN_WORDS = frozenset(
    {
        "kpi",
        "metric",
        "basis",
        "tier",
        "would_be",
        "from",
        "to",
        "status",
        "verdict",
        "outcome",
        "dimension",
        "motion",
        "area",
        "family",
    }
)
LONGEST = 200  # characters of a single value from the data that a page shows


def plain(text: object, longest: int = LONGEST) -> str:
    """Untrusted text as one harmless line: no control, escape, bidirectional-override or unassigned characters.

    Markup is left as it is (it is the page's business to escape it); a terminal escape, a right-to-left
    override or a character that XML forbids would survive escaping and is dropped here.
    """
    spaced = SPACES.sub(" ", ANSI.sub("", str(text)))
    line = "".join(c for c in spaced if not _is_hidden(c)).strip()
    return line if len(line) <= longest else line[: longest - 1].rstrip() + "…"


def harmless(value: str, *, keep: bool) -> tuple[str, bool]:
    """Text that no spreadsheet and no import takes for a formula, on one line; and whether it began like one.

    `keep` puts a quote mark in front, as spreadsheets want it, so that nothing is lost. Without it the characters are taken
    away: in a CRM the mark would become part of the name.
    """
    dangerous = FORMULA.match(value) is not None
    line = CONTROLS.sub(" ", value)
    if keep:
        return (f"'{line}" if dangerous else line), dangerous
    return line.lstrip(FORMULA_SIGNS + " ").rstrip(), dangerous


def percent(value: float, digits: int | None = None) -> str:
    """A fraction as per cent: one decimal below 10 %, none above, unless `digits` says otherwise."""
    if _missing(value):
        return MISSING
    digits = percent_digits(value) if digits is None else digits
    return f"{_fixed(100 * value, digits)}{THIN}%"


def percent_digits(value: float, *bounds: float) -> int:
    """Decimals a rate is printed with; an interval wider than a tenth of a per cent needs one at most, and one of some
    width is never printed as if it had none (nothing won of a thousand is not certainly nothing)."""
    size = abs(value)
    digits = 0 if size == 0 or size >= 0.0995 else 1 if size >= 0.00095 else 2
    digits = min(digits, 1) if any(abs(b) >= 0.001 for b in bounds) else digits
    while digits < 2 and bounds and _alike(bounds, digits):
        digits += 1
    return digits


def _alike(bounds: tuple[float, ...], digits: int) -> bool:
    """Whether different bounds would be printed as the same per cent."""
    return min(bounds) < max(bounds) and _fixed(100 * min(bounds), digits) == _fixed(100 * max(bounds), digits)


def points(value: float) -> str:
    """A difference of two rates in percentage points."""
    return MISSING if _missing(value) else f"{_fixed(100 * value, 1)}{THIN}pp"


def p_value(value: float) -> str:
    """A p-value or false-discovery rate; below a thousandth only that it is."""
    if _missing(value):
        return MISSING
    return "<0.001" if value < 0.001 else _fixed(value, 3 if value < 0.1 else 2)


def integer(value: float) -> str:
    """A count with thousands separated by commas."""
    return MISSING if _missing(value) else _fixed(value, 0)


def number(value: float) -> str:
    """A number with about three significant digits, never in scientific notation."""
    if _missing(value):
        return MISSING
    return _fixed(value, 0 if float(value).is_integer() else _number_digits(value))


def ratio(value: float) -> str:
    """A ratio (odds ratio, LTV to CAC) with two decimals below ten."""
    if _missing(value):
        return MISSING
    return _fixed(value, 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0)


def money(value: float, currency: str = "") -> str:
    """An amount in full, thousands separated; the currency code leads when given."""
    if _missing(value):
        return MISSING
    return _with_currency(_fixed(value, 0 if abs(value) >= 100 or float(value).is_integer() else 2), currency)


def money_short(value: float, currency: str = "") -> str:
    """An amount in thousands (k), millions (M) or billions (bn), three significant digits."""
    if _missing(value):
        return MISSING
    for size, word in ((1e9, "bn"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size * 0.9995:
            return _with_currency(f"{_fixed(value / size, _number_digits(value / size))}{THIN}{word}", currency)
    return _with_currency(_fixed(value, 0), currency)


def days(value: float) -> str:
    """Whole days; one decimal below ten."""
    if _missing(value):
        return MISSING
    return _fixed(value, 0 if abs(value) >= 10 or float(value).is_integer() else 1)


def months(value: float) -> str:
    """Months with one decimal."""
    return MISSING if _missing(value) else _fixed(value, 1)


def date(value: object) -> str:
    """A day as `30 Jun 2026`, the same in every locale."""
    stamp = pd.to_datetime(value, errors="coerce")  # type: ignore[call-overload]
    return MISSING if pd.isna(stamp) else f"{stamp.day} {MONTHS[stamp.month - 1]} {stamp.year}"


def text(value: object, longest: int = LONGEST) -> str:
    """Text from the data, made harmless; missing is a dash."""
    single: Any = None if isinstance(value, list | dict | tuple) else value
    missing = value is None or (single is not None and bool(pd.isna(single)))
    return MISSING if missing else plain(value, longest)


def name(value: object) -> str:
    """A word of the tool's own vocabulary as people write it: `win_rate` as win rate, `acv` as ACV, `tier_1` as tier 1.

    Not for what comes from the data: there `tech_stack` is the name of a column and stays it.
    """
    if value == "ltv_cac":
        return "LTV:CAC"
    words = text(value).replace("_", " ").split(" ")
    return " ".join(word.upper() if word in ACRONYMS else word for word in words)


FORMATS: dict[str, Callable[..., str]] = {
    "points": points,
    "p": p_value,
    "name": name,
    "percent": percent,
    "integer": integer,
    "number": number,
    "ratio": ratio,
    "money": money,
    "money_short": money_short,
    "days": days,
    "months": months,
    "date": date,
    "text": text,
}
_WORDS = {"days": "days", "months": "months"}


def quantity(value: float, unit: str = "", currency: str = "") -> str:
    """One number with its unit, as charts and sentences print it: `31 %`, `57 days`, `EUR 1.24 M`."""
    kind = UNIT_FORMATS.get(unit, "number")
    if kind == "money":
        return money_short(value, currency)
    printed = FORMATS[kind](value)
    return printed if printed == MISSING or kind not in _WORDS else f"{printed}{THIN}{_WORDS[kind]}"


def estimate(value: float, low: float, high: float, unit: str = "", currency: str = "") -> str:
    """An estimate with its interval: `31 % (27–35)`; bounds share the digits of the value.

    Without bounds only the value is printed. Bounds below zero are joined by "to", so that no dash meets a minus.
    """
    if _missing(value) or _missing(low) or _missing(high):
        return quantity(value, unit, currency)
    shown = beside_interval(value, low, high, unit) or quantity(value, unit, currency)
    return f"{shown} ({interval(low, high, unit, value)})"


def beside_interval(value: float, low: float, high: float, unit: str) -> str:
    """An estimate with the digits of its interval, where they can differ from those it has alone; else nothing."""
    kind = UNIT_FORMATS.get(unit, unit)
    if kind == "percent":
        return percent(value, percent_digits(value, low, high))
    return _fixed(value, _number_digits(value or high)) if kind == "number" else ""


def interval(low: float, high: float, unit: str = "", value: float | None = None, *, full: bool = False) -> str:
    """Bounds without their unit, as they stand in brackets behind an estimate; `full` prints amounts in full."""
    kind = UNIT_FORMATS.get(unit, unit if unit in FORMATS else "number")
    if kind in ("percent", "points"):
        digits = 1 if kind == "points" else percent_digits(high if value is None else value, low, high)
        ends = [_fixed(100 * end, digits) for end in (low, high)]
    elif kind == "number" and value is not None:
        ends = [_fixed(end, _number_digits(value or high)) for end in (low, high)]
    else:
        printer = money_short if kind == "money" and not full else FORMATS[kind]
        ends = [printer(end) for end in (low, high)]
    return (" to " if low < 0 else "–").join(ends)


def _fixed(value: float, digits: int) -> str:
    printed = f"{abs(value):,.{digits}f}"
    negative = value < 0 and any(c not in "0.," for c in printed)
    return (MINUS if negative else "") + printed


def _number_digits(value: float) -> int:
    size = abs(value)
    if size == 0 or size >= 99.95:
        return 0
    return 1 if size >= 9.995 else 2 if size >= 0.0995 else min(6, 1 - math.floor(math.log10(size)))


def _with_currency(printed: str, currency: str) -> str:
    return f"{plain(currency, 8)}{THIN}{printed}" if currency else printed


def _missing(value: object) -> bool:
    return value is None or bool(pd.isna(value)) or math.isinf(float(value))  # type: ignore[call-overload, arg-type]


def _is_hidden(character: str) -> bool:
    """Control, format (bidirectional marks, zero-width), surrogate and unassigned characters."""
    if character in "\u200c\u200d":  # joiners that scripts and emoji need
        return False
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Cn", "Co")
