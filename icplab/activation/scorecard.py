"""Reads the frozen model, makes the scorecard in every form it is used in: points table, SQL, formulas, score rules."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from icplab.activation.dialects import DIALECTS, PROVED, card_in
from icplab.activation.files import write_text
from icplab.activation.formulas import field_names, hubspot_rules, salesforce_fields
from icplab.core.model import Model, points_table, win_probability


def card(model: Model) -> pd.DataFrame:
    """The scorecard of accounts, how points become a probability, and the tier cut points: to apply by hand or by formula."""
    points = points_table(model)
    intercept, slope = model.calibration
    rest = [("probability: 1 / (1 + exp(-(a + b x points)))", "a", intercept), ("", "b", slope)]
    rest += [(f"{tier} from expected value", "", cut) for tier, cut in model.cuts.items()]
    return pd.concat([points, pd.DataFrame(rest, columns=["input", "level", "points"])], ignore_index=True)


def chance_by_points(model: Model) -> pd.DataFrame:
    """Win probability of every total the card can give, so that nobody needs an exponential: points, win_probability."""
    lowest = model.base_points + sum(min(*i.points, i.missing) for i in model.inputs)
    highest = model.base_points + sum(max(*i.points, i.missing) for i in model.inputs)
    total = np.arange(int(lowest), int(highest) + 1)
    return pd.DataFrame({"points": total, "win_probability": np.round(win_probability(model, total), 4)})


def write_scorecard(model: Model, folder: Path) -> list[dict]:
    """Write the card as SQL for every dialect, as Salesforce formula fields and as HubSpot score rules; rows for the index."""
    written = []
    for dialect in DIALECTS:
        text = card_in(dialect, model)
        note = "equal to the last point on this engine" if dialect in PROVED else "transpiled and parsed back, not run"
        what = f"the scorecard as SQL for {DIALECTS[dialect]}"
        written.append(write_text(text, f"scorecard_{dialect}.sql", what, note, folder))
    fields = salesforce_fields(model)
    content = {"model_version": model.version, "as_of": model.as_of, "inputs": field_names(model), "fields": fields}
    note = "not run on the platform; compiled size is shown there by Check Syntax"
    written.append(_write_json(folder / "salesforce_formulas.json", content, "the scorecard as formula fields", note))
    content = {"model_version": model.version, "as_of": model.as_of, **hubspot_rules(model)}
    written.append(_write_json(folder / "hubspot_score.json", content, "the scorecard as score rules", ""))
    return written


def _write_json(path: Path, content: dict, what: str, note: str) -> dict:
    return write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", path.name, what, note, path.parent)
