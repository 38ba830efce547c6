"""Reads nothing, makes imports cheaper: what a library loads and nobody here needs is hidden while it is imported."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_uri_grammar() -> Iterator[None]:
    """Hide rfc3987_syntax from jsonschema: it builds parsers for a second or more, to check addresses nobody gives it."""
    name = "rfc3987_syntax"
    hide = name not in sys.modules
    if hide:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if hide:
            sys.modules.pop(name, None)
