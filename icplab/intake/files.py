"""Reads the settings and the folder, makes the list of files to take in, and refuses what must not be opened."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from icplab.core.config import Settings, Source
from icplab.core.errors import Problem, nearest
from icplab.core.schema import CANONICAL
from icplab.intake.layouts import Native, Recognition, header_of, recognise, recognise_file
from icplab.intake.layouts.recognise import canonical_tables, is_canonical
from icplab.intake.matching.review import REVIEW_FILE
from icplab.intake.sources import ENDINGS, LARGEST_FILE, ending, name_without_ending, source_name

CANONICAL_ENDINGS = (".csv", ".tsv", ".parquet", ".xlsx", ".csv.gz", ".tsv.gz", ".zip")
_AS_XLSX = "open it in Excel and save it as an Excel workbook (.xlsx)"
OTHER_FORMATS = {
    **dict.fromkeys((".xls", ".xlsb", ".ods"), _AS_XLSX),
    **dict.fromkeys((".gz", ".bz2", ".xz", ".7z", ".rar", ".tar", ".tgz", ".tar.gz"), "unpack it, or pack it as zip"),
    ".json": "export as CSV",
}


@dataclass(frozen=True)
class InputFile:
    """One file that feeds one table."""

    table: str
    path: Path  # the workspace itself for a table of a database
    name: str  # relative to the workspace, with forward slashes; a sheet in brackets behind it
    source: Source
    native: Native | None = None  # the layout it was recognised as


def find_files(folder: Path, settings: Settings) -> tuple[list[InputFile], list[Problem], list[str]]:
    """Files named in `[sources]`, else canonical names (`accounts.csv`, `.xlsx`, `.parquet` and so on), else native exports.

    A file is a native export when its header says so; it may feed several tables. Returns the files in table order, every
    problem met, and what was taken by default: tables by their canonical file name, native exports by their header.
    """
    found: list[InputFile] = []
    problems: list[Problem] = []
    by_default: list[str] = []
    here = sorted(p for p in folder.iterdir() if not p.name.startswith("."))
    given: dict[str, list[tuple[Path, Native | None]]] = {}
    refused = set()  # tables whose files were found and cannot be taken: that is said already
    for table in CANONICAL:
        before = len(problems)
        given[table] = _given(folder, here, table, settings.source(table), problems)
        refused |= {table} if len(problems) > before else set()
    natives = _natives(folder, here, given, settings)
    for table in CANONICAL:
        source = settings.source(table)
        if source.database:
            found.append(InputFile(table, folder, source_name(source), source))
            continue
        files = given[table] or [(path, native) for path, native in natives if native.feed.table == table]
        if files and not source.file:
            by_default += [_taken(table, path, native) for path, native in files]
        for path, native in files:
            problem = refusal_of(folder, path)
            if problem:
                problems.append(problem)
            else:
                found.append(InputFile(table, path, _name(folder, path, source), source, native))
        if not files and CANONICAL[table].required and table not in refused:
            problems.append(_in_other_format(folder, here, table) or _missing(table, here))
    return found, problems, by_default


def _taken(table: str, path: Path, native: Native | None) -> str:
    """What was taken without being told, in words."""
    return f"{path.name}: {native.source.title}, into {table}" if native else f"{table}: canonical file name"


def _given(
    folder: Path, here: list[Path], table: str, source: Source, problems: list[Problem]
) -> list[tuple[Path, Native | None]]:
    """Files that the settings name for a table, or that carry its canonical name, with their layout if they have one."""
    if source.database:
        return []
    if source.file:
        return [(p, _layout_of(folder, p, table, source)) for p in _named(folder, table, source, problems)]
    paths = _canonical(here, table, problems)
    if len(paths) == 1 and source.layout != "none" and _is_open(folder, paths[0]):
        header = header_of(paths[0])
        if header and not is_canonical(header, table):
            native = recognise(header, paths[0].name, source.layout).found
            if native is not None:  # another export under this name: `_natives` sees to it
                return []
    return [(p, None) for p in paths]


def _layout_of(folder: Path, path: Path, table: str, source: Source) -> Native | None:
    """The layout of a file named for a table, when it is an export that feeds this table."""
    if source.layout == "none" or source.table or source.query or not _is_open(folder, path):
        return None
    seen = recognise(header_of(path), path.name, source.layout)
    fits = [Native(o, f) for o in ((seen.found,) if seen.found else seen.rivals) for f in o.feeds if f.table == table]
    return fits[0] if len(fits) == 1 and (source.layout or not is_canonical(seen.header, table)) else None


def _natives(
    folder: Path, here: list[Path], given: Mapping[str, list[tuple[Path, Native | None]]], settings: Settings
) -> list[tuple[Path, Native]]:
    """Native exports among the files that nothing else takes, with every feed that has something for its table."""
    used = {path for files in given.values() for path, _ in files}
    found = []
    for path in here:
        if path in used or not _is_open(folder, path):
            continue
        seen = recognise_file(path)
        for feed in seen.found.feeds if seen.found else ():
            native = Native(seen.found, feed)  # type: ignore[arg-type]
            wanted = settings.source(feed.table).layout.lower() in ("", native.source.system.lower())
            named = settings.source(feed.table).file or settings.source(feed.table).database
            if wanted and not named and native.applies(seen.header):
                found.append((path, native))
    return found


def _is_open(folder: Path, path: Path) -> bool:
    """Whether the head of a file may be looked at."""
    return ending(path) in ENDINGS and path.is_file() and refusal_of(folder, path) is None


def unread_files(folder: Path, found: list[InputFile], problems: list[Problem]) -> list[str]:
    """Data files in the folder that feed no table and of which no problem was said: their names, and what they look like."""
    used = {f.path for f in found} | {folder / REVIEW_FILE}
    used |= {folder / name for p in problems for name in (p.file, *p.file.split(", "))}
    kinds = {*ENDINGS, *OTHER_FORMATS, ".xlsm"}
    here = (p for p in folder.iterdir() if not p.name.startswith((".", "~$")))  # ~$: what Excel leaves while it is open
    rest = sorted(p for p in here if p.is_file() and ending(p) in kinds and p not in used)
    return [p.name + _looks_like(folder, p) for p in rest]


def _name(folder: Path, path: Path, source: Source) -> str:
    """How messages and the ledger call a file, with the sheet or table where one is named."""
    part = source.sheet or source.table or ("query" if source.query else "")
    return path.relative_to(folder).as_posix() + (f" [{part}]" if part else "")


def _looks_like(folder: Path, path: Path) -> str:
    """What an unread file seems to hold, in brackets; empty when its header says nothing."""
    seen = recognise_file(path) if _is_open(folder, path) else Recognition(())
    fits = [seen.found] if seen.found else list(seen.rivals)
    titles = [f"{o.title} for {' and '.join(f.table for f in o.feeds)}" for o in fits]
    titles = titles or [f"the table {t}" for t in canonical_tables(seen.header)]
    return f" (looks like {' or '.join(titles)})" if titles else ""


def _named(folder: Path, table: str, source: Source, problems: list[Problem]) -> list[Path]:
    """Paths behind `[sources.<table>] file`, which may be a glob."""
    where = f"sources.{table}.file"
    if "://" in source.file or source.file.startswith(("/", "\\", "~")) or ".." in Path(source.file).parts:
        fix = "copy the file into the workspace and name it relative to the workspace"
        problems.append(
            Problem(
                "ICP-E004", "is not a file inside the workspace", fix, "icplab.toml", column=where, value=source.file
            )
        )
        return []
    paths = sorted(folder.glob(source.file)) if any(c in source.file for c in "*?[") else [folder / source.file]
    paths = [p for p in paths if os.path.lexists(p)]
    if not paths:
        there = [p.name for p in folder.iterdir() if p.is_file()]
        message = f"is not in the workspace{nearest(source.file, there)}"
        problems.append(Problem("ICP-E001", message, f"put it there, or correct [{where}]", source.file))
    return paths


def _canonical(here: list[Path], table: str, problems: list[Problem]) -> list[Path]:
    """The file of a table by its canonical name, in any letter case."""
    paths = [p for p in here if name_without_ending(p).lower() == table and ending(p) in CANONICAL_ENDINGS]
    if len(paths) > 1:
        names = " and ".join(p.name for p in paths)
        fix = f'keep one, or name the one meant: [sources.{table}] file = "{paths[0].name}"'
        file = ", ".join(p.name for p in paths)
        problems.append(Problem("ICP-E036", f"{names} both hold the table {table}", fix, file))
        return []
    return paths


def _in_other_format(folder: Path, here: list[Path], table: str) -> Problem | None:
    """Why the file that carries the name of a required table is not read, where there is one."""
    named = (p for p in here if name_without_ending(p).lower() == table and ending(p) not in CANONICAL_ENDINGS)
    return next((problem for p in named if (problem := refusal_of(folder, p))), None)


def _missing(table: str, here: list[Path]) -> Problem:
    """A required table has no file."""
    there = ", ".join(p.name for p in here if p.is_file()) or "no files"
    message = f"the required table {table} has no file; the workspace holds {there}"
    fix = f'add {table}.csv, or name the export in icplab.toml: [sources.{table}] file = "…" (icplab init writes one to start from)'
    return Problem("ICP-E001", message, fix, f"{table}.csv")


def refusal_of(folder: Path, path: Path) -> Problem | None:
    """Why a path may not be opened: outside the workspace, not a regular file, unreadable, too big, unknown format."""
    name = path.relative_to(folder).as_posix()
    if not path.exists():
        return Problem("ICP-E001", "points to a file that is not there", "repair or replace the link", name)
    if not path.resolve().is_relative_to(folder.resolve()):
        return Problem(
            "ICP-E004", "is a link to a file outside the workspace", "copy the file into the workspace", name
        )
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        return Problem("ICP-E004", "is not a regular file", "name an exported file", name)
    if not os.access(path, os.R_OK):
        return Problem("ICP-E005", "cannot be read (permission denied)", f"allow reading it: chmod u+r {name}", name)
    if status.st_size > LARGEST_FILE:
        limit = f"is larger than the limit of {LARGEST_FILE >> 30} GB"
        return Problem("ICP-E006", limit, "export it as Parquet, or as several files", name)
    kind = ending(path)
    if kind == ".xlsm":
        return Problem("ICP-E015", "may hold macros", "save it as an Excel workbook without macros (.xlsx)", name)
    if kind in OTHER_FORMATS:
        return Problem("ICP-E014", f"{kind} files are not read", OTHER_FORMATS[kind], name)
    if kind not in ENDINGS:
        message = f"has an unknown kind of name; read are {', '.join(ENDINGS)}"
        return Problem("ICP-E014", message, "rename or convert it", name)
    return None
