"""Reads `messages.toml`, makes what every message code means, an example, what to do, and the page `docs/messages/`.

A code is ICP-, the outcome (E stops, Q sets aside, R repairs, W keeps and warns) and a number; the same number is the same
hazard in every outcome.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PAGE = "docs/messages/README.md"
_OUTCOMES = {
    "E": "Stops a run. Nothing is written until it is mended.",
    "Q": "Sets the record aside. It stands in `rejects.csv` and is left out of every figure.",
    "R": "Repairs what has only one sensible reading, and says so.",
    "W": "Keeps the record as it is and says what is doubtful.",
}
_TOLERATED = {
    "quarantine": "`[tolerance] quarantine = 0.01` sets up to that share of records aside instead; the code is then {}.",
    "orphans": "`[tolerance] orphans = 0.05` sets up to that share of records aside instead; the code is then {}.",
}


@dataclass(frozen=True)
class Message:
    """One code: what it means, what to do about it, and what it looks like."""

    code: str
    title: str
    means: str
    do: str
    tolerate: str = ""
    """Key of `[tolerance]` by which a stop becomes setting aside; empty when nothing does."""
    example: str = ""


@cache
def messages() -> dict[str, Message]:
    """Every declared message by its code."""
    text = Path(__file__).with_name("messages.toml").read_text(encoding="utf-8")
    return {code: Message(code, **parts) for code, parts in tomllib.loads(text).items()}


def message_of(code: str) -> Message | None:
    """The declaration of a code; a tolerated stop (ICP-Q049) has that of the stop. None when there is none."""
    declared = messages()
    stop = declared.get(code.replace("ICP-Q", "ICP-E"))
    return declared.get(code) or (stop if stop and stop.tolerate else None)


def page() -> str:
    """All messages as one Markdown page, a heading per code."""
    lines = [
        "# Messages of the intake",
        "",
        "Generated from `icplab/core/messages.toml` by `make docs`; do not edit by hand.",
        "",
        "A code is the outcome and a number: **E** stops a run, **Q** sets a record aside, **R** repairs, **W** warns.",
        "All messages of a workspace come at once: `icplab check WORKSPACE`.",
    ]
    for letter, meaning in _OUTCOMES.items():
        lines += ["", f"## {letter}: {meaning.split('.')[0].lower()}", "", meaning]
        for message in messages().values():
            if message.code[4] == letter:
                lines += ["", *_entry(message)]
    return "\n".join(lines)


def _entry(message: Message) -> list[str]:
    """One code on the page."""
    lines = [f"### {message.code}", "", f"**{message.title}.** {message.means}", "", f"*What to do:* {message.do}"]
    if message.tolerate:
        tolerated = _TOLERATED[message.tolerate].format(message.code.replace("-E", "-Q"))
        lines += ["", f"*To go on without mending:* {tolerated}"]
    if message.example:
        lines += ["", "```text", message.example, "```"]
    return lines


if __name__ == "__main__":
    print(page())
