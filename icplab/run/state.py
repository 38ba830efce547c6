"""Reads and writes what is known of the steps of an unpublished run, so that an interrupted one can go on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from icplab.core.store import sha256_of
from icplab.run.publish import remove_folder, write_durably

STATE = "state"
# The step that writes files of its own beside artefacts, and where.
OWN_FOLDERS = {"60_activation": "activation"}


def step_key(base: Mapping[str, object], own: Mapping[str, object]) -> str:
    """Hash of everything that a step's results depend on."""
    return hashlib.sha256(json.dumps([base, own], sort_keys=True, default=str).encode()).hexdigest()


def record_step(work: Path, step: str, key: str) -> None:
    """Note that a step is finished: the hash of what it was made from, and of every file it made."""
    files = {p.relative_to(work).as_posix(): sha256_of(p) for p in _files_of(work, step)}
    _record(work, step).parent.mkdir(exist_ok=True)
    write_durably(_record(work, step), json.dumps({"key": key, "files": files}, indent=1, sort_keys=True) + "\n")


def finished_steps(work: Path, keys: Mapping[str, str]) -> set[str]:
    """Steps whose results are there, undamaged, and made from this very input.

    As a step's key contains the keys before it, a changed input makes it and all later steps stale.
    """
    return {step for step, key in keys.items() if _intact(work, step, key)}


def forget_step(work: Path, step: str) -> None:
    """Remove everything a step made."""
    for path in (*_files_of(work, step), _record(work, step)):
        path.unlink(missing_ok=True)
    for folder in (work / "steps" / step, work / OWN_FOLDERS.get(step, f"steps/{step}")):
        remove_folder(folder)


def _intact(work: Path, step: str, key: str) -> bool:
    try:
        record = json.loads(_record(work, step).read_text(encoding="utf-8"))
        present = {p.relative_to(work).as_posix(): sha256_of(p) for p in _files_of(work, step)}
        return record["key"] == key and record["files"] == present
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _record(work: Path, step: str) -> Path:
    return work / STATE / f"{step}.json"


def _files_of(work: Path, step: str) -> list[Path]:
    folders = [work / "steps" / step]
    if step in OWN_FOLDERS:
        folders.append(work / OWN_FOLDERS[step])
    files = [p for folder in folders for p in sorted(folder.rglob("*")) if p.is_file()]
    return files + [p for p in (work / "notebooks" / f"{step}.ipynb", work / f"{step}.html") if p.is_file()]
