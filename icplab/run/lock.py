"""One run at a time per reports folder: a lock that dies with its process."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from icplab.core.errors import Locked

LOCK_FILE = ".lock"


@contextmanager
def hold_lock(reports: Path) -> Iterator[None]:
    """Hold `reports/.lock` while the block runs.

    The kernel of the operating system frees it when the process ends, however it ends, so there is no stale lock; the
    process id in the file is only there to be named.

    Raises
    ------
    Locked
        Another process holds it.
    """
    handle = os.open(reports / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(handle, 32).decode("ascii", "replace").strip() or "unknown"
            raise Locked(
                f"another run (process {owner}) is writing to {reports}. Wait for it to end, or give --out another folder."
            ) from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(handle)
