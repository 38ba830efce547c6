"""Reads a seed, makes broken workspaces by the thousand, and holds that the intake never drops or changes anything silently.

For every mutated workspace: no exception but `BadInput`; the ledger of every file adds up to its physical records; and the
outcome is an error, or a note on the file, or the tables of the clean twin. Run by `make fuzz`, and a slice by the tests.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from benchmarks.fuzz_forms import FORMS, SHARES, Form, expected_status, workbook
from icplab.intake import large, take
from icplab.intake.written import used_rows

ODD = (
    *("", " ", "NULL", "N/A", "NaN", "inf", "1e400", "1.2E+17", "-5", "(5)", "12%", "5k", "$5", "1,234.50", "1.234,5"),
    *("31/02/2025", "2024-13-01", "2024-02-30", "0000-00-00", "2199-01-01", "45342", "20/02/24", "2024-02-20T10:00Z"),
    *(
        "won",
        "Won",
        "lost ",
        "open",
        "A1",
        "a1",
        "=1+1",
        "<b>",
        "x" * 300,
        "é",
        "\u200b",
        "\u202e",
        "\u00a0",
        "Ã©",
        "\ufffd",
    ),
    *(
        '"',
        '""',
        'a"b',
        "a\nb",
        ";",
        "a;b;;a",
        "won,lost",
        "\\",
        "\t",
        "'; DROP TABLE x; --",
        "me@firm.example",
        "\x1b[31m",
    ),
)
SETTINGS = (
    "",
    '[sources.opportunities]\nthousands = ","\n',
    '[sources.opportunities]\ndecimal = ","\n',
    '[sources.opportunities]\ndate_format = "%d/%m/%Y"\n',
    '[sources.opportunities]\nencoding = "cp1252"\n',
    '[sources.opportunities]\ndelimiter = ";"\n',
    "[tolerance]\nquarantine = 0.2\norphans = 0.5\n",
    '[columns.opportunities]\namount = "source"\n',
    '[sources.opportunities]\nkeep_duplicates = true\nrow_id = "opportunity_id"\n',
    "[tolerance\n",
    "[plan]\nmax_segments = true\n",
)
EVERY = 100  # workspaces between two lines of progress
FOOTERS = ("Totals,1", "remark", ",,", '"open', "Grand Totals (3 records)", "Copyright © 2025 salesforce.com", "")


@dataclass
class Outcome:
    """How many workspaces ended in which way, and every one that broke a promise."""

    ended: Counter[str] = field(default_factory=Counter)
    forms: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Case:
    """One mutated file: where and how it is stored, what is written in it, and the status its records say."""

    form: Form
    name: str
    table: str
    stored: bytes
    text: bytes
    status: dict[str, str]
    settings: str


def make_case(rng: random.Random) -> tuple[Case, dict[str, bytes]]:
    """A mutated file of a form drawn at random, and all files of its workspace."""
    form = rng.choices(FORMS, SHARES)[0]
    name = rng.choice((*form.files, next(n for n, t in form.tables.items() if t == "opportunities")))
    made = {n: "\n".join(map(",".join, rows)).encode() + b"\n" for n, rows in form.files.items()}
    del made[name]
    rows = [list(r) for r in form.files[name]]
    for _ in range(rng.randint(0, 2)):
        rng.choice(_OF_ROWS)(rng, rows)
    stored_as, status = name, expected_status(form, rows) if form.tables[name] == "opportunities" else {}
    if form.sheet:
        stored_as = name.replace(".csv", ".xlsx")
        stored, shown = workbook(rng, rows)
        text = shown.encode()
    else:
        text, plain = write(rng, rows)
        stored, status = text, status if plain else {}
        if form.pack:
            stored_as, stored = form.pack(rng, name, text)
    if (form.pack or form.sheet) and rng.random() < 0.3:
        stored = rng.choice(_OF_BYTES)(rng, stored)
    settings = rng.choice(SETTINGS) if rng.random() < 0.3 else ""
    case = Case(form, stored_as, form.tables[name], stored, text, status, settings)
    return case, {**made, stored_as: stored, "icplab.toml": settings.encode()}


def write(rng: random.Random, rows: list[list[str]]) -> tuple[bytes, bool]:
    """Rows as the bytes of a CSV file, perhaps mutated as text and as bytes; whether they still are what was given."""
    delimiter = rng.choice(",,,,,,;\t|")
    quote = rng.random() < 0.8
    text = "\n".join(delimiter.join(_cell(c, delimiter) if quote else c for c in r) for r in rows) + "\n"
    plain = quote and all("\n" not in c for r in rows for c in r)
    if rng.random() < 0.3:
        text, plain = rng.choice(_OF_TEXT)(rng, text), False
    data = _encoded(rng, text)
    return (rng.choice(_OF_BYTES)(rng, data), False) if rng.random() < 0.2 else (data, plain)


def _cell(text: str, delimiter: str) -> str:
    return '"' + text.replace('"', '""') + '"' if any(c in text for c in ('"', "\n", delimiter)) else text


def _encoded(rng: random.Random, text: str) -> bytes:
    codec = rng.choice(("utf-8",) * 8 + ("utf-8-sig", "utf-16", "utf-16-le", "cp1252"))
    return text.encode(codec, errors="replace")


def _at(rng: random.Random, rows: list) -> int:
    return rng.randrange(len(rows)) if rows else 0


def _set_cell(rng: random.Random, rows: list[list[str]]) -> None:
    row = rows[_at(rng, rows)]
    if row:
        row[_at(rng, row)] = rng.choice(ODD)


def _extend_cell(rng: random.Random, rows: list[list[str]]) -> None:
    row = rows[_at(rng, rows)]
    if row:
        row[_at(rng, row)] += rng.choice(ODD)


def _set_column(rng: random.Random, rows: list[list[str]]) -> None:
    place, value = rng.randrange(6), rng.choice(ODD)
    for row in rows[1:]:
        if place < len(row):
            row[place] = value


def _drop_cell(rng: random.Random, rows: list[list[str]]) -> None:
    row = rows[_at(rng, rows)]
    if row:
        del row[_at(rng, row)]


def _add_cell(rng: random.Random, rows: list[list[str]]) -> None:
    row = rows[_at(rng, rows)]
    row.insert(_at(rng, row), rng.choice(ODD))


def _add_column(rng: random.Random, rows: list[list[str]]) -> None:
    name = rng.choice(("", "Unnamed: 7", "note", "amount", "Amount", "IsDeleted", "segment", "is_won"))
    for number, row in enumerate(rows):
        row.append(rng.choice(ODD) if number else name)


def _rename(rng: random.Random, rows: list[list[str]]) -> None:
    if rows and rows[0]:
        place = _at(rng, rows[0])
        rows[0][place] = rng.choice((rows[0][place].title(), rows[0][place].upper() + " ", "Id", "note", ""))


_OF_ROWS: tuple[Callable[[random.Random, list], object], ...] = (
    *(_set_cell, _set_cell, _set_cell, _extend_cell, _set_column, _drop_cell, _add_cell, _add_column, _rename),
    lambda rng, rows: rows.insert(_at(rng, rows), [""]),
    lambda rng, rows: rows.insert(_at(rng, rows), list(rows[0])),
    lambda rng, rows: rows.append(list(rows[_at(rng, rows)])),
    lambda rng, rows: rows.insert(_at(rng, rows), [rng.choice(FOOTERS)]),
    lambda rng, rows: rows.extend([[""], [rng.choice(FOOTERS)]]),
    lambda rng, rows: rows.insert(0, ["Report of deals"]),
    lambda rng, rows: rng.shuffle(rows),
    lambda rng, rows: [row.reverse() for row in rows],
)
_OF_TEXT: tuple[Callable[[random.Random, str], str], ...] = (
    lambda rng, text: text.replace("\n", rng.choice(("\r", "\r\n"))),
    lambda rng, text: text.replace("\n", "\r\n", 3),
    lambda rng, text: "sep=" + rng.choice(",;\t") + "\n" + text,
    lambda rng, text: text[: rng.randrange(len(text) + 1)],
    lambda rng, text: text.replace("\n", ",\n"),
    lambda rng, text: text + rng.choice(FOOTERS),
)
_OF_BYTES: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    lambda rng, data: data[: rng.randrange(len(data) + 1)],
    lambda rng, data: _flipped(rng, data),
    lambda rng, data: data + bytes(rng.randrange(256) for _ in range(rng.randrange(1, 9))),
    lambda rng, data: rng.choice((b"PK\x03\x04", b"\x1f\x8b", b"PAR1", b"\xd0\xcf\x11\xe0", b"<html>")) + data,
)


def _flipped(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    if changed:
        changed[_at(rng, data)] = rng.choice(b'",;\n\r\t\0\xff A0')
    return bytes(changed)


def fuzz(files: int, seed: int, folder: Path, tell: Callable[[int, Outcome], object] | None = None) -> Outcome:
    """Read `files` mutated workspaces made from `seed`, and note every promise that is broken.

    `tell` is called after every hundred with their number and the outcome so far: a run that is cut off has its figures.
    """
    rng, outcome = random.Random(seed), Outcome()
    usual: dict[str, frozenset[str]] = {}
    for number in range(files):
        case, made = make_case(rng)
        if case.form.name not in usual:
            usual[case.form.name] = said_of_clean(case.form, folder)
        _replace(folder, made)
        said = f"{seed}/{number} {case.form.name}:"
        try:
            ended = judge(folder, case, usual[case.form.name])
        except Exception:
            ended = "exception"
            outcome.broken.append(f"{said} {_shown(case)}\n{traceback.format_exc(limit=-3)}")
        if ended.startswith("broken"):
            outcome.broken.append(f"{said} {ended} {_shown(case)}")
        outcome.ended[ended.split(":")[0]] += 1
        outcome.forms[case.form.name] += 1
        if tell and (number + 1) % EVERY == 0:
            tell(number + 1, outcome)
    return outcome


def said_of_clean(form: Form, folder: Path) -> frozenset[str]:
    """Codes of what is said of a form's clean files."""
    clean = {n: "\n".join(map(",".join, rows)).encode() + b"\n" for n, rows in form.files.items()}
    _replace(folder, clean)
    problems = take._read(folder).problems
    assert not any(p.outcome == "E" for p in problems), problems
    return frozenset({p.code for p in problems} | {"ICP-W088", "ICP-W089"})


