"""Reads what a frame is made from, makes it once per run: kept in the run's work area under a hash of all that went into it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from icplab.core.config import Settings, settings_to_json
from icplab.core.engine import DUCKDB, ENGINE_VARIABLE
from icplab.core.store import code_hash, sha256_of

ENGINES = ("duckdb", "pandas", "pyarrow")
# Kinds of columns that come back from the file as they went in; a frame with any other is made anew each time.
FAITHFUL = frozenset({"str", "float64", "int64", "int32", "bool", "boolean", "datetime64[us]"})
# The code that this process runs. Where the files have changed since, nobody can say which of the two made a frame.
LOADED = code_hash()


class Kept:
    """Frames made from the tables of one run folder, each made once, by whichever process needs it first.

    A frame is known by the bytes of all tables and settings, the code of icplab, the versions of the engines, and what it was
    asked for with. When any of these differs the frame is another one; frames made from other tables are removed.

    Parameters
    ----------
    folder : where the frames are kept
    tables : Parquet files that frames are made from
    settings : all settings, as frames are made with
    """

    def __init__(self, folder: Path, tables: Mapping[str, Path], settings: Settings) -> None:
        self.folder, self.tables, self.settings = folder, tables, settings
        self.base, self.stamps = "", self._stamps()

    def frame(self, name: str, make: Callable[[], pd.DataFrame], **asked: object) -> pd.DataFrame:
        """The frame of this name, from the file if it is there, else from `make`; always as the file gives it back.

        Parameters
        ----------
        name : what is made, and the beginning of the file's name
        make : makes the frame; depends on nothing but tables, settings, code and `asked`
        asked : what it was asked for with, such as the date
        """
        if not self._holds():
            return make()
        path = self.folder / self.base / f"{name}-{_hash([name, asked])}.parquet"
        found = _read(path)
        if found is None:
            made = make()
            if not (self._holds() and _write(made, path)):
                return made
            self._remove_others()
            found = _read(path)
            return made if found is None else found
        return found

    def _holds(self) -> bool:
        """Whether tables and code are still those that the hash was taken of; takes it the first time."""
        if self._stamps() != self.stamps or code_hash() != LOADED:
            return False
        if not self.base:
            tables = {name: sha256_of(path) for name, path in self.tables.items()}
            engine = [os.environ.get(ENGINE_VARIABLE, "") or DUCKDB, *map(version, ENGINES)]
            self.base = _hash([tables, settings_to_json(self.settings), LOADED, engine])
        return self._stamps() == self.stamps

    def _stamps(self) -> dict[str, tuple[int, int, int]]:
        """Place, size and time of every file: they are replaced, never written into."""
        found = {name: path.stat() for name, path in self.tables.items() if path.exists()}
        return {name: (s.st_ino, s.st_size, s.st_mtime_ns) for name, s in found.items()}

    def _remove_others(self) -> None:
        for other in self.folder.iterdir():
            if other.name != self.base:
                shutil.rmtree(other, ignore_errors=True)


def _hash(of: object) -> str:
    return hashlib.sha256(json.dumps(of, sort_keys=True, default=str).encode()).hexdigest()[:24]


def _read(path: Path) -> pd.DataFrame | None:
    """The frame as it was written; None where there is none, or it is damaged."""
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)
        return file.read().to_pandas(split_blocks=True, self_destruct=True)
    except (OSError, pa.ArrowException):
        return None


def _write(frame: pd.DataFrame, path: Path) -> bool:
    """Write under a name of its own, then put in place: readers see a whole file or none. False where that cannot be done."""
    if not {str(t) for t in frame.dtypes} <= FAITHFUL or not frame.columns.is_unique:
        return False
    beside = ""
    try:  # a full disk or a folder for reading only costs time, not the run
        path.parent.mkdir(parents=True, exist_ok=True)
        number, beside = tempfile.mkstemp(prefix=path.stem, suffix=".part", dir=path.parent)
        os.close(number)
        table = pa.Table.from_pandas(frame, preserve_index=False)
        pq.write_table(table, beside, compression="zstd", write_page_checksum=True)
        os.replace(beside, path)
    except OSError:
        if beside:
            with contextlib.suppress(OSError):
                os.unlink(beside)
        return False
    return True
