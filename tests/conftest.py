"""Shared fixtures: a workspace small enough to check by hand, and the folder of public datasets where there is one."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pytest

from icplab.core.config import Settings, read_settings
from icplab.core.schema import CANONICAL, DTYPES

HERE = Path(__file__).parent
HAND = HERE / "workspaces" / "hand"
AS_OF = pd.Timestamp("2026-03-31").as_unit("us")


def typed(name: str, frame: pd.DataFrame) -> pd.DataFrame:
    """A text frame as a canonical table: declared columns typed and first, further columns as text."""
    frame = frame.replace("", None)
    for column in CANONICAL[name].columns:
        values = frame[column.name] if column.name in frame else pd.Series([None] * len(frame), index=frame.index)
        if column.kind == "flag":
            values = values.map({"yes": True, "no": False})
        if column.kind == "date":
            values = pd.to_datetime(values)
        frame[column.name] = values.astype(DTYPES[column.kind])
    declared = [c.name for c in CANONICAL[name].columns]
    return frame[declared + [c for c in frame if c not in declared]]


def hand_tables() -> dict[str, pd.DataFrame]:
    """The hand-countable workspace, read without the intake so that stages can be tested on their own."""
    tables = {name: table.empty() for name, table in CANONICAL.items()}
    for path in sorted(HAND.glob("*.csv")):
        frame = pd.read_csv(path, dtype="str", keep_default_na=False)
        tables[path.stem] = typed(path.stem, frame)
    return tables


@pytest.fixture(autouse=True)
def read_small_files_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """With ICPLAB_TEST_BLOCKS=1 every delimited file is read as large ones are: the same tests hold for both readers."""
    if os.environ.get("ICPLAB_TEST_BLOCKS"):
        monkeypatch.setattr("icplab.intake.large.LEAST_BYTES", 0)
        monkeypatch.setattr("icplab.intake.large.CODED_SHARE", 1.0)


@pytest.fixture
def tables() -> dict[str, pd.DataFrame]:
    return hand_tables()


@pytest.fixture
def settings() -> Settings:
    return read_settings(HAND)


@pytest.fixture
def as_of() -> pd.Timestamp:
    return AS_OF


@pytest.fixture
def datasets() -> Path:
    """Folder of the public datasets; the test is left out, with its reason, where there is none."""
    folder = os.environ.get("ICPLAB_DATASETS", "")
    if not folder or not Path(folder).is_dir():
        pytest.skip("ICPLAB_DATASETS does not name a folder of public datasets")
    return Path(folder)
