"""Reads a simulated market, makes icplab's answer: the stages called as the notebooks call them, without pages."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pandas as pd

from benchmarks.judge import Answer
from icplab import features, performance, scores, segments, tiers, traits
from icplab.core.config import Settings, read_settings
from icplab.core.findings import Finding
from icplab.core.model import add_segments, with_posteriors
from icplab.performance.levels import place_opportunities


def settings_of(market) -> Settings:
    """Settings of a simulated workspace, read the way a run reads them."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "icplab.toml").write_text(market.settings_toml, encoding="utf-8")
        Path(folder, "playbook.toml").write_text(market.playbook_toml, encoding="utf-8")
        return read_settings(Path(folder))


def analyse(market, seed: int) -> tuple[Answer, dict[str, float]]:
    """icplab's answer to a market, and figures about how it got there (calibration slope stated forward, points used)."""
    settings = settings_of(market)
    as_of = pd.Timestamp(settings.workspace.as_of).as_unit("us")
    accounts = features.build_accounts(market.tables, settings, as_of)
    opportunities = features.build_opportunities(market.tables, settings, as_of)
    catalogue = features.build_catalogue(market.tables, settings)
    found = segments.fit_segments(accounts, catalogue, settings=settings, seed=seed)
    audit = traits.audit_leaks(
        *(opportunities, accounts, catalogue, settings),
        as_of=as_of,
        field_history=market.tables["field_history"],
        segments=found.assignments,
    )
    table = traits.measure_traits(
        *(opportunities, accounts, catalogue, found.assignments, settings),
        as_of=as_of,
        seed=seed,
        audit=audit,
        posteriors=found.posteriors,
        subscriptions=market.tables["subscriptions"],
    )
    members = with_posteriors(found.assignments, segments.posteriors_of(found.assigner, accounts))
    training = scores.build_training(
        *(accounts, opportunities, catalogue, members, settings, as_of), scores.quarantined_traits(table)
    )
    check = scores.check_forward(training, settings, seed)
    model = scores.fit_model(training, check, settings, market.tables["subscriptions"], segments=found.assigner)
    scored = scores.score_accounts(model, accounts, members, market.tables["activities"], as_of)
    model, scored = tiers.set_tiers(model, add_segments(accounts, members), scored, settings)
    supported = table[(table["scope"] == "all") & (table["outcome"] == "win") & (table["verdict"] == "supported")]
    keys = zip(supported["trait"], supported["level"], strict=True)
    by_account = scored.set_index("account_id")
    answer = Answer(
        segments=found.assignments.set_index("account_id")["segment_id"],
        traits=dict(zip(keys, supported["direction"].map({"+": 1, "-": -1}), strict=True)),
        win=by_account["win_probability"],
        value=by_account["expected_value"],
        usable=bool((scored["tier"] == "tier_1").any()),
    )
    return answer, {"natural": float(found.verdict == "natural")}


def performance_findings(
    market, seed: int, compare: bool = True
) -> tuple[list[Finding], pd.DataFrame, dict[str, pd.Series]]:
    """Findings of the performance step as its notebook calls them, the opportunities, and their levels per cut.

    With fewer resamples; without `compare` the comparison of crude with standardised rates, and so `reversal`, is left out.
    """
    settings = settings_of(market)
    as_of = pd.Timestamp(settings.workspace.as_of).as_unit("us")
    seen = features.view_on(market.tables, as_of)
    opportunities = features.build_opportunities(market.tables, settings, as_of)
    accounts = features.build_accounts(market.tables, settings, as_of)
    catalogue = features.build_catalogue(seen, settings)
    given = {"accounts": accounts, "settings": settings, "as_of": as_of, "seed": seed}
    shown = performance.choose_cuts(catalogue, settings)["cut"].tolist()
    cuts = performance.choose_cuts(catalogue, settings, most=40, most_levels=40)["cut"].tolist()
    kpis = performance.measure_kpis(opportunities, targets=seen["targets"], replicates=100, **given)
    compared = performance.compare_cuts(opportunities, cuts if compare else [], replicates=80, **given)
    dated = {name: seen[name] for name in ("events", "stage_history")}
    looked = {"cuts": cuts, "shown": shown, "comparisons": compared}
    found = performance.findings(kpis, opportunities=opportunities, **looked, **dated, **given)
    return found, opportunities, place_opportunities(cuts, accounts, opportunities)
