"""Reads what the run is doing, makes one line per step on the terminal."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

REFRESH_SECONDS = 0.5
_CLEAR = "\r\x1b[2K"


class Progress:
    """Lines such as `30_segments     Segments: which groups of accounts behave alike     4.1 s`.

    On a terminal the seconds of the running step count up; elsewhere each line is printed once, when its step ends.

    Parameters
    ----------
    stream : where to print; default standard output
    quiet : print nothing
    """

    def __init__(self, stream: TextIO | None = None, quiet: bool = False) -> None:
        self.stream = stream or sys.stdout
        self.quiet = quiet
        self.times: dict[str, float] = {}
        self.lines: list[str] = []
        self._live = not quiet and self.stream.isatty()

    @contextmanager
    def step(self, name: str, doing: str) -> Iterator[None]:
        """Show what runs while the block does, then how long it took."""
        began = time.monotonic()
        stop = threading.Event()
        counter = threading.Thread(target=self._count, args=(name, doing, began, stop), daemon=True)
        if self._live:
            counter.start()
        how = "failed after "
        try:
            yield
            how = ""
        finally:
            stop.set()
            if self._live:
                counter.join()
            self.times[name] = round(time.monotonic() - began, 3)
            self._print(f"{_line(name, doing)} {how}{self.times[name]:.1f} s")

    def say(self, text: str) -> None:
        """One line."""
        self._print(text)

    def _count(self, name: str, doing: str, began: float, stop: threading.Event) -> None:
        while not stop.wait(REFRESH_SECONDS):
            print(
                f"{_CLEAR}{_line(name, doing)} {time.monotonic() - began:.0f} s …", end="", file=self.stream, flush=True
            )

    def _print(self, text: str) -> None:
        self.lines.append(text)
        if not self.quiet:
            print(f"{_CLEAR if self._live else ''}{text}", file=self.stream, flush=True)


def from_here(path: Path) -> str:
    """A path as one would type it: relative to the current folder where it lies below it."""
    here = path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _line(name: str, doing: str) -> str:
    return f"{name:<15} {doing[:56]:<56}"
