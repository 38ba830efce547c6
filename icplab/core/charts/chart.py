"""Reads a drawn figure, makes a `Chart`: one SVG with its title, and the words for those who do not see it."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from typing import Any

from icplab.core import formats as fmt
from icplab.core.charts import style

ALT_ITEMS = 14  # rows that an alternative text reads out one by one
LINE = 1.3  # line height of title and note, in font sizes
# The text in an SVG of matplotlib carries its whole font list; ours is set once per chart.
_FONT_LIST = re.compile(r"'DejaVu Sans'[^;\"]*sans-serif")
_ROOT = re.compile(
    r'viewBox="0 0 (?P<w>[\d.]+) (?P<h>[\d.]+)" width="[\d.]+" height="[\d.]+" data-head="(?P<head>[\d.]+)"'
)


@dataclass(frozen=True)
class Chart:
    """A chart that notebooks display.

    Attributes
    ----------
    title : the finding the chart shows, a sentence
    alt : alternative text, made from the chart's own numbers
    figure : the matplotlib figure (without the title, which is set as text above it)
    note : what the marks are (unit, interval, basis), printed under the title
    """

    title: str
    alt: str
    figure: Any = field(repr=False)
    note: str = ""

    @cached_property
    def svg(self) -> str:
        """The chart with title and note, self-contained, light and dark; equal numbers give equal bytes."""
        body = _body(self.figure)
        height = float(self.figure.get_size_inches()[1] * 72)
        head, top = _head(self.title, self.note)
        total = height + top
        size = f"{style.WIDTH} {total:g}"
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" class="icp" '
            f'viewBox="0 0 {size}" width="{style.WIDTH}" height="{total:g}" data-head="{top:g}" role="img" '
            f'aria-label="{escape(self.title)}"><style>{style.STYLE}*{{stroke-linejoin:round;stroke-linecap:butt}}'
            f'</style><path d="M0 0H{style.WIDTH}V{total:g}H0z" style="fill:var(--paper,#fffffe)"/>{head}'
            f'<g transform="translate(0 {top:g})">{body}</g></svg>'
        )

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict, dict]:
        about = {"alt": self.alt, "title": self.title, "note": self.note}
        return {"image/svg+xml": self.svg, "text/plain": self.alt}, {"image/svg+xml": about}


def without_title(svg: str) -> str:
    """The same chart cropped to its drawing, for pages that set title and note as text of their own.

    An SVG that is not one of ours comes back as it is.
    """
    return _ROOT.sub(_cropped, svg, count=1)


def describe(title: str, kind: str, items: Iterable[str], extra: str = "") -> str:
    """Alternative text: the finding, what kind of chart it is, and its numbers."""
    items = list(items)
    told = "; ".join(items[:ALT_ITEMS])
    more = f"; and {len(items) - ALT_ITEMS} more" if len(items) > ALT_ITEMS else ""
    end = "" if title.rstrip().endswith((".", "!", "?")) else "."
    return fmt.plain(f"{title}{end} {kind}: {told}{more}.{' ' + extra if extra else ''}", 4000)


def _cropped(match: re.Match[str]) -> str:
    width, height, head = match["w"], float(match["h"]), float(match["head"])
    return f'viewBox="0 {head:g} {width} {height - head:g}" width="{width}" height="{height - head:g}" data-head="0"'


def _head(title: str, note: str) -> tuple[str, float]:
    """Title and note as SVG text, and the height they take."""
    y, lines = 0.0, []
    for text, size, weight, token in ((title, style.TITLE, 600, "ink"), (note, style.TEXT, 400, "muted")):
        for line in style.wrap(text, style.WIDTH - 8, size, weight == 600) if text else ():
            y += size * LINE
            lines.append(
                f'<text x="0" y="{y:g}" style="font-size:{size}px;font-weight:{weight};'
                f'fill:var(--{token},{style.colour(token)})">{escape(line)}</text>'
            )
    return "".join(lines), round(y + 10) if lines else 0


def _body(figure: Any) -> str:
    """The figure as a group of SVG elements: themed, no metadata, no line breaks inside paths."""
    buffer = io.BytesIO()
    with style.house_style():
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Type": None, "Format": None})
    drawn = buffer.getvalue().decode("utf-8")
    drawn = drawn[drawn.index("<svg") :]
    inner = drawn[drawn.index(">") + 1 : drawn.rindex("</svg>")]
    inner = re.sub(r"<metadata>.*?</metadata>", "", inner, flags=re.S)
    inner = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", inner, count=1, flags=re.S)
    inner = _FONT_LIST.sub("sans-serif", inner)
    inner = re.sub(r' transform="rotate\(-?0 [^"]*\)"', "", inner)
    inner = re.sub(r"<!--.*?-->", "", inner, flags=re.S)
    return style.themed(re.sub(r"\s*\n\s*", "\n", inner).strip())
