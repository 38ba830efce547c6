"""Reads the settings and the folder, makes the list of files to take in, and refuses what must not be opened."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from icplab.core.config import Settings, Source
from icplab.core.errors import Problem, nearest
from icplab.core.schema import CANONICAL

SUFFIXES = (".csv", ".tsv", ".txt", ".parquet")
CANONICAL_SUFFIXES = (".csv", ".tsv", ".parquet")
LARGEST_FILE = 4 << 30  # bytes; above this the in-memory reader of this version would exhaust small machines
OTHER_FORMATS = {
    ".xlsx": "save the sheet as CSV UTF-8",
    ".xlsm": "save the sheet as CSV UTF-8",
    ".xls": "save the sheet as CSV UTF-8",
    ".ods": "save the sheet as CSV UTF-8",
    ".gz": "unpack it first",
    ".zip": "unpack it first",
    ".json": "export as CSV",
    ".duckdb": "export the table as Parquet",
}


@dataclass(frozen=True)
class InputFile:
    """One file that feeds one table."""

    table: str
    path: Path
    name: str  # relative to the workspace, with forward slashes
    source: Source


def find_files(folder: Path, settings: Settings) -> tuple[list[InputFile], list[Problem], list[str]]:
    """Files named in `[sources]`, else canonical names (`accounts.csv`, `.tsv`, `.parquet`).

    Returns the files in table order, every problem met, and the tables found by their canonical name.
    """
    found: list[InputFile] = []
    problems: list[Problem] = []
    by_default: list[str] = []
    here = sorted(p for p in folder.iterdir() if not p.name.startswith("."))
    for table in CANONICAL:
        source = settings.source(table)
        paths = _named(folder, table, source, problems) if source.file else _canonical(here, table, problems)
        if paths and not source.file:
            by_default.append(table)
        for path in paths:
            problem = _refusal(folder, path)
            if problem:
                problems.append(problem)
            else:
                found.append(InputFile(table, path, path.relative_to(folder).as_posix(), source))
        if not paths and CANONICAL[table].required and not source.file:
            problems.append(_missing(table, here))
    return found, problems, by_default


def unread_files(folder: Path, found: list[InputFile]) -> list[str]:
    """Names of data files in the folder that feed no table."""
    used = {f.path for f in found}
    kinds = {*SUFFIXES, *OTHER_FORMATS}
    return sorted(p.name for p in folder.iterdir() if p.is_file() and p.suffix.lower() in kinds and p not in used)


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
    paths = [p for p in here if p.stem.lower() == table and p.suffix.lower() in CANONICAL_SUFFIXES]
    if len(paths) > 1:
        names = " and ".join(p.name for p in paths)
        fix = f'keep one, or name the one meant: [sources.{table}] file = "{paths[0].name}"'
        problems.append(Problem("ICP-E036", f"{names} both hold the table {table}", fix, paths[0].name))
        return []
    return paths


def _missing(table: str, here: list[Path]) -> Problem:
    """A required table has no file."""
    there = ", ".join(p.name for p in here if p.is_file()) or "no files"
    message = f"the required table {table} has no file; the workspace holds {there}"
    fix = f'add {table}.csv, or name the export in icplab.toml: [sources.{table}] file = "…"'
    return Problem("ICP-E001", message, fix, f"{table}.csv")


def _refusal(folder: Path, path: Path) -> Problem | None:
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
        return Problem("ICP-E004", "is not a regular file", "name a CSV, TSV or Parquet file", name)
    if not os.access(path, os.R_OK):
        return Problem("ICP-E005", "cannot be read (permission denied)", f"allow reading it: chmod u+r {name}", name)
    if status.st_size > LARGEST_FILE:
        limit = f"is larger than the limit of {LARGEST_FILE >> 30} GB"
        return Problem("ICP-E006", limit, "export it as Parquet, or as several files", name)
    suffix = path.suffix.lower()
    if suffix in OTHER_FORMATS:
        return Problem("ICP-E014", f"{suffix} files are not read by this version", OTHER_FORMATS[suffix], name)
    if suffix not in SUFFIXES:
        return Problem(
            "ICP-E014", f"has an unknown kind of name; read are {', '.join(SUFFIXES)}", "rename or convert it", name
        )
    return None
