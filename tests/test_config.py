"""Settings: every key declared, wrong ones named with the nearest right one, all at once."""

from __future__ import annotations

import dataclasses
import typing

import pytest

from icplab.core import config
from icplab.core.errors import BadInput


def written(folder, text: str, name: str = "icplab.toml"):
    (folder / name).write_text(text, encoding="utf-8")
    return folder


def test_a_folder_without_settings_gets_the_defaults_and_says_so(tmp_path):
    settings = config.read_settings(tmp_path)
    assert settings.plan.horizon_days == 365
    assert "plan" in settings.defaults_taken
    assert settings.playbook == {}


def test_every_wrong_key_is_named_at_once_with_the_nearest_right_one(tmp_path):
    text = "[plan]\nhorizon_dayz = 3\nfdr = 2.0\n[goalz]\na = 1\n[privacy]\nshow_owners = 'x'\n"
    with pytest.raises(BadInput) as caught:
        config.read_settings(written(tmp_path, text))
    message = str(caught.value)
    assert 'did you mean "horizon_days"' in message
    assert 'did you mean "goals"' in message
    assert '"privacy.show_owners": "x" must be true or false' in message
    assert all(problem.code == "ICP-E100" and problem.fix for problem in caught.value.problems)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("[plan]\nfdr = 1.5", "must lie between 0 and 1"),
        ("[plan]\nmax_segments = 12", "must lie between 2 and 7"),
        ("[traits.size]\nfamily = 'firmografic'", 'did you mean "firmographic"'),
        ("[value]\namount_is = 'anual'", 'did you mean "annual"'),
        ("[sources.opportunity]\nfile = 'x.csv'", 'did you mean "opportunities"'),
        ("[plan]\nhorizon_days = true", "must be a whole number"),
        ("[workspace]\nas_of = 'soon'", "must be a date like 2026-06-30"),
        ("[plan]\ncuts = 'industry'", "must be a list"),
        ("[plan]\na = 1\na = 2", "is not valid TOML"),
    ],
)
def test_a_wrong_value_is_refused_with_what_is_allowed(tmp_path, text, part):
    with pytest.raises(BadInput) as caught:
        config.read_settings(written(tmp_path, text))
    assert part in str(caught.value)


def test_settings_survive_being_written_to_the_run_folder(tmp_path):
    text = """
    [workspace]
    as_of = 2026-06-30
    [traits.size]
    kind = "category"
    [sources.accounts]
    multiply = { annual_revenue = 1000000 }
    [values.opportunities.status]
    Won = "won"
    """
    written(tmp_path, "[segments.S1]\nmessage = 'x'\n", "playbook.toml")
    settings = config.read_settings(written(tmp_path, text))
    again = config.settings_from_json(config.settings_to_json(settings))
    assert again == settings
    assert again.playbook == {"segments": {"S1": {"message": "x"}}}


def test_the_plan_hash_follows_the_plan_and_nothing_else(tmp_path):
    base = config.read_settings(tmp_path)
    changed = dataclasses.replace(base, plan=dataclasses.replace(base.plan, fdr=0.05))
    renamed = dataclasses.replace(base, workspace=config.Workspace(name="Other"))
    assert changed.plan_hash() != base.plan_hash() == renamed.plan_hash()


def test_every_setting_has_a_default():
    for name, kind in typing.get_type_hints(config.Settings).items():
        assert hasattr(config.Settings(), name), kind
