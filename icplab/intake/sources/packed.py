"""Reads the bytes of a gzip or zip file, makes those of the one data file in it; refuses what is broken or a trap."""

from __future__ import annotations

import gzip
import io
import stat
import zipfile
import zlib
from pathlib import PurePosixPath
from typing import IO

from icplab.core.errors import BadInput, Problem
from icplab.intake.sources import held

DATA = (".csv", ".tsv", ".txt", ".parquet", ".xlsx")
LARGEST_RATIO = 200  # exports shrink to a tenth or a thirtieth; deflate at its limit to a thousandth
SURELY_SMALL = 64 << 20  # bytes below which no ratio is a danger
_CHUNK = 1 << 20
_ODD_NAMES = ("__MACOSX/",)
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OSError)


def unpack(data: bytes, file: str, name: str) -> tuple[bytes, str]:
    """The data file in a packed file, and the ending of its name. Bytes that are not packed come back as they are.

    Raises
    ------
    BadInput
        ICP-E013: truncated or damaged, encrypted, none or several data files, an archive in an archive, a name that
        leads out of the archive, more than the size limit or the plausible ratio when unpacked. E014: not packed.
    """
    if held.ending(file) == ".zip":
        return _from_zip(data, name)
    if held.ending(file).endswith(".gz"):
        return _from_gzip(data, name), held.ending(file).removesuffix(".gz")
    return data, held.ending(file)


def check_archive(archive: zipfile.ZipFile, packed: int, name: str) -> None:
    """Refuse an archive whose entries lead out of it or declare more than may be unpacked (ICP-E013)."""
    for entry in archive.infolist():
        path = PurePosixPath(entry.filename.replace("\\", "/"))
        link = stat.S_ISLNK(entry.external_attr >> 16)
        if path.is_absolute() or ".." in path.parts or ":" in entry.filename or link:
            raise _stop(f"holds {_shown(entry.filename)}, which leads out of the archive", "pack the file anew", name)
        if entry.flag_bits & 1:
            raise _stop(f"is encrypted ({_shown(entry.filename)})", "pack it without a password", name)
    _check_size(sum(e.file_size for e in archive.infolist()), packed, name)


def read_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str) -> bytes:
    """The bytes of one entry, checked against its declared size and checksum, never more than the limit."""
    try:
        with archive.open(entry) as handle:
            return _inflated(handle, max(entry.compress_size, 1), name)
    except _BROKEN as error:
        raise _damaged(name, error) from error


def open_archive(data: bytes, name: str) -> zipfile.ZipFile:
    """The archive in these bytes; ICP-E013 when its directory is missing or broken, as in a truncated file."""
    try:
        return zipfile.ZipFile(io.BytesIO(data))
    except _BROKEN as error:
        raise _damaged(name, error) from error


def _from_zip(data: bytes, name: str) -> tuple[bytes, str]:
    if not data.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        raise BadInput(Problem("ICP-E014", "is not a zip file, whatever its name says", "pack it again", name))
    archive = open_archive(data, name)
    check_archive(archive, len(data), name)
    entry = _only_data_file(archive, name)
    return read_entry(archive, entry, name), held.ending(entry.filename)


def _only_data_file(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    """The one entry that can hold records."""
    entries = [e for e in archive.infolist() if not e.is_dir() and not _is_odd(e.filename)]
    inner = [e for e in entries if held.ending(e.filename).endswith((".zip", ".gz", ".7z", ".rar"))]
    if inner:
        raise _stop(f"holds another archive, {_shown(inner[0].filename)}", "pack the data file itself", name)
    found = [e for e in entries if held.ending(e.filename) in DATA]
    if len(found) > 1:
        names = ", ".join(sorted(_shown(e.filename) for e in found)[:5])
        raise _stop(f"holds {len(found)} data files: {names}", "unpack them, or pack each on its own", name)
    if not found:
        there = ", ".join(sorted(_shown(e.filename) for e in entries)[:5]) or "nothing"
        raise _stop(f"holds no data file ({', '.join(DATA)}), but {there}", "pack the export itself", name)
    return found[0]


def _is_odd(name: str) -> bool:
    """What systems add to archives by themselves."""
    return name.startswith(_ODD_NAMES) or PurePosixPath(name).name.startswith(".")


def _from_gzip(data: bytes, name: str) -> bytes:
    if not data.startswith(b"\x1f\x8b"):
        raise BadInput(Problem("ICP-E014", "is not a gzip file, whatever its name says", "pack it again", name))
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as handle:
            return _inflated(handle, len(data), name)
    except _BROKEN as error:
        raise _damaged(name, error) from error


def _inflated(handle: IO[bytes] | gzip.GzipFile, packed: int, name: str) -> bytes:
    """All bytes, stopping as soon as they are more than may be."""
    parts, size = [], 0
    while part := handle.read(_CHUNK):
        parts.append(part)
        size += len(part)
        _check_size(size, packed, name)
    return b"".join(parts)


def _check_size(size: int, packed: int, name: str) -> None:
    if size > held.LARGEST_FILE:
        raise _stop(f"unpacks to more than {held.LARGEST_FILE >> 30} GB", "export it as several files", name)
    if size > SURELY_SMALL and size > LARGEST_RATIO * packed:
        message = f"unpacks to more than {LARGEST_RATIO} times its size, as no export does"
        raise _stop(message, "look at where it comes from; unpack it by hand if it is right", name)


def _damaged(name: str, error: Exception) -> BadInput:
    """What is wrong with an archive, in words that do not depend on the library."""
    if isinstance(error, NotImplementedError):
        return _stop("is packed by a method that is not read", "pack it again as plain zip", name)
    return _stop("is truncated or damaged: it cannot be unpacked in full", "copy or export it again", name)


def _shown(name: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in name[:80])


def _stop(message: str, fix: str, name: str) -> BadInput:
    return BadInput(Problem("ICP-E013", message, fix, name))
