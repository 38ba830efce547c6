"""Reads a workspace, makes typed canonical tables in a run folder; either all of it is right or nothing is written."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import shutil
import tempfile
import zoneinfo
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from icplab.core.config import Settings, read_settings, settings_to_json
from icplab.core.errors import BadInput, Problem, no_folder
from icplab.core.schema import CANONICAL
from icplab.core.store import sha256_of
from icplab.intake.batch import Batch, FileBook, rejects_table
from icplab.intake.checks import check_currencies, check_opportunities, check_rows
from icplab.intake.dates import DAY_ZERO
from icplab.intake.files import InputFile, find_files, unread_files
from icplab.intake.identity import settle_identity
from icplab.intake.known import add_history, dated_traits
from icplab.intake.large import read_large
from icplab.intake.links import check_labels, check_links
from icplab.intake.loaded import without_load_date
from icplab.intake.mapping import build_batch, expected_names, unknown_mappings
from icplab.intake.matching import Matching, match_accounts
from icplab.intake.matching.review import REVIEW_FILE, write_review
from icplab.intake.meaning import check_one_sided, check_stage_history, secrets_in
from icplab.intake.memory import one_allocator
from icplab.intake.named import unknown_traits
from icplab.intake.outline import Sheet, outline
from icplab.intake.overlap import prefer_newest
from icplab.intake.report import Report, ledger_table
from icplab.intake.sources import Connections, content_hash, read_content
from icplab.intake.typed import type_batch
from icplab.intake.written import check_handed_on, event_keys, write_table

STAGING = ".intake-"  # folders in which an intake is written; the name goes on with the process that writes
INTAKE_VERSION = 10  # raised when the same input gives other tables or says more about them, so that runs taken in before are taken in again
# as-of date of a workspace without any date: no row lies after it, and no row before it is needed.
UNDATED_AS_OF = pd.Timestamp("1970-01-01").as_unit("us")
# Findings that a note of the intake supports (codes of the contract).
FINDINGS = {
    "37": "cut-export",
    "44": "orphan-records",
    "59": "stale-pipeline",
    "62": "bulk-close",
    "80": "label-variants",
    "46": "duplicate-accounts",
}
_DATE_DIRECTIVES = frozenset("dmYyHMSbBIpfj")


@dataclass
class _Reading:
    """All that reading a workspace gave."""

    workspace: str
    settings: Settings = field(default_factory=Settings)
    given: Settings = field(default_factory=Settings)  # as in icplab.toml, before what the data say about themselves
    books: list[FileBook] = field(default_factory=list)
    batches: dict[str, Batch] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    defaults: list[str] = field(default_factory=list)
    matching: Matching = field(default_factory=Matching)
    dated: pd.DataFrame = field(default_factory=pd.DataFrame)


def take_in(workspace: Path | str, run: Path | str) -> None:
    """Read, check and type the exports of a workspace, and write them into a run folder.

    Writes `tables/<table>.parquet` (canonical columns first, in declared types; further columns of open-ended tables as text;
    rows sorted, so that their order in the export never matters), `settings.json`, `inputs.json`, `rejects.csv`, and a copy of
    `decisions.jsonl` where the workspace has one. Returns at once when the run already holds the same files and settings.

    Parameters
    ----------
    workspace : folder with exports, and `icplab.toml` unless the files have canonical names and columns
    run : folder to write into; made when it is not there

    Raises
    ------
    BadInput
        With every problem that stops, of all files; the run folder is left as it was.
    """
    folder, target = Path(workspace), Path(run)
    if _is_taken_in(folder, target):
        return
    with one_allocator():
        _take_in(folder, target)


def _take_in(folder: Path, target: Path) -> None:
    reading = _read(folder)
    stops = [p for p in reading.problems if p.outcome == "E"]
    if stops:
        raise BadInput(stops)
    target.mkdir(parents=True, exist_ok=True)
    _clear_stale(target)
    staging = Path(tempfile.mkdtemp(prefix=f"{STAGING}{os.getpid()}-", dir=target))
    try:
        _write(reading, folder, staging)
        _publish(staging, target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def check_workspace(workspace: Path | str) -> Report:
    """Read and check a workspace as `take_in` does, writing nothing; problems are reported, not raised."""
    with one_allocator():
        reading = _read(Path(workspace))
    rejects = rejects_table(list(reading.batches.values()))
    return Report(reading.workspace, ledger_table(reading.books), tuple(reading.problems), rejects)


def default_as_of(tables: dict[str, pd.DataFrame]) -> pd.Timestamp:
    """The date everything is computed as known on, unless the settings name one.

    The latest close date of a closed, or creation date of any, opportunity. Where opportunities carry no dates: the latest
    date on which a record of any other table came into being; without any date at all, 1970-01-01, after which nothing lies.
    """
    frame = tables.get("opportunities", CANONICAL["opportunities"].empty())
    closed = frame["closed_at"].where(frame["status"].isin(["won", "lost"]))
    dates = pd.Series([closed.max(), frame["created_at"].max()]).dropna()
    if dates.empty:
        born = [t[c.name] for n, t in tables.items() for c in CANONICAL[n].columns if c.kind == "date" and c.required]
        dates = pd.concat(born).dropna() if born else dates
    return dates.max().as_unit("us") if len(dates) else UNDATED_AS_OF


def _clear_stale(target: Path) -> None:
    """Remove what intakes left that were killed; a folder whose process still lives is being written."""
    for left in target.glob(f"{STAGING}*"):
        owner = left.name.removeprefix(STAGING).split("-")[0]
        if not owner.isdigit() or not _lives(int(owner)):
            shutil.rmtree(left, ignore_errors=True)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)  # signal 0 is not sent; it only asks
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _is_taken_in(folder: Path, target: Path) -> bool:
    """Whether the run holds tables made from these very files and settings."""
    try:
        inputs = json.loads((target / "inputs.json").read_text(encoding="utf-8"))
        held, whole = inputs["fingerprint"], all((target / "tables" / f"{t}.parquet").is_file() for t in inputs["rows"])
        settings = read_settings(folder)
        files, problems, _ = find_files(folder, settings)
        with Connections(settings) as connections:
            hashes = [(f.table, f.name, content_hash(f.path, f.name, f.source, connections)) for f in files]
    except (OSError, ValueError, KeyError, TypeError, BadInput):
        return False
    return whole and not problems and held == _fingerprint(settings, hashes, folder)


def _fingerprint(settings: Settings, hashes: list[tuple[str, str, str]], folder: Path) -> str:
    """Hash of all that decides what the run folder holds."""
    beside = [folder / name for name in ("decisions.jsonl", REVIEW_FILE)]
    parts = [INTAKE_VERSION, settings_to_json(settings), hashes, *(sha256_of(p) if p.is_file() else "" for p in beside)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _read(folder: Path) -> _Reading:
    """All files, tables and problems of a workspace."""
    reading = _Reading(folder.resolve().name)
    if not folder.is_dir():
        reading.problems.append(Problem("ICP-E001", no_folder(folder), "name a folder of exports", folder.name))
        return reading
    try:
        reading.settings = reading.given = read_settings(folder)
    except BadInput as error:
        reading.problems += error.problems
        return reading
    reading.problems += [*_settings_problems(reading.settings), *unknown_mappings(reading.settings)]
    reading.problems += secrets_in(reading.settings)
    if reading.problems:
        return reading
    files, problems, by_default = find_files(folder, reading.settings)
    reading.problems += problems
    reading.defaults += by_default
    with Connections(reading.settings) as connections:
        for table in CANONICAL:
            mine = [f for f in files if f.table == table]
            if mine:
                _read_table(table, mine, reading, connections)
    _check_together(reading, folder)
    unread = unread_files(folder, files, problems)
    if unread:
        fix = "name them in [sources], or move them away"
        reading.problems.append(Problem("ICP-W001", f"files that no table reads: {', '.join(unread)}", fix))
    return reading


def _settings_problems(settings: Settings) -> list[Problem]:
    """Formats and notations that cannot be used."""
    problems = []

    def wrong(where: str, value: str, message: str, fix: str) -> None:
        problems.append(Problem("ICP-E100", message, fix, "icplab.toml", column=where, value=value))

    try:
        zoneinfo.ZoneInfo(settings.calendar.timezone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        wrong("calendar.timezone", settings.calendar.timezone, "is not a time zone", 'write one like "Europe/Berlin"')
    formats = {f"sources.{t}.date_format": s.date_format for t, s in settings.sources.items()}
    for where, given in {**formats, "calendar.date_format": settings.calendar.date_format}.items():
        if given not in DAY_ZERO and set(re.findall(r"%(.?)", given)) - _DATE_DIRECTIVES:
            wrong(where, given, "is not a date format", 'write one like "%d/%m/%Y"')
    for table, source in settings.sources.items():
        if len(source.decimal) != 1 or len(source.thousands) > 1 or source.decimal == source.thousands:
            value = source.decimal + source.thousands
            wrong(
                f"sources.{table}",
                value,
                "decimal and thousands must be two different single characters",
                "correct them",
            )
    return problems


def _read_table(table: str, files: list[InputFile], reading: _Reading, connections: Connections) -> None:
    """Read, map, type and check one table; what cannot be read becomes a problem."""
    settings, sheets, books = reading.settings, [], []
    for file in files:
        expected = expected_names(table, settings, file.native)
        notes: list[Problem] = []
        try:
            sheet, size, digest = _sheet(file, table, expected, connections, notes)
        except BadInput as error:
            reading.problems += [*notes, *error.problems]
            continue
        book = FileBook(table, file.name, size, digest, sheet.records)
        book.counts |= sheet.counts
        book.reshaped = file.native is not None and file.native.changes_rows
        # A file that feeds several tables says once what is wrong with it.
        reading.problems += [n for n in notes if n not in reading.problems]
        sheets.append((file.name, sheet))
        books.append(book)
    if len(sheets) < len(files):
        return
    natives, iso_dates = [f.native for f in files], any(sheet.iso_dates for _, sheet in sheets)
    batch = build_batch(CANONICAL[table], sheets, settings, reading.problems, natives)
    del sheets, sheet  # the columns that nothing uses go with them
    if batch is not None:
        batch.iso_dates = iso_dates
        settle_identity(batch, reading.batches, natives)
        type_batch(batch, settings)
        prefer_newest(batch)
        reading.settings = settings = without_load_date(batch, settings)
        check_rows(batch, settings)
        batch.tolerate(settings.tolerance.quarantine)
        reading.batches[table] = batch
        reading.books += books


def _sheet(
    file: InputFile, table: str, expected: set[str], connections: Connections, notes: list[Problem]
) -> tuple[Sheet, int, str]:
    """Data records of one source under their header, its size in bytes and its hash."""
    large = read_large(file.path, file.name, file.source, expected, notes)
    if large:
        return large.sheet, large.bytes, large.sha256
    content = read_content(file.path, file.name, table, file.source, expected, connections, notes)
    sheet = outline(content.records, file.name, expected, notes)
    content.check(sheet, file.name, notes)
    return sheet, content.bytes, content.sha256


def _check_together(reading: _Reading, folder: Path) -> None:
    """Checks between tables, then the ledger of every file."""
    batches = reading.batches
    check_links(batches, reading.settings)
    if "opportunities" in batches:
        check_opportunities(batches["opportunities"], reading.settings)
    check_stage_history(batches, reading.settings)
    check_one_sided(batches)
    check_currencies(batches, reading.settings)
    check_labels(batches)
    if not any(p.outcome == "E" for p in reading.problems):  # columns of files that could not be read are not known
        reading.problems += unknown_traits(batches, reading.settings)
    reading.dated = dated_traits(batches, reading.settings)
    reading.matching = match_accounts(batches, reading.settings, folder)
    for batch in batches.values():
        if batch.table.required and not batch.live.any() and not batch.stopped.any():
            batch.say("ICP-E003", f"no record of {batch.table.name} is left to use", fix="see what was set aside")
        reading.problems += batch.problems
    for book in reading.books:
        _settle(book, batches[book.table])


def _settle(book: FileBook, batch: Batch) -> None:
    """Close the ledger of a file. Records that stop a run are set aside as far as the ledger goes.

    A native record may give several rows of a table, or none: it is used unless all its rows are out.
    """
    mine = batch.file == batch.files.index(book.file)
    out = (batch.aside | batch.stopped) & mine
    kept, duplicate = mine & ~out & ~batch.duplicate, mine & ~out & batch.duplicate
    if not book.reshaped:
        book.settle(int(kept.sum()), int(duplicate.sum()), int(out.sum()))
        return
    records = [np.unique(batch.record[rows]) for rows in (kept, duplicate, out)]
    duplicates = np.setdiff1d(records[1], records[0])
    outs = np.setdiff1d(records[2], np.concatenate(records[:2]))
    data = book.records - sum(book.counts.values())
    book.settle(data - len(duplicates) - len(outs), len(duplicates), len(outs), rows=int(kept.sum()))


def _write(reading: _Reading, folder: Path, staging: Path) -> None:
    """All files of the intake, into an empty folder."""
    (staging / "tables").mkdir()
    keys = event_keys(reading.batches)
    for name, batch in reading.batches.items():
        write_table(batch, staging / "tables" / f"{name}.parquet", keys.get(name, {}))
    check_handed_on(reading.books, staging / "tables")
    add_history(reading.dated, staging / "tables")
    (staging / "settings.json").write_text(settings_to_json(reading.settings) + "\n", encoding="utf-8")
    rejects = rejects_table(list(reading.batches.values()))
    _write_rejects(rejects, staging / "rejects.csv")
    write_review(reading.matching.review, staging / REVIEW_FILE)
    if (folder / "decisions.jsonl").is_file():
        (staging / "decisions.jsonl").write_bytes((folder / "decisions.jsonl").read_bytes())
    inputs = _inputs(reading, folder) | {"rejects": len(rejects)}
    text = json.dumps(inputs, indent=1, sort_keys=True, allow_nan=False)
    (staging / "inputs.json").write_text(text + "\n", encoding="utf-8")


def _first_and_last(batch: Batch) -> dict[str, list[str]]:
    """First and last day of every date column of the used rows that holds any; one column is looked at at a time."""
    found = {}
    for name in [str(c) for c in batch.frame if batch.frame[c].dtype.kind == "M"]:
        first, last = _between(batch.frame[name], batch.live)
        if pd.notna(first):
            found[name] = [f"{first:%Y-%m-%d}", f"{last:%Y-%m-%d}"]
    return found


def _between(dates: pd.Series, rows: np.ndarray) -> tuple[pd.Timestamp, pd.Timestamp]:
    """First and last date among `rows` (a mask), without a copy of them; no time where there is none."""
    values, none = dates.to_numpy(), np.datetime64("NaT")
    first, last = (f.reduce(values, where=rows, initial=none) for f in (np.fmin, np.fmax))
    return pd.Timestamp(first), pd.Timestamp(last)


def _as_of(batches: dict[str, Batch]) -> pd.Timestamp:
    """`default_as_of` of the used rows, of which only the latest are handed over."""
    dated = {}
    for name, batch in batches.items():
        names = [c.name for c in batch.table.columns if c.kind == "date" and c.required]
        dated[name] = pd.DataFrame({c: [_between(batch.frame[c], batch.live)[1]] for c in names})
    if "opportunities" in batches:
        deals = batches["opportunities"]
        closed = deals.live & deals.frame["status"].isin(["won", "lost"]).to_numpy()
        last = {
            c: [_between(deals.frame[c], rows)[1]] for c, rows in (("created_at", deals.live), ("closed_at", closed))
        }
        dated["opportunities"] = pd.DataFrame({"status": ["won"], **last})
    return default_as_of(dated)


def _inputs(reading: _Reading, folder: Path) -> dict:
    """What `inputs.json` says; names of files are relative to the workspace."""
    hashes = [(b.table, b.file, b.sha256) for b in reading.books]
    return {
        "fingerprint": _fingerprint(reading.given, hashes, folder),
        "files": [
            {"table": b.table, "file": b.file, "bytes": b.bytes, "sha256": b.sha256, "records": b.records}
            for b in reading.books
        ],
        "ledger": ledger_table(reading.books).to_dict("records"),
        "notes": [_note(p) for p in reading.problems],
        "as_of": f"{_as_of(reading.batches):%Y-%m-%d}",
        "dates": {name: _first_and_last(batch) for name, batch in reading.batches.items()},
        "rows": {name: int(batch.live.sum()) for name, batch in reading.batches.items()},
        "defaults": reading.defaults,
        "merged_accounts": reading.matching.merged.survivor_of,
    }


def _note(problem: Problem) -> dict:
    """A problem as JSON, with the finding it supports."""
    number = problem.code[-3:].lstrip("0")
    places = ("code", "outcome", "message", "fix", "file", "record", "line", "column", "value", "count")
    finding = FINDINGS.get(number, "") if problem.outcome in "QW" else ""
    return {**{p: getattr(problem, p) for p in places}, "finding": finding, "sentence": str(problem)}


def _write_rejects(rejects: pd.DataFrame, path: Path) -> None:
    """Rejects as CSV that a spreadsheet shows and does not execute."""
    rows = rejects.astype("str").replace(r"^([=+\-@\t\r\n\0])", r"'\1", regex=True)
    rows.to_csv(path, index=False, quoting=csv.QUOTE_ALL, lineterminator="\n", encoding="utf-8")


def _publish(staging: Path, target: Path) -> None:
    """Swap the new intake in. `inputs.json` goes first and comes last: without it the folder counts as not taken in."""
    (target / "inputs.json").unlink(missing_ok=True)
    if (target / "tables").exists():
        os.replace(target / "tables", staging / "old_tables")
    os.replace(staging / "tables", target / "tables")
    (target / "decisions.jsonl").unlink(missing_ok=True)
    for name in ("settings.json", "rejects.csv", REVIEW_FILE, "decisions.jsonl", "inputs.json"):
        if (staging / name).exists():
            os.replace(staging / name, target / name)
