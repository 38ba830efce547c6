"""Reads nothing; makes memory that is free in the process free for the machine."""

from __future__ import annotations

import ctypes


def give_back() -> None:
    """Return freed memory to the system, which allocators otherwise keep for later; where that cannot be asked, nothing."""
    import pyarrow as pa

    pa.default_memory_pool().release_unused()
    try:
        ctypes.CDLL(None).malloc_trim(0)  # of the C library of Linux
    except (AttributeError, OSError, TypeError):
        return
