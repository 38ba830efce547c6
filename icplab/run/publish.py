"""Reads a finished run folder, makes a published one: manifest, one rename, the older run kept, interruptions healed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from icplab.core.errors import BadInput, DoesNotVerify, Locked, Problem
from icplab.core.store import sha256_of
from icplab.run.lock import hold_lock

MANIFEST = "manifest.json"
LATEST = "latest.json"
INTENT = ".publishing.json"
SUPERSEDED = ".superseded"
FORMAT = 1
"""Version of the manifest; a newer one than this is refused."""
# Differ between two runs on the same input, so the manifest leaves them out.
UNHASHED = ("run.log", "timing.json")


def write_manifest(folder: Path, facts: Mapping[str, object]) -> dict:
    """Write `manifest.json`: the facts of the run and the hash of every file.

    Parameters
    ----------
    folder : run folder, complete but for its manifest
    facts : what the run was made from (parameters, versions, inputs, verdicts); nothing that depends on the day

    Returns
    -------
    dict
        The manifest. `run_id` is the hash of all the rest of it, so an edited manifest does not verify either.
    """
    files = {name: sha256_of(folder / name) for name in _files(folder) if name not in (*UNHASHED, MANIFEST)}
    manifest: dict = {**facts, "format": FORMAT, "files": files}
    manifest["run_id"] = _run_id(manifest)
    write_durably(folder / MANIFEST, json.dumps(manifest, indent=1, sort_keys=True) + "\n")
    return manifest


def read_manifest(folder: Path) -> dict:
    """The manifest of a published run.

    Raises
    ------
    BadInput
        The folder is no run, or was written by a later version of icplab.
    DoesNotVerify
        The manifest is damaged, or missing beside artefacts.
    """
    path = folder / MANIFEST
    if not path.is_file() and (folder / "artifacts").is_dir():
        raise DoesNotVerify(f"{folder}: {MANIFEST}: missing")
    if not path.is_file():
        fix = "name a folder that `icplab run` published, such as reports/2026Q2"
        raise BadInput(
            Problem("ICP-E001", "is not a published run: it has no manifest.json", fix=fix, file=str(folder))
        )
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        format_, files = manifest["format"], manifest["files"]
        damaged = not (isinstance(files, dict) and isinstance(format_, int))
    except (ValueError, KeyError, TypeError) as error:
        raise DoesNotVerify(f"{path}: the manifest is damaged ({type(error).__name__})") from error
    if damaged:
        raise DoesNotVerify(f"{path}: the manifest is damaged")
    if format_ > FORMAT:
        raise BadInput(
            Problem(
                "ICP-E100", f"was written by a later icplab (format {format_}, this one reads {FORMAT})", file=str(path)
            )
        )
    return manifest


def verify_run(folder: Path | str) -> dict:
    """Recompute every hash of a published run.

    Returns
    -------
    dict
        Its manifest.

    Raises
    ------
    DoesNotVerify
        A file was changed, is missing, or is not in the manifest; every such file is named.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    wrong = [] if manifest.get("run_id") == _run_id(manifest) else [f"{MANIFEST}: edited after it was written"]
    present = set(_files(folder)) - {MANIFEST, *UNHASHED}
    for name, digest in sorted(manifest["files"].items()):
        if name not in present:
            wrong.append(f"{name}: missing")
        elif sha256_of(folder / name) != digest:
            wrong.append(f"{name}: changed after it was published")
    wrong += [f"{name}: not part of the run" for name in sorted(present - set(manifest["files"]))]
    if wrong:
        raise DoesNotVerify("\n".join(f"{folder}: {w}" for w in wrong))
    return manifest


def publish_run(staging: Path, target: Path) -> None:
    """Put a complete run folder in place, in one rename; an older run of that name moves to `.superseded/`.

    What is about to happen is written down first, so that `heal_reports` can finish or undo it after a kill at any
    point. The caller holds the lock.
    """
    reports = target.parent
    _seal(staging)
    older = _superseded_name(target) if target.exists() else None
    intent = {"staging": _inside(staging, reports), "target": target.name, "older": _inside(older, reports)}
    write_durably(reports / INTENT, json.dumps(intent) + "\n")
    if older:
        older.parent.mkdir(parents=True, exist_ok=True)
        os.rename(target, older)
        _sync_folder(older.parent)
    os.rename(staging, target)
    _sync_folder(reports)
    write_latest(reports)
    (reports / INTENT).unlink()
    _sync_folder(reports)


