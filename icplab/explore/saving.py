"""Reads a choice made in an explorer, makes it a line of `icplab.toml`: comments stay, nothing half-written, nothing invalid."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from icplab.core.config import SETTINGS_FILE, read_settings
from icplab.core.errors import BadInput, Problem

BESIDE = ("playbook.toml",)


def save_settings(workspace: Path | str, choices: Mapping[str, Any]) -> str:
    """Write settings into the workspace's `icplab.toml`, which is made when it is not there.

    Parameters
    ----------
    workspace : folder of the exports
    choices : value by dotted name, such as `goals.land_vs_expand`

    Returns
    -------
    str
        What was written, in a sentence. The next run uses it.

    Raises
    ------
    BadInput
        The workspace is no folder, the file is no TOML, or the settings would not be valid; the file is as it was.
    """
    folder = Path(workspace)
    if not folder.is_dir():
        raise BadInput(Problem("ICP-E001", "is not a folder", fix="open the lab with a workspace", file=folder.name))
    path = folder / SETTINGS_FILE
    text = _changed(path.read_text(encoding="utf-8") if path.is_file() else "", choices)
    _check(text, folder)
    beside = path.with_suffix(".toml.part")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)
    told = ", ".join(f"{name} = {tomlkit.item(value).as_string()}" for name, value in choices.items())
    return f"Saved in {SETTINGS_FILE}: {told}. The next run uses it."


def _changed(text: str, choices: Mapping[str, Any]) -> str:
    try:
        document = tomlkit.parse(text)
    except TOMLKitError as error:
        raise BadInput(Problem("ICP-E100", f"is no TOML: {error}", fix="correct it", file=SETTINGS_FILE)) from error
    for name, value in choices.items():
        *sections, key = name.split(".")
        place: Any = document
        for section in sections:
            if section not in place:
                place[section] = tomlkit.table()
            place = place[section]
        place[key] = value
    return tomlkit.dumps(document)


def _check(text: str, folder: Path) -> None:
    """Read the settings as a run would, from a copy."""
    with tempfile.TemporaryDirectory(prefix="icplab-") as scratch:
        (Path(scratch) / SETTINGS_FILE).write_text(text, encoding="utf-8")
        for name in BESIDE:
            if (folder / name).is_file():
                shutil.copyfile(folder / name, Path(scratch) / name)
        read_settings(Path(scratch))
