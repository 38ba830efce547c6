"""Reads a table, makes the link below it that saves its rows and columns as CSV.

In JupyterLab the file lies inside the link. Beside a page it lies in the folder `csv`: pages stay light, and hold no address
that is not plain.
"""

from __future__ import annotations

import base64
import csv
import io
import re
from html import escape
from pathlib import Path

import pandas as pd

from icplab.core import formats as fmt

FOLDER = "csv"
MOST_BYTES = 400_000  # of CSV per table; a longer one is cut to whole rows, and the link says so
# As written below and as cleaning leaves it, which orders attributes in its own way.
_LINK = re.compile(r'download="([a-z0-9-]+\.csv)" href="data:text/csv;base64,([A-Za-z0-9+/=]*)"')


def download_html(frame: pd.DataFrame, caption: str) -> str:
    """A link that saves `frame` as CSV (UTF-8 with a mark, as spreadsheets expect); empty for a table without rows.

    Numbers keep their full precision, text that a spreadsheet could take for a formula gets a quote mark in front.
    """
    if frame.empty:
        return ""
    rows, content = _csv(frame)
    name = f"{_file_name(caption)}.csv"
    words = f"CSV, {rows:,} row{'s' if rows != 1 else ''}" + (f" of {len(frame):,}" if rows < len(frame) else "")
    address = "data:text/csv;base64," + base64.b64encode(content).decode("ascii")
    label = escape(f"Save as {words}: {fmt.plain(caption, 200)}")
    return f'<p class="icp-save"><a download="{name}" href="{address}" title="{label}">{words}</a></p>'


def place_tables(html: str, page: Path) -> str:
    """The page with its tables written to `csv/<page>-<number>-<caption>.csv` beside it, and links to them."""
    folder, written = page.parent / FOLDER, 0

    def placed(match: re.Match[str]) -> str:
        nonlocal written
        written += 1
        name = f"{page.stem}-{written:02d}-{match[1]}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(base64.b64decode(match[2]))
        return f'download="{name}" href="{FOLDER}/{name}"'

    for old in folder.glob(f"{page.stem}-[0-9][0-9]-*.csv"):
        old.unlink()
    return _LINK.sub(placed, html)


def _csv(frame: pd.DataFrame) -> tuple[int, bytes]:
    """Rows written, and the file; whole rows only, as many as there is room for."""
    lines = [_line(list(map(str, frame.columns)))]
    size = len(lines[0])
    for row in frame.itertuples(index=False, name=None):
        line = _line([_cell(value) for value in row])
        size += len(line)
        if size > MOST_BYTES:
            break
        lines.append(line)
    return len(lines) - 1, b"\xef\xbb\xbf" + b"".join(lines)


def _line(cells: list[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(cells)
    return text.getvalue().encode("utf-8", "replace")


def _cell(value: object) -> str:
    """A value as a spreadsheet reads it back: blank for missing, 12 digits of a number, ISO dates, harmless text."""
    if isinstance(value, list | tuple | set | dict):
        return _text(str(value))
    if pd.isna(value):  # type: ignore[call-overload]
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return f"{value:.12g}"
    if isinstance(value, pd.Timestamp):
        return value.strftime("%Y-%m-%d")
    return _text(str(value))


def _text(value: str) -> str:
    return fmt.harmless(value, keep=True)[0]


def _file_name(caption: str) -> str:
    """Lower-case letters, digits and hyphens of the caption."""
    words = re.sub(r"[^a-z0-9]+", "-", fmt.plain(caption, 60).lower()).strip("-")
    return words or "table"
