"""Charts: what they say aloud, that their bytes depend on nothing but their numbers, that hostile names stay text."""

from __future__ import annotations

import hashlib
import itertools
import subprocess
import sys
import warnings
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from icplab.core import charts
from icplab.core import formats as fmt
from icplab.core.charts import fields, rows, series, style
from icplab.core.errors import ContractBroken
from tests.made_run import HOSTILE, estimates

ROOT = Path(__file__).parent.parent
SVG = "{http://www.w3.org/2000/svg}"
# Machado, Oliveira and Fernandes 2009 (IEEE TVCG 15:6), severity 1.0, on linear RGB.
COLOUR_BLIND = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def quarters(groups: int = 3) -> pd.DataFrame:
    cells = list(itertools.product([f"202{y}Q{q}" for y in (5, 6) for q in (1, 2, 3, 4)], range(groups)))
    table = pd.DataFrame(cells, columns=["period", "k"])
    table["level"] = table["k"].map(lambda k: HOSTILE[k])
    table["value"] = 0.2 + 0.05 * table["k"] + 0.01 * pd.factorize(table["period"])[0]
    return table.assign(low=table["value"] - 0.04, high=table["value"] + 0.04)


def grid() -> pd.DataFrame:
    cells = list(itertools.product(HOSTILE[:4], ("tier_1", "tier_2")))
    table = pd.DataFrame(cells, columns=["segment", "tier"])
    return table.assign(value=np.arange(8) * 1e5, n=np.arange(8) + 1.0)


def marks(size: int) -> pd.DataFrame:
    generator = np.random.default_rng(1)
    names = [HOSTILE[0], *[""] * (size - 1)]
    return pd.DataFrame({"fit": generator.normal(50, 15, size), "intent": generator.gamma(2, 10, size), "name": names})


def incidence() -> pd.DataFrame:
    days = np.arange(0, 366, 30.0)
    parts = [
        pd.DataFrame({"days": days, "value": top * (1 - np.exp(-days / 90)), "tier": t})
        for t, top in (("a", 0.3), ("b", 0.2))
    ]
    return pd.concat(parts).assign(low=lambda d: d["value"] * 0.9, high=lambda d: d["value"] * 1.1)


def funnel_points() -> pd.DataFrame:
    levels = [*HOSTILE[:4], "inside"]
    rows = {"level": levels, "value": [0.6, 0.05, 0.5, 0.31, 0.3], "n": [200.0, 150.0, 40.0, 80.0, np.nan]}
    return pd.DataFrame(rows).assign(outside=[True, True, False, False, False])


def funnel_limits() -> pd.DataFrame:
    n = np.geomspace(20, 400, 12)
    near, far = (z * np.sqrt(0.21 / n) for z in (1.96, 3.09))
    ends = {"near_low": 0.3 - near, "near_high": 0.3 + near, "far_low": 0.3 - far, "far_high": 0.3 + far}
    return pd.DataFrame({"n": n, **ends})


def bridge() -> pd.DataFrame:
    steps = [("then", 100.0, True), ("lost", -30.0, False), (HOSTILE[0], 10.0, False), ("now", 80.0, True)]
    return pd.DataFrame(steps, columns=["step", "value", "total"])


def all_charts() -> dict[str, charts.Chart]:
    title = f"Segment {HOSTILE[0]} wins most"
    table = estimates()
    return {
        "interval": charts.interval_chart(table, title=title, unit="fraction", reference=0.2, reference_label=HOSTILE[3]),
        "grouped": charts.interval_chart(
            pd.concat([table.assign(year="2025"), table.assign(year="2026")]), title=title, unit="fraction", group="year"
        ),
        "bar": charts.bar_chart(table.assign(value=table["n"] * 1e4), title=title, unit="money", currency="EUR"),
        "line": charts.line_chart(quarters(), x="period", title=title, unit="fraction", group="level", low="low", high="high"),
        "step": charts.step_chart(incidence(), group="tier", low="low", high="high", title=title),
        "matrix": charts.matrix_chart(grid(), "segment", "tier", title=title, unit="money", under="n", under_label="n"),
        "scatter": charts.scatter_chart(marks(60), "fit", "intent", title=title, label="name"),
        "funnel": charts.funnel_chart(funnel_points(), funnel_limits(), title=title, reference=0.3),
        "waterfall": charts.waterfall_chart(bridge(), title=title, currency="EUR"),
        "dense": charts.scatter_chart(marks(style.DENSE + 1), "fit", "intent", title=title),
    }  # fmt: skip


