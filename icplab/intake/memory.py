"""Reads nothing; makes memory that is free in the process free for the machine."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_allocator() -> Iterator[None]:
    """Have Arrow take memory where NumPy and pandas take it.

    A page that one of them lets go then serves the other. From a pool of its own Arrow returns it to the system, which clears
    a page before it gives it out again: a tenth of the time of reading a large file.
    """
    import pyarrow as pa

    before = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        pa.set_memory_pool(before)


def give_back() -> None:
    """Return freed memory to the system, which allocators otherwise keep for later; where that cannot be asked, nothing."""
    import pyarrow as pa

    pa.default_memory_pool().release_unused()
    try:
        ctypes.CDLL(None).malloc_trim(0)  # of the C library of Linux
    except (AttributeError, OSError, TypeError):
        return
