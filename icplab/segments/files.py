"""Reads a frozen assigner, makes it as the files that a warehouse and a CRM take: a query, formula fields, points."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pandas as pd

from icplab.segments.formula import write_formulas, write_points, write_sql


def assigner_files(assigner: Mapping) -> dict[str, tuple[str, pd.DataFrame | str]]:
    """Files that assign accounts to segments outside of this tool.

    Parameters
    ----------
    assigner : `Segmentation.assigner`, or the same read back from the artefact `segmentation`

    Returns
    -------
    File name to what it is and its content, a text or a table. The query and the fields give every account the segment that the
    assigner gives it; fields and points are left out where there are none (the whole market; bands have no points).
    """
    files: dict[str, tuple[str, pd.DataFrame | str]] = {
        "segment_assigner.sql": (
            "the segment of every row of an account table, as one query",
            write_sql(assigner) + "\n",
        )
    }
    fields, points = write_formulas(assigner), write_points(assigner)
    if len(fields):
        # Not a table: a cell that starts with a minus would be taken for a formula of the spreadsheet.
        text = json.dumps(fields.to_dict("records"), indent=1, ensure_ascii=False) + "\n"
        files["segment_formulas.json"] = ("the segment as Salesforce formula fields, in the order to make them", text)
    if len(points):
        files["segment_points.csv"] = ("what each fact is worth for each segment", points)
    return files