def digest(made: dict[str, charts.Chart]) -> str:
    return hashlib.sha256("".join(c.svg + c.alt for c in made.values()).encode()).hexdigest()


@pytest.fixture(scope="module")
def made() -> dict[str, charts.Chart]:
    return all_charts()


def contrast(one: str, other: str) -> float:
    """WCAG 2 contrast ratio of two colours."""
    lights = sorted((linear(c) @ [0.2126, 0.7152, 0.0722] for c in (one, other)), reverse=True)
    return float((lights[0] + 0.05) / (lights[1] + 0.05))


def linear(colour: str) -> np.ndarray:
    channels = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def lab(light: np.ndarray) -> np.ndarray:
    """CIELAB of linear RGB (D65)."""
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ light
    f = np.cbrt(np.maximum(xyz / [0.9505, 1.0, 1.089], 1e-9))
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def test_every_chart_is_well_formed_svg_with_title_and_alternative_text(made):
    for name, chart in made.items():
        root = ElementTree.fromstring(chart.svg)
        data, about = chart._repr_mimebundle_()
        assert root.tag == f"{SVG}svg", name
        assert data["image/svg+xml"] == chart.svg
        assert about["image/svg+xml"]["alt"] == chart.alt
        assert chart.alt.startswith(chart.title.rstrip(".")), name


def test_hostile_names_are_text_in_a_chart_and_nothing_else(made):
    for name, chart in made.items():
        root = ElementTree.fromstring(chart.svg)
        tags = {element.tag.removeprefix(SVG) for element in root.iter()}
        assert not tags & {"script", "foreignObject", "a", "iframe", "animate", "set"}, name
        handlers = [k for element in root.iter() for k in element.attrib if k.lower().startswith("on")]
        assert handlers == [], name
        assert "javascript:" not in "".join(v for e in root.iter() for k, v in e.attrib.items() if "href" in k)
        assert not any(c in chart.svg + chart.alt for c in "\x1b\u202e\x00\x08"), name


def test_dollar_signs_braces_and_foreign_scripts_are_drawn_as_they_are(made):
    texts = [e.text for e in ElementTree.fromstring(made["interval"].svg).iter(f"{SVG}text")]
    assert HOSTILE[2] in texts
    assert HOSTILE[6] in texts
    assert HOSTILE[11] in texts


def test_same_numbers_give_the_same_bytes_in_another_process(made):
    code = "from tests.test_charts import all_charts, digest; print(digest(all_charts()))"
    command = [sys.executable, "-W", "ignore", "-c", code]
    other = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, env={"PYTHONHASHSEED": "7"})
    assert other.stdout.strip() == digest(made)


def test_row_order_does_not_change_a_scatter_or_a_line_chart():
    shuffled = marks(60).sample(frac=1, random_state=3)
    assert charts.scatter_chart(shuffled, "fit", "intent").svg == charts.scatter_chart(marks(60), "fit", "intent").svg
    one, other = (
        charts.line_chart(t, x="period", title="t") for t in (quarters(1), quarters(1).sample(frac=1, random_state=3))
    )
    assert one.svg == other.svg


def test_charts_warn_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        charts.interval_chart(estimates(), title=HOSTILE[11], unit="fraction").svg  # noqa: B018


def test_alternative_text_reads_out_the_numbers_and_says_where_data_is_missing(made):
    alt = made["interval"].alt
    assert f"{fmt.plain(HOSTILE[0])} 35{fmt.THIN}% (28–44), n 480" in alt
    assert "not enough data" in alt or "more" in alt
    assert f"20{fmt.THIN}%" in alt
    assert "Matrix of 4 rows and 2 columns" in made["matrix"].alt
    assert f"from 2025Q1 20{fmt.THIN}% (16–24) to 2026Q4 27{fmt.THIN}% (23–31)" in made["line"].alt


def test_rows_without_enough_data_are_said_not_drawn():
    table = pd.DataFrame(
        {"level": ["a", "b"], "value": [0.2, 0.9], "low": 0.1, "high": 0.95, "status": ["ok", "insufficient"]}
    )
    chart = charts.interval_chart(table, unit="fraction", title="t")
    assert "not enough data" in chart.svg
    assert f"90{fmt.THIN}%" not in chart.svg
    assert "b not enough data" in chart.alt


