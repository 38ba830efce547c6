"""Reads nothing; makes the books of the intake: rows on their way in, problems with places, rejects, ledger."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from icplab.core.errors import SHOWN_ROWS, ContractBroken, Problem
from icplab.core.schema import Table
from icplab.intake.plain import PIECE

LONGEST_SHOWN = 80  # characters of a value that a message repeats
OUTCOMES = ("used", "header", "blank", "preamble", "footer", "repeated_header", "duplicate", "quarantined")
REJECTS = ("table", "file", "record", "line", "column", "code", "reason", "value")
MASKED = "(masked)"
PEOPLE = frozenset({"owner"})  # names of sellers, wherever they stand; owners.owner is declared personal
_EMAIL = re.compile(r"[^\s@;,<>\"']+@[^\s@;,<>\"']+")
# Keys and tokens by the marks their makers gave them, and passwords inside addresses; RE2 syntax.
SECRET = (
    r"AKIA[0-9A-Z]{16}|\bgh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{22,}|glpat-[A-Za-z0-9_-]{16,}"
    r"|xox[abprs]-[A-Za-z0-9-]{10,}|\b[sr]k_live_[A-Za-z0-9]{16,}|\bsk-[A-Za-z0-9_-]{20,}|AIza[0-9A-Za-z_-]{35}"
    r"|\bpat-[a-z]{2}\d-[0-9a-f-]{36}|\b00D[A-Za-z0-9]{12,15}![A-Za-z0-9._]{40,}|-----BEGIN [A-Z ]*PRIVATE KEY"
    r"|\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.|[a-z][a-z0-9+]*://[^/\s:@]+:[^/\s:@]+@"
)
# One of these stands in whatever SECRET finds: a column without them needs no closer look.
SECRET_MARKS = tuple(
    b"AKIA ghp_ gho_ ghu_ ghs_ ghr_ github_pat_ glpat- xox k_live_ sk- AIza pat- 00D PRIVATE eyJ ://".split()
)
_SECRET = re.compile(SECRET)


@dataclass
class FileBook:
    """What became of the physical records of one file for one table."""

    table: str
    file: str
    bytes: int = 0
    sha256: str = ""
    records: int = 0
    reshaped: bool = False  # a record may give several rows, or none
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(OUTCOMES, 0))
    rows: int = 0  # of the table that its used records give: as many, unless the file is reshaped

    def settle(self, used: int, duplicate: int, quarantined: int, rows: int | None = None) -> None:
        """Enter what became of the data records; the parts must add up to the physical records."""
        self.counts |= {"used": used, "duplicate": duplicate, "quarantined": quarantined}
        self.rows = used if rows is None else rows
        if sum(self.counts.values()) != self.records:
            raise ContractBroken(f"ledger of {self.file}: {self.counts} do not add up to {self.records} records")


@dataclass
class Batch:
    """The data records of one table, from all its files, with where each stood and what becomes of it."""

    table: Table
    frame: pd.DataFrame
    files: tuple[str, ...]
    file: np.ndarray
    record: np.ndarray
    line: np.ndarray
    text: dict[str, Any] = field(default_factory=dict)  # columns as exported, for messages: series or what has `iloc`
    parts: dict[str, pd.Series] = field(default_factory=dict)  # columns of native exports used on the way in
    merged: dict[str, str] = field(default_factory=dict)  # key of a record merged away → key of the one that stays
    iso_dates: bool = False  # whether dates may stand in ISO form beside the declared one, as those of a workbook do
    stopped: np.ndarray = field(init=False)
    aside: np.ndarray = field(init=False)
    duplicate: np.ndarray = field(init=False)
    problems: list[Problem] = field(default_factory=list)
    rejects: list[pd.DataFrame] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.stopped, self.aside, self.duplicate = (np.zeros(len(self.file), dtype=bool) for _ in range(3))

    @property
    def live(self) -> np.ndarray:
        """Rows that nothing has been held against so far."""
        return ~(self.stopped | self.aside | self.duplicate)

    @property
    def held(self) -> np.ndarray:
        """Rows that the export holds once: live ones, and those that stop a run and will come back mended."""
        return ~(self.aside | self.duplicate)

    def live_cells(self, column: str) -> pd.Series:
        """A column of the rows that nothing has been held against."""
        live = self.live
        return self.frame[column] if live.all() else self.frame.loc[live, column]

    def note(
        self,
        rows: object,
        code: str,
        message: str,
        *,
        fix: str = "",
        column: str = "",
        shown: object = None,
        only_live: bool = False,
    ) -> None:
        """Hold `code` against `rows` (a mask): one problem per file; E rows stop, Q rows are set aside.

        `shown` is the text to print (default: the column as exported); values of personal columns are masked. With
        `only_live`, rows that something is held against already are left out.
        """
        mask = np.asarray(rows, dtype=bool)
        if only_live and mask.any():
            mask = mask & self.live
        if not mask.any():
            return
        values = self._shown(column, shown)
        for number, name in enumerate(self.files):
            hits = np.flatnonzero(mask & (self.file == number))
            if len(hits):
                self.problems.append(self._problem(name, hits, values, code, message, fix, column))
        letter = code.split("-")[1][0]
        if letter in "EQ":
            self._reject(np.flatnonzero(mask), values, code, message, column)
            target = self.stopped if letter == "E" else self.aside
            target |= mask

    def count_values(self, name: str, rows: pd.Series) -> pd.Series:
        """Records per value of a column among `rows` (a mask)."""
        return self.frame[name][rows].value_counts()

    def say(self, code: str, message: str, *, fix: str = "", column: str = "", value: str = "", count: int = 1) -> None:
        """A problem of the table as a whole."""
        file = self.files[0] if len(self.files) == 1 else ", ".join(self.files)
        self.problems.append(Problem(code, message, fix, file, column=column, value=shown_text(value), count=count))

    def set_aside(self, rows: np.ndarray, code: str, reason: str) -> None:
        """Leave rows out that a repair accounts for (deleted in the CRM), and list them among the rejects."""
        self._reject(np.flatnonzero(rows), None, code, reason, "")
        self.aside |= rows

    def tolerate(self, share: float) -> None:
        """Set stopped rows aside instead, when they are at most `share` of all ([tolerance] quarantine)."""
        if self.stopped.any() and self.stopped.mean() <= share:
            self.problems = [replace(p, code=_as_quarantine(p)) for p in self.problems]
            self.rejects = [r.assign(code=r["code"].str.replace("ICP-E", "ICP-Q")) for r in self.rejects]
            self.aside |= self.stopped
            self.stopped[:] = False

    def _shown(self, column: str, shown: object) -> Any:
        declared = self.table.by_name.get(column)
        if column in PEOPLE or (declared is not None and declared.personal):
            return pd.Series(MASKED, index=range(len(self.file)), dtype="str")
        if shown is not None:
            return pd.Series(np.asarray(shown, dtype=object))
        return self.text.get(column)

    def _problem(
        self, file: str, hits: np.ndarray, values: Any, code: str, message: str, fix: str, column: str
    ) -> Problem:
        more = hits[1:SHOWN_ROWS]
        if len(more):
            message += f" (also record{'s' if len(more) > 1 else ''} {', '.join(str(self.record[i]) for i in more)}"
            message += ", …)" if len(hits) > SHOWN_ROWS else ")"
        first = hits[0]
        value = "" if values is None else shown_text(values.iloc[first])
        line = int(self.line[first]) or None
        return Problem(code, message, fix, file, int(self.record[first]), line, column, value, len(hits))

    def _reject(self, rows: np.ndarray, values: Any, code: str, message: str, column: str) -> None:
        names = np.asarray(self.files, dtype=object)
        self.rejects.append(
            pd.DataFrame(
                {
                    "table": self.table.name,
                    "file": names[self.file[rows]],
                    "record": self.record[rows],
                    "line": self.line[rows],
                    "column": column,
                    "code": code,
                    "reason": message,
                    "value": "" if values is None else [shown_text(v) for v in values.iloc[rows]],
                }
            )
        )


def shown_text(value: object) -> str:
    """A value as a message may print it: short, no control characters, e-mail addresses masked."""
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return ""
    text = _EMAIL.sub(MASKED, MASKED if _SECRET.search(str(value)) else str(value))
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[: LONGEST_SHOWN + 1])
    return text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 1] + "…"


def listed(names: Iterable[object], most: int = 8) -> str:
    """Names joined by commas; those beyond `most` are counted."""
    given = [shown_text(n) for n in names]
    rest = f" and {len(given) - most:,} more" if len(given) > most else ""
    return ", ".join(given[:most]) + rest


def toml_text(value: object) -> str:
    """A value as a quoted TOML string on one line, to be copied into the settings."""
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text[:LONGEST_SHOWN]) + '"'


def is_among(values: pd.Series, known: pd.Series) -> pd.Series:
    """Whether each text is one of `known`, in one hash join; null never is."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if isinstance(values.dtype, pd.CategoricalDtype):  # coded: each word is looked up once
        words = is_among(pd.Series(values.cat.categories, dtype="str"), known).to_numpy()
        return pd.Series(np.append(words, False)[values.cat.codes], index=values.index)
    text = pa.large_string()
    found = pc.is_in(
        pa.array(values, type=text), value_set=pa.array(known.dropna().astype("str"), type=text), skip_nulls=True
    )
    return pd.Series(found.to_numpy(zero_copy_only=False), index=values.index)


