"""Reads the run folder of the lab and the published runs beside it, makes the artefacts that an explorer starts from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from icplab.core.errors import BadInput, Problem
from icplab.core.store import Store
from icplab.step import Step


def results_of(step: Step, artefact: str, notebook: str) -> Store:
    """Where an artefact of this very input is: in the lab's own run, else in the newest published run of the same exports.

    Raises
    ------
    BadInput
        Neither holds it; the message names the notebook that makes it.
    """
    if step.has(artefact):
        return step.store
    for manifest in sorted(step.folder.parent.glob("[!.]*/manifest.json"), reverse=True):
        store = Store(manifest.parent)
        if _exports(manifest) == _hashes(step.inputs) and store.has(artefact):
            return store
    fix = f"run the notebook {notebook} first, or `icplab run` on this workspace"
    raise BadInput(Problem("ICP-E001", f"has no {artefact} yet", fix=fix, file=step.folder.name))


def _exports(manifest: Path) -> set[tuple[str, str]]:
    """Name and hash of the exports that a run was made from. Its settings may be others: a choice saved since then."""
    try:
        return _hashes(json.loads(manifest.read_text(encoding="utf-8"))["inputs"])
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def _hashes(inputs: Mapping[str, Any]) -> set[tuple[str, str]]:
    return {(entry["file"], entry["sha256"]) for entry in inputs["files"]}
