"""Makes the table of figures that others publish about payback, LTV:CAC and retention, each with its source."""

from __future__ import annotations

import pandas as pd

# Figure, what is said, who says it, how near to the origin. Definitions are theirs; none of them judges a number of ours.
_FIGURES = (
    ("net revenue retention", "median 101 %", "Benchmarkit, 2025 benchmarks: benchmarkit.ai/2025benchmarks", "publisher"),
    ("sales and marketing spend per new annual revenue", "median 2.00", "Benchmarkit, 2025 benchmarks: benchmarkit.ai/2025benchmarks", "publisher"),
    ("CAC payback", "median 18 months, 14 the year before", "digitalapplied.com, citing Benchmarkit", "second hand"),
    ("CAC payback by size of customer", "below 12 months small, 18 mid, 24 enterprise", "omegapoint.systems, citing KBCM", "second hand"),
    ("LTV:CAC", "median 3.2 over 612 companies", "knowledgelib.io", "second hand"),
)  # fmt: skip


def list_outside_figures() -> pd.DataFrame:
    """Published figures to read beside one's own: `figure, said, source, origin`.

    They come from other businesses and other definitions (of CAC alone there are several), so they are shown as they are
    printed and never coloured, compared by the program or turned into a finding.
    """
    return pd.DataFrame(_FIGURES, columns=["figure", "said", "source", "origin"]).astype("str")