def heal_reports(reports: Path) -> str:
    """Finish or undo a publication that was interrupted; the caller holds the lock.

    Returns
    -------
    str
        What was done, in words; empty when there was nothing to do.
    """
    path = reports / INTENT
    if not path.is_file():
        return ""
    try:
        intent = json.loads(path.read_text(encoding="utf-8"))
        target, staging = reports / intent["target"], reports / intent["staging"]
        older = reports / intent["older"] if intent["older"] else None
    except (ValueError, KeyError, TypeError):
        path.unlink()
        return ""
    done = ""
    if not target.exists() and _verifies(staging):
        os.rename(staging, target)
        done = f"finished the interrupted publication of {target.name}"
    elif not target.exists() and older and older.exists():
        os.rename(older, target)
        done = f"put {target.name} back, as its replacement was never completed"
    _sync_folder(reports)
    write_latest(reports)
    path.unlink()
    return done


def heal_beside(run: Path) -> None:
    """Heal the folder that holds a run, unless a run is being written there right now."""
    reports = run.absolute().parent
    if (reports / INTENT).is_file():
        with suppress(Locked), hold_lock(reports):
            heal_reports(reports)


def find_runs(reports: Path) -> list[tuple[Path, dict]]:
    """Published runs beside each other, as (folder, manifest), oldest as-of date first; damaged ones are left out."""
    found = []
    for folder in sorted(p for p in reports.glob("*/") if not p.name.startswith(".") and (p / MANIFEST).is_file()):
        try:
            found.append((folder, read_manifest(folder)))
        except (BadInput, DoesNotVerify):
            continue
    return sorted(found, key=lambda run: (str(run[1].get("as_of", "")), run[0].name))


def write_latest(reports: Path) -> None:
    """Write `latest.json`: the complete run with the latest as-of date."""
    runs = [(folder, m) for folder, m in find_runs(reports) if m.get("complete")]
    if not runs:
        return
    folder, manifest = runs[-1]
    content = {"run": folder.name, "as_of": manifest["as_of"], "run_id": manifest["run_id"]}
    write_durably(reports / LATEST, json.dumps(content, indent=1, sort_keys=True) + "\n")


def write_durably(path: Path, text: str) -> None:
    """Write a file so that a crash leaves either the old or the new one, complete."""
    beside = path.with_name(f".{path.name}.part")
    with beside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)
    _sync_folder(path.parent)


def remove_folder(folder: Path) -> None:
    """Delete a folder of ours, also when its files are read-only."""
    shutil.rmtree(folder, ignore_errors=True)


def _run_id(manifest: Mapping[str, object]) -> str:
    rest = {k: v for k, v in manifest.items() if k != "run_id"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _files(folder: Path) -> Iterator[str]:
    """Every file below a folder, as relative names with forward slashes; a link counts as a file."""
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_dir():
            yield path.relative_to(folder).as_posix()


def _seal(folder: Path) -> None:
    """Make every file read-only and see to it that it is on the disk."""
    for name in _files(folder):
        with (folder / name).open("rb") as file:
            os.fchmod(file.fileno(), 0o444)
            os.fsync(file.fileno())
    for path in [*folder.rglob("*/"), folder]:
        _sync_folder(path)


def _superseded_name(target: Path) -> Path:
    place = target.parent / SUPERSEDED / target.name
    taken = [int(p.name) for p in place.glob("*") if p.name.isdigit()]
    return place / str(max(taken, default=0) + 1)


def _inside(path: Path | None, reports: Path) -> str:
    return path.relative_to(reports).as_posix() if path else ""


def _verifies(folder: Path) -> bool:
    try:
        verify_run(folder)
    except (BadInput, DoesNotVerify, OSError):
        return False
    return True


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
