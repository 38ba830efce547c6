"""What would lift an account by a tier: the smallest change, of inputs that can change, proved by scoring it again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from icplab.core.model import Input, Model, Value, apply_model
from icplab.tiers import changeable_traits, list_changes
from icplab.tiers.changes import NOTHING


def line(trait: str, yes: int, kind: str = "flag", **more) -> Input:
    return Input(trait, "accounts", kind, ("no", "yes"), (0.0, float(yes)), missing=0.0, **more)


MODEL = Model(
    as_of="2026-06-30", tool="t", settings="s", horizon_days=365, currency="EUR", verdict="usable", base_rate=0.3,
    inputs=(line("big", 20), line("uses_crm", 6), line("sells_online", 10), line("stack", 5, "item", item="erp")),
    calibration=(-2.0, 0.1), value=Value("amount", intercept=float(np.log(1000.0))),
    cuts={"tier_1": 400.0, "tier_2": 230.0, "tier_3": 100.0},
)  # fmt: skip
# 1,000 × logistic(-2 + points / 10): 0 → 119, 5 → 182, 6 → 198, 10 → 269, 15 → 378, 16 → 401, 20 → 500.


def market(rows: list[tuple]) -> pd.DataFrame:
    big, crm, online, stack = zip(*rows, strict=True)
    frame = pd.DataFrame({"account_id": [f"a{k}" for k in range(len(rows))], "name": "N", "stack": list(stack)})
    flags = {"big": big, "uses_crm": crm, "sells_online": online}
    frame = frame.assign(**{k: pd.array(list(v), dtype="boolean") for k, v in flags.items()})
    fixed = {"segment_id": "S1", "motion": "new", "account_type": "prospect", "n_opportunities": 1.0}
    return frame.assign(**fixed).astype({"stack": "str", "segment_id": "str"})


CAN = ("uses_crm", "sells_online", "stack")


def changes(rows: list[tuple], model: Model = MODEL, can: tuple[str, ...] = CAN) -> pd.DataFrame:
    made = market(rows)
    return list_changes(model, made, apply_model(model, made), can).set_index("account_id")


def test_one_input_is_preferred_and_what_an_account_is_stays():
    told = changes([(False, False, False, "crm")]).loc["a0"]  # 119: tier_3; 230 needs 10 points at least
    assert (told["tier"], told["would_be"]) == ("tier_3", "tier_2")
    assert told["change"] == "sells_online: no → yes"
    assert told["points"] == 10
    assert told["expected_value"] == pytest.approx(268.94, abs=0.01)


def test_two_inputs_where_one_is_not_enough_and_the_fewest_points():
    told = changes([(False, False, True, "crm")]).loc["a0"]  # 269: tier_2; 400 needs 6 more
    assert told["change"] == "uses_crm: no → yes"
    told = changes(
        [(False, False, False, "crm")],
        replace(MODEL, inputs=(line("big", 20), *(line(t, 6) for t in ("uses_crm", "sells_online", "x")))),
    ).loc["a0"]
    assert told["change"] == "uses_crm: no → yes; sells_online: no → yes"
    assert told["points"] == 12


def test_an_unknown_value_can_be_found_out_even_of_what_cannot_change():
    told = changes([(pd.NA, False, False, "crm")], can=())
    assert told.loc["a0", "change"] == "big: unknown → yes"
    assert changes([(False, False, False, "crm")], can=()).loc["a0", "change"] == NOTHING


def test_items_of_a_list_join_the_others():
    model = replace(MODEL, inputs=(line("stack", 12, "item", item="erp"),))
    assert changes([(False, False, False, "crm")], model).loc["a0", "change"] == "stack: erp: no → yes"


def test_money_moves_with_the_input_too():
    rich = Input("uses_crm", "accounts", "flag", ("no", "yes"), (0.0, float(np.log(2.0))), missing=0.0)
    model = replace(MODEL, value=replace(MODEL.value, inputs=(rich,)))
    told = changes([(False, False, False, "crm")], model).loc["a0"]  # 6 points and twice the money: 396
    assert told["change"] == "uses_crm: no → yes"
    assert told["expected_value"] == pytest.approx(2 * 197.82, abs=0.02)


def test_every_change_told_holds_when_the_account_is_scored_again():
    rng = np.random.default_rng(4)
    rows = [(*(bool(v) for v in rng.random(3) < 0.4), "crm;erp" if rng.random() < 0.4 else "crm") for _ in range(60)]
    made = market(rows)
    told = list_changes(MODEL, made, apply_model(MODEL, made), CAN, most=60)
    told = told[told["change"] != NOTHING].set_index("account_id")
    assert len(told) > 20
    moved = made.set_index("account_id").loc[told.index].copy()
    for account, text in told["change"].items():
        for part in text.split("; "):
            trait = part.rsplit(": ", 1)[0]
            value = part.endswith("yes")
            moved.loc[account, "stack" if ":" in trait else trait] = "crm;erp" if ":" in trait else value
    again = apply_model(MODEL, moved.reset_index()).set_index("account_id")
    assert (again["tier"] <= told["would_be"]).all()
    assert np.allclose(again["expected_value"], told["expected_value"], atol=0.01)


def test_only_behaviour_and_technology_can_change():
    catalogue = pd.DataFrame(
        {
            "trait": ["industry", "stack", "readiness", "stage"],
            "table": ["accounts", "accounts", "accounts", "opportunities"],
            "family": ["firmographic", "technographic", "firmographic", "behavioural"],
            "role": ["", "", "maturity", ""],
        }
    )
    assert changeable_traits(catalogue) == ("readiness", "stack")


def test_without_tiers_there_is_nothing_to_lift():
    made = market([(False, False, False, "crm")])
    without = replace(MODEL, verdict="no-usable-ranking", cuts={})
    assert list_changes(without, made, apply_model(without, made), CAN).empty