def test_all_rows_missing_or_no_rows_still_make_a_chart():
    empty = estimates().head(0)
    for table in (empty, estimates().assign(value=np.nan)):
        assert ElementTree.fromstring(charts.interval_chart(table, title="t").svg) is not None
        assert ElementTree.fromstring(charts.bar_chart(table, title="t").svg) is not None
    assert charts.line_chart(quarters().head(0), x="period", title="t").svg
    assert charts.scatter_chart(marks(5).head(0), "fit", "intent", title="t").svg
    assert charts.matrix_chart(grid().head(0), "segment", "tier", title="t").svg


def test_bounds_far_away_do_not_squeeze_the_estimates():
    table = pd.DataFrame({"level": ["a", "b"], "value": [1.4, 2.1], "low": [1e-6, 1.5], "high": [1e9, 2.9]})
    figure = charts.interval_chart(table, unit="ratio", log=True, reference=1.0, title="t").figure
    low, high = figure.axes[0].get_xlim()
    assert 0.01 < low < 1
    assert 2.9 < high < 100


def test_many_marks_are_drawn_as_pixels_and_stay_light(made):
    heavy = charts.scatter_chart(marks(10_000), "fit", "intent", title="t").svg
    assert "data:image/png;base64," in made["dense"].svg
    assert "data:image/png" not in made["scatter"].svg
    assert len(heavy) < 500_000


def test_usual_charts_weigh_a_few_kilobytes(made):
    assert all(len(made[name].svg) < 40_000 for name in ("interval", "bar", "line", "matrix"))


def test_cropping_the_title_leaves_the_drawing_and_strangers_alone(made):
    svg = made["interval"].svg
    cropped = ElementTree.fromstring(charts.without_title(svg)).attrib
    whole = ElementTree.fromstring(svg).attrib
    head = float(whole["data-head"])
    assert head > 0
    assert float(cropped["height"]) == pytest.approx(float(whole["height"]) - head)
    assert cropped["viewBox"].split()[1] == f"{head:g}"
    assert charts.without_title("<svg/>") == "<svg/>"


def test_a_chart_is_dark_on_a_dark_page(made):
    svg = made["bar"].svg
    assert "prefers-color-scheme:dark" in svg
    drawn = {token for token in style.COLOURS if f"fill: var(--{token}," in svg or f"stroke: var(--{token}," in svg}
    assert {"s1", "ink"} <= drawn


def test_series_colours_stand_out_from_their_paper():
    for scheme in (0, 1):
        paper = style.COLOURS["paper"][scheme]
        for token in style.SERIES:
            assert contrast(style.COLOURS[token][scheme], paper) >= 4.5, token
        for token in ("ink", "muted"):
            assert contrast(style.COLOURS[token][scheme], paper) >= 4.5, token
        for step, token in enumerate(style.STEPS):
            ink = style.COLOURS["onlight" if step < 5 else "ondark"][scheme]
            assert contrast(ink, style.COLOURS[token][scheme]) >= 4.5, (token, scheme)


@pytest.mark.parametrize("kind", COLOUR_BLIND)
def test_series_colours_stay_apart_for_colour_blind_readers(kind):
    for scheme in (0, 1):
        seen = [
            lab(np.clip(np.array(COLOUR_BLIND[kind]) @ linear(style.COLOURS[t][scheme]), 0, 1)) for t in style.SERIES
        ]
        gaps = [np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)]
        assert min(gaps) >= 15, (kind, scheme, gaps)


def test_page_and_charts_use_the_same_colours():
    from icplab.report.page import page_style

    light, _, dark = str(page_style()).partition("@media (prefers-color-scheme: dark)")
    shared = ("paper", "ink", "muted", "rule", "grid", "onlight", "ondark", *style.STEPS)
    for token in shared:
        assert f"--{token}: {style.COLOURS[token][0]};" in light
        assert f"--{token}: {style.COLOURS[token][1]};" in dark


def test_matrix_shades_by_value_and_leaves_missing_cells_blank():
    steps = fields.shade(np.array([[0.0, 50.0], [100.0, np.nan]]))
    assert steps.tolist() == [[0, 3], [6, -1]]


def test_a_funnel_names_what_lies_outside_and_counts_what_does_not():
    said = charts.funnel_chart(funnel_points(), funnel_limits(), title="t", reference=0.3).alt
    assert said.count("outside the limits") == 2
    assert "2 points inside the limits around 30" in said
    assert "Funnel plot of 4 points" in said  # the one without n is not drawn