def _replace(folder: Path, files: dict[str, bytes]) -> None:
    """Fill the folder anew."""
    for left in folder.iterdir():
        left.unlink()
    for file, data in files.items():
        (folder / file).write_bytes(data)


def _shown(case: Case) -> str:
    return f"{case.name} {case.text!r} {case.settings!r}"


def judge(folder: Path, case: Case, usual: frozenset[str]) -> str:
    """How one workspace ended: error, noted, said by its cells, or broken with the promise that was not kept.

    Codes that are `usual` are said of the clean twin too and excuse nothing.
    """
    reading = take._read(folder)
    for book in reading.books:
        if sum(book.counts.values()) != book.records:
            return f"broken: ledger {book.counts} of {book.records}"
    book = next((b for b in reading.books if b.file.startswith(case.name)), None)
    countable = not case.form.sheet and b'"' not in case.text and b"\0" not in case.text
    if book and countable and book.records != _lines(case.text):
        return f"broken: {book.records} records of {_lines(case.text)} lines"
    if any(p.outcome == "E" for p in reading.problems):
        return (
            "error" if all(p.fix and p.message for p in reading.problems if p.outcome == "E") else "broken: no remedy"
        )
    frame = used_rows(reading.batches[case.table])
    noted = any(p.file and case.name in p.file and p.code not in usual for p in reading.problems)
    if wrong := _other_status(frame, case.status):
        return f"broken: status {wrong}"
    if _says_what_stands_there(frame, case):
        return "noted" if noted else "as it stands"
    return "noted" if noted or case.settings else f"broken: silent change {frame.to_dict('list')}"


