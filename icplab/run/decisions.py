"""Reads `decisions.jsonl`, makes one more line of it: the council's register, each line chained to the one before."""

from __future__ import annotations

import datetime as dt
import fcntl
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from icplab.core.errors import BadInput, DoesNotVerify, Problem, no_folder
from icplab.governance import check_register, hash_decision

REGISTER = "decisions.jsonl"


def append_decision(
    workspace: Path | str,
    *,
    what: str,
    why: str,
    who: str,
    evidence: str = "",
    review: str = "",
    expect: Mapping[str, float] | None = None,
    at: str = "",
) -> dict:
    """Append a decision of the council to the workspace's register.

    Parameters
    ----------
    workspace : folder of the workspace
    what, why, who : what was decided, for which reason, who answers for it
    evidence : what it rests on, such as a finding's code and run
    review : date on which it is looked at again
    expect : KPI and the value it should then have
    at : date of the decision; default today

    Returns
    -------
    dict
        The line as written, with the hash of the line before (`prev`) and its own (`hash`).

    Raises
    ------
    BadInput
        An empty text, a malformed date, or a review before the decision.
    DoesNotVerify
        The register was edited by hand, or its last line is cut off.
    """
    at = at or dt.date.today().isoformat()
    problems = [_problem(k, v, "is empty") for k, v in (("what", what), ("why", why), ("who", who)) if not v.strip()]
    problems += [
        _problem(k, v, "is not a date like 2026-06-30")
        for k, v in (("at", at), ("review", review))
        if v and not _is_date(v)
    ]
    if not problems and review and review < at:
        problems.append(_problem("review", review, f"is before the decision of {at}"))
    if not Path(workspace).is_dir():
        problems.append(_problem("WORKSPACE", str(workspace), no_folder(Path(workspace))))
    if problems:
        raise BadInput(problems)
    entry = {
        "at": at,
        "what": what,
        "why": why,
        "who": who,
        "evidence": evidence,
        "review": review,
        "expect": dict(expect or {}),
    }
    return _append(Path(workspace) / REGISTER, entry)


def read_register(path: Path) -> list[dict]:
    """All decisions, oldest first; raises `DoesNotVerify` naming the line that was changed or cut off."""
    entries: list[dict] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            entries.append(json.loads(line))
        except ValueError as error:
            raise DoesNotVerify(f"{path}: line {number} is cut off or not JSON; restore it from a backup") from error
    broken = check_register(entries)
    if broken is not None:
        raise DoesNotVerify(f"{path}: line {broken} was changed after it was written, or a line before it was removed")
    return entries


def parse_expectations(given: Sequence[str]) -> dict[str, float]:
    """`--expect win_rate=0.4` as {"win_rate": 0.4}; raises `BadInput` for anything else."""
    expected, problems = {}, []
    for text in given:
        kpi, equals, value = text.partition("=")
        try:
            expected[kpi.strip()] = float(value)
        except ValueError:
            equals = ""
        if not (equals and kpi.strip()):
            problems.append(_problem("expect", text, "is not of the form kpi=number, such as win_rate=0.4"))
    if problems:
        raise BadInput(problems)
    return expected


def _append(path: Path, entry: dict) -> dict:
    """Check the chain and add a line, while nobody else does."""
    with path.open("a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        entries = read_register(path)
        body = {**entry, "prev": entries[-1]["hash"] if entries else ""}
        written = {**body, "hash": hash_decision(body)}
        file.write(json.dumps(written, sort_keys=True, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
    return written


def _is_date(text: str) -> bool:
    try:
        dt.date.fromisoformat(text)
    except ValueError:
        return False
    return len(text) == len("2026-06-30")


def _problem(option: str, value: str, message: str) -> Problem:
    return Problem("ICP-E100", message, file=f"--{option}" if option.islower() else option, value=value[:80])