def test_a_waterfall_starts_each_change_where_the_last_one_ended():
    chart = charts.waterfall_chart(bridge(), title="t", currency="EUR")
    bars = [(p.get_x(), p.get_width()) for p in chart.figure.axes[0].patches]
    np.testing.assert_allclose(bars, [(0, 100), (100, -30), (70, 10), (0, 80)])
    assert f"lost {fmt.MINUS}EUR" in chart.alt
    assert charts.waterfall_chart(bridge().iloc[:0], title="nothing").svg.startswith("<svg")


def test_a_cell_named_twice_is_refused():
    with pytest.raises(ContractBroken, match="same cell twice"):
        charts.matrix_chart(pd.concat([grid(), grid()]), "segment", "tier")


def test_a_misspelt_column_is_named_with_the_nearest_one():
    with pytest.raises(ContractBroken, match='"levle", did you mean "level"'):
        charts.interval_chart(estimates(), label="levle")


def test_names_at_line_ends_keep_their_distance_and_order():
    places = series.spread([10.0, 11.0, 12.0, 290.0], gap=15, top=300)
    assert places == sorted(places)
    assert min(np.diff(places)) >= 15
    assert max(places) <= 300


def test_two_rows_with_the_same_label_are_both_labelled():
    table = pd.DataFrame({"level": ["a", "a"], "value": [0.1, 0.2]})
    assert charts.bar_chart(table, title="t").svg.count(">a</text>") == 2


def test_long_labels_are_cut_to_their_room():
    cut = style.fit("m" * 500, 100)
    assert cut.endswith("…")
    assert style.text_width(cut) <= 100


@pytest.mark.parametrize(
    ("unit", "at", "printed"),
    [("fraction", 0.25, f"25{fmt.THIN}%"), ("money", 2_500_000, f"2.5{fmt.THIN}M"), ("", -3, "−3"), ("count", 1200, "1,200")],
)  # fmt: skip
def test_ticks_are_short(unit, at, printed):
    assert rows.tick_label(at, unit) == printed


@pytest.mark.parametrize(
    ("given", "printed"),
    [
        (fmt.percent(0.312), "31 %"),
        (fmt.percent(0.0431), "4.3 %"),
        (fmt.percent(0.0996), "10 %"),
        (fmt.percent(-0.02), "−2.0 %"),
        (fmt.percent(-0.00001), "0.00 %"),
        (fmt.percent(float("nan")), "–"),
        (fmt.percent(float("inf")), "–"),
        (fmt.integer(4238), "4,238"),
        (fmt.money(10_005_534), "10,005,534"),
        (fmt.money_short(10_005_534, "EUR"), "EUR 10.0 M"),
        (fmt.money_short(999_950), "1.00 M"),
        (fmt.ratio(1.621), "1.62"),
        (fmt.number(0.00123), "0.0012"),
        (fmt.date("2026-06-30"), "30 Jun 2026"),
        (fmt.date(None), "–"),
        (fmt.estimate(0.312, 0.27, 0.351, "fraction"), "31 % (27–35)"),
        (fmt.estimate(0.043, 0.021, 0.069, "fraction"), "4.3 % (2.1–6.9)"),
        (fmt.estimate(0.0, 0.0, 0.0032, "fraction"), "0.0 % (0.0–0.3)"),
        (fmt.estimate(1.0, 0.9968, 1.0, "fraction"), "100.0 % (99.7–100.0)"),
        (fmt.estimate(0.0, 0.0, 0.0, "fraction"), "0 % (0–0)"),
        (fmt.estimate(-2, -4, 0.3), "−2.00 (−4.00 to 0.30)"),
        (fmt.estimate(57, 50, 61, "days"), "57 days (50–61)"),
        (fmt.estimate(0.3, float("nan"), 0.4, "fraction"), "30 %"),
    ],
)
def test_numbers_are_printed_one_way(given, printed):
    assert given.replace(fmt.THIN, " ") == printed


def test_plain_text_loses_what_escaping_would_keep():
    assert fmt.plain("\x1b[31mred\x1b[0m\u202e\x00 a\n\tb") == "red a b"
    assert fmt.plain("<b>") == "<b>"
    assert len(fmt.plain("x" * 999)) == fmt.LONGEST


def test_importing_the_charts_loads_no_plotting_library():
    code = (
        "import sys, icplab.core.charts; print([m for m in ('matplotlib', 'seaborn', 'nbconvert') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