def _other_status(frame: pd.DataFrame, expected: dict[str, str]) -> dict[str, str]:
    """Records whose status is not what the flags of their line say."""
    if not expected:
        return {}
    found = zip(frame["opportunity_id"], frame["status"], strict=True)
    return {key: s for key, s in found if expected.get(key, expected.get(str(key)[:15], s)) != s}


def _lines(data: bytes) -> int:
    text = _text(data).replace("\r\n", "\n").replace("\r", "\n")
    return len(text.removesuffix("\n").split("\n"))


def _text(data: bytes) -> str:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", errors="replace")
    if data[1:2] == b"\0":
        return data.decode("utf-16-le", errors="replace")
    return data.decode("utf-8", errors="replace")


def _says_what_stands_there(frame: pd.DataFrame, case: Case) -> bool:
    """Whether every value of the table stands in the file as it was written: nothing was made up or turned round.

    Columns that a native layout works out are left out; of an 18-character id the first 15 are looked for.
    """
    text = _text(case.text).replace("\r\n", "\n").replace("\r", "\n")
    text = text if case.form.sheet else text.replace('""', '"')  # a workbook does not double quotes
    for column in frame.columns.difference(sorted(case.form.derived), sort=False):
        values = frame[column].dropna()
        if values.dtype == "float64":
            shown = {v: (f"{v:g}", repr(v), f"{v:.0f}") for v in values}
            if any(not any(s in text for s in forms) for forms in shown.values()):
                return False
        elif values.dtype.kind == "M":
            if any(f"{v:%Y-%m-%d}" not in text for v in values):
                return False
        elif any(str(v) not in text and not (len(str(v)) == 18 and str(v)[:15] in text) for v in values):
            return False
    return True


def _figures(files: int, seconds: float, outcome: Outcome) -> str:
    ends, forms = (", ".join(f"{n:,} {what}" for what, n in sorted(c.items())) for c in (outcome.ended, outcome.forms))
    return f"{files:,} files in {seconds:.0f} s ({files / seconds:.1f} a second): {ends}; {forms}"


def main() -> None:
    """Run, print the figures, and fail when a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--blocks", action="store_true", help="read small files in blocks too, as only large ones are")
    options = parser.parse_args()
    if options.blocks:
        large.LEAST_BYTES, large.FIRST, large.BLOCK, large.CODED_SHARE = 0, 1024, 1024, 1.0
    start = time.perf_counter()

    def tell(number: int, outcome: Outcome) -> None:
        print(_figures(number, time.perf_counter() - start, outcome), flush=True)
        for broken in outcome.broken[said.total() :]:
            print(broken, flush=True)
            said["broken"] += 1

    said: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        outcome = fuzz(options.files, options.seed, Path(folder), tell)
    tell(options.files, outcome)
    raise SystemExit(1 if outcome.broken else 0)


if __name__ == "__main__":
    main()
