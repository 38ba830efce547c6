"""Reads the bytes of one file, once, makes sure that they are those of a regular file that nobody changed meanwhile."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from icplab.core.config import DATABASE_FILES
from icplab.core.errors import BadInput, Problem

PACKED = (".csv.gz", ".tsv.gz", ".txt.gz", ".zip")
ENDINGS = (".csv", ".tsv", ".txt", ".parquet", ".xlsx", *PACKED, *DATABASE_FILES)
LARGEST_FILE = 4 << 30  # bytes, packed or unpacked; the readers hold a file in memory
_OPEN = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)  # a FIFO must not make it wait


def ending(name: str | Path) -> str:
    """The ending of a file name in small letters, of packed files with what is in them: `.csv`, `.csv.gz`, `.zip`."""
    parts = Path(name).suffixes
    return "".join(parts[-2:] if parts and parts[-1].lower() == ".gz" else parts[-1:]).lower()


def name_without_ending(path: Path) -> str:
    """A file's name without folder and without the ending that `ending` gives."""
    return path.name[: len(path.name) - len(ending(path))]


def read_bytes(path: Path, name: str) -> bytes:
    """The whole of a regular file.

    Raises
    ------
    BadInput
        ICP-E004 not a regular file, E005 cannot be read, E006 too large, E018 changed while it was read.
    """
    with unchanged(path, name) as descriptor, open(descriptor, "rb", closefd=False) as handle:
        return handle.read()


@contextmanager
def unchanged(path: Path, name: str) -> Iterator[int]:
    """Hold a regular file open; yields its descriptor, and stops (ICP-E018) when the file is another one at the end.

    Compared are device, number, size, and the times of its content and of its entry, of the open file and of what the
    path leads to by then, so that both writing into it and putting another in its place are seen.
    """
    try:
        descriptor = os.open(path, _OPEN)
    except OSError as error:
        raise _unreadable(error, name) from error
    try:
        before = os.fstat(descriptor)
        _check_kind(before, name)
        yield descriptor
        after = os.fstat(descriptor), _status(path)
    except OSError as error:
        raise _unreadable(error, name) from error
    finally:
        os.close(descriptor)
    if any(a is None or _mark(a) != _mark(before) for a in after):
        message = "changed while it was read, so that parts of two versions may be mixed"
        raise BadInput(Problem("ICP-E018", message, "wait until it is written, then start again", name))


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _mark(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _check_kind(status: os.stat_result, name: str) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise BadInput(Problem("ICP-E004", "is not a regular file", "name an exported file", name))
    if status.st_size > LARGEST_FILE:
        message = f"is larger than the limit of {LARGEST_FILE >> 30} GB"
        raise BadInput(Problem("ICP-E006", message, "export it as Parquet, or as several files", name))


def _unreadable(error: OSError, name: str) -> BadInput:
    fix = f"allow reading it: chmod u+r {name}" if isinstance(error, PermissionError) else "check the disk and the file"
    return BadInput(Problem("ICP-E005", f"cannot be read: {error.strerror}", fix, name))
