"""Reads what the run is doing, makes one line per step on the terminal."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

REFRESH_SECONDS = 0.5
_CLEAR = "\r\x1b[2K"


@dataclass
class Shown:
    """A line on the terminal; whoever shows it may say that it failed without an exception."""

    failed: bool = False


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
        self._running: tuple[str, str, float] | None = None
        self._lock = threading.Lock()
        self._counter: threading.Thread | None = None

    @contextmanager
    def step(self, name: str, doing: str) -> Iterator[Shown]:
        """Show what runs while the block does, then how long it took."""
        began = time.monotonic()
        self._running = (name, doing, began)
        self._start_counter()
        shown = Shown()
        try:
            yield shown
        except BaseException:
            shown.failed = True
            raise
        finally:
            self._running = None
            how = "failed after " if shown.failed else ""
            self.times[name] = round(time.monotonic() - began, 3)
            self.say(f"{_line(name, doing)} {how}{self.times[name]:.1f} s")

    def say(self, text: str) -> None:
        """One line."""
        with self._lock:
            self.lines.append(text)
            if not self.quiet:
                print(f"{_CLEAR if self._live else ''}{text}", file=self.stream, flush=True)

    def _start_counter(self) -> None:
        if self._live and not self._counter:
            self._counter = threading.Thread(target=self._count, daemon=True)
            self._counter.start()

    def _count(self) -> None:
        """Keep one line that shows what runs, and for how long it has."""
        while True:
            time.sleep(REFRESH_SECONDS)
            with self._lock:
                if self._running:
                    name, doing, began = self._running
                    text = f"{_line(name, doing)} {time.monotonic() - began:.0f} s …"
                    print(f"{_CLEAR}{text}", end="", file=self.stream, flush=True)


def from_here(path: Path) -> str:
    """A path as one would type it: relative to the current folder where it lies below it."""
    here = path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _line(name: str, doing: str) -> str:
    return f"{name:<15} {doing[:56]:<56}"
