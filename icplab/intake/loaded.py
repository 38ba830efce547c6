"""Reads opportunities, makes known that their creation date is the day on which they were loaded into the CRM."""

from __future__ import annotations

from dataclasses import replace

from icplab.core.config import Settings
from icplab.intake.batch import Batch

LEAST = 10  # opportunities; fewer may well have been created on one day


def without_load_date(batch: Batch, settings: Settings) -> Settings:
    """Settings that say so when opportunities carry no usable dates (ICP-W056); else the settings as they are.

    All records created on one day, some of them closed before it: a migration wrote its own day over the true one. Setting
    aside what closed before would keep a biased rest, and counting days from it would be wrong for everything, so the dates
    go, and what needs time is not measured.
    """
    if batch.table.name != "opportunities" or not settings.source("opportunities").dated:
        return settings
    frame = batch.frame
    created, over = frame["created_at"], frame["status"].isin(["won", "lost"])
    early = (frame["closed_at"] < created) & over & batch.live
    if not early.any() or created[batch.live].count() < LEAST or created[batch.live].nunique() > 1:
        return settings
    message = (
        f"all opportunities were created on {created.max():%Y-%m-%d} and {early.sum():,} of them closed before: it is the "
        "day they were loaded. Their dates are left out, and what needs time is not measured"
    )
    fix = 'name the column with the true date: [columns.opportunities] created_at = "…"; or accept it: [sources.opportunities] dated = false'
    batch.say("ICP-W056", message, fix=fix, column="created_at", count=int(early.sum()))
    batch.frame = frame.assign(**{c: frame[c].mask(frame[c].notna()) for c in ("created_at", "closed_at")})
    source = replace(settings.source("opportunities"), dated=False)
    return replace(settings, sources={**settings.sources, "opportunities": source})