def contains(values: pd.Series, pattern: str) -> pd.Series:
    """Whether each text holds a match of `pattern` (RE2, linear in the text); null does not."""
    import pyarrow as pa
    import pyarrow.compute as pc

    coded = isinstance(values.dtype, pd.CategoricalDtype)
    words = pa.array(values.cat.categories if coded else values, type=pa.large_string())
    hits = pc.fill_null(pc.match_substring_regex(words, pattern), False).to_numpy(zero_copy_only=False)
    if coded:  # each word is looked at once
        hits = np.append(hits, False)[values.cat.codes]
    return pd.Series(hits, index=values.index)


def all_differ(frame: pd.DataFrame, key: list[str], rows: np.ndarray) -> bool:
    """Whether a key is known to be unique among `rows` at a glance: one column of text that rises from record to record."""
    return len(key) == 1 and frame[key[0]].dtype == "str" and rises(frame[key[0]], rows)


def rises(column: pd.Series, rows: np.ndarray) -> bool:
    """Whether every value of `rows` (a mask) is larger than the one before: in order, none twice, none missing."""
    import pyarrow as pa
    import pyarrow.compute as pc

    last = None
    for start in range(0, len(rows), PIECE):
        mask, values = rows[start : start + PIECE], pa.array(column.iloc[start : start + PIECE], from_pandas=True)
        values = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
        values = values if mask.all() else values.filter(pa.array(mask))
        if values.null_count or pc.all(pc.less(values[:-1], values[1:])).as_py() is False:
            return False
        if len(values):
            if last is not None and not pc.less(last, values[0]).as_py():
                return False
            last = values[len(values) - 1]
    return True


def rejects_table(batches: list[Batch]) -> pd.DataFrame:
    """One row per rejected record and reason: table, file, record, line, column, code, reason, value."""
    parts = [part for batch in batches for part in batch.rejects]
    if not parts:
        return pd.DataFrame({c: pd.Series(dtype="int64" if c in ("record", "line") else "str") for c in REJECTS})
    frame = pd.concat(parts, ignore_index=True)
    return frame.sort_values(["table", "file", "record", "code", "column"], kind="stable", ignore_index=True)


def _as_quarantine(problem: Problem) -> str:
    """The code of a problem that tolerance turns from stopping into setting aside."""
    return problem.code.replace("ICP-E", "ICP-Q") if problem.record is not None else problem.code
