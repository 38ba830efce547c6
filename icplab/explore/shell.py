"""Reads controls and a function, makes an explorer: what the controls are set to goes into the function, its answer is shown.

An explorer computes nothing itself, so that what it shows is what a run with these settings would find.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import ipywidgets as widgets

from icplab.core.charts import Chart
from icplab.core.errors import IcplabError
from icplab.report.clean import clean_html, plain_block

LABEL = {"description_width": "15em"}
WIDE = "31em"


@dataclass(frozen=True)
class Answer:
    """What an explorer shows: a sentence, then charts and tables (HTML of `table_html`) in order."""

    says: str
    parts: Sequence[Chart | str] = field(default_factory=tuple)

    def html(self) -> str:
        """The answer, with nothing live in it."""
        return f"<p><b>{plain_block(self.says)}</b></p>" + "".join(map(_part, self.parts))


class Explorer:
    """Controls, the answer to what they are set to, and a button that saves the choice.

    Parameters
    ----------
    question : what can be explored, a sentence
    controls : widgets by the name of the argument they set
    answer : from the values of all controls to what is shown
    save : from the same values to a sentence that says what was written where; None leaves the button out

    Attributes
    ----------
    output : the widget that holds the answer
    status : how long the answer took, or what went wrong
    seconds : time of the last answer
    """

    def __init__(
        self,
        question: str,
        controls: Mapping[str, widgets.ValueWidget],
        answer: Callable[..., Answer],
        save: Callable[..., str] | None = None,
    ) -> None:
        self.controls, self.answer, self.save = dict(controls), answer, save
        self.output, self.status, self.seconds = widgets.HTML(), widgets.HTML(), 0.0
        self.output.add_class("icp-answer")
        for control in self.controls.values():
            control.observe(self._changed, names="value")
        buttons: list[widgets.Widget] = []
        if save is not None:
            self.button = widgets.Button(
                description="Save this choice", button_style="primary", tooltip="Write it to the workspace"
            )
            self.button.on_click(self._saved)
            buttons = [self.button]
        left = widgets.VBox([*self.controls.values(), *buttons, self.status], layout=widgets.Layout(min_width=WIDE))
        heading = widgets.HTML(f"<h3>{plain_block(question)}</h3>")
        self.view = widgets.VBox(
            [heading, widgets.HBox([left, self.output], layout=widgets.Layout(flex_flow="row wrap"))]
        )
        self._changed(None)

    @property
    def values(self) -> dict[str, Any]:
        """What the controls are set to."""
        return {name: control.value for name, control in self.controls.items()}

    def _changed(self, _: object) -> None:
        """Answer anew; what cannot be answered is said, and the last answer stays."""
        began = time.perf_counter()
        try:
            self.output.value = self.answer(**self.values).html()
        except IcplabError as error:
            self._say(f"{error}")
            return
        self.seconds = time.perf_counter() - began
        self._say(f"answered in {self.seconds * 1000:,.0f} ms")

    def _saved(self, _: object) -> None:
        try:
            self._say(self.save(**self.values) if self.save else "")
        except IcplabError as error:
            self._say(f"Nothing was saved. {error}")

    def _say(self, words: str) -> None:
        self.status.value = f"<small>{plain_block(words)}</small>"

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        return self.view._repr_mimebundle_(**kwargs)


def slider(
    description: str, value: float, low: float, high: float, step: float, *, form: str = ".2f"
) -> widgets.FloatSlider:
    """A slider that answers while it is drawn, and can be set by typing."""
    return widgets.FloatSlider(
        value=min(max(value, low), high), min=low, max=high, step=step, description=description,
        readout_format=form, style=LABEL, layout=widgets.Layout(width=WIDE),
    )  # fmt: skip


def whole(description: str, value: int, low: int, high: int, step: int = 1) -> widgets.IntSlider:
    """A slider over whole numbers."""
    return widgets.IntSlider(
        value=min(max(value, low), high), min=low, max=high, step=step, description=description, style=LABEL,
        layout=widgets.Layout(width=WIDE),
    )  # fmt: skip


def choice(description: str, options: Sequence[Any], value: Any) -> widgets.Dropdown:
    """One of several; options are values or (label, value)."""
    return widgets.Dropdown(
        options=list(options), value=value, description=description, style=LABEL, layout=widgets.Layout(width=WIDE)
    )


def several(description: str, options: Sequence[str], value: Sequence[str], rows: int = 8) -> widgets.SelectMultiple:
    """Any number of several, with Ctrl or Shift as in any list."""
    return widgets.SelectMultiple(
        options=list(options), value=tuple(value), description=description, rows=min(rows, max(2, len(options))),
        style=LABEL, layout=widgets.Layout(width=WIDE),
    )  # fmt: skip


def _part(part: Chart | str) -> str:
    """A chart as a picture with its alternative text, a table as it is; both without anything live."""
    if isinstance(part, str):
        return clean_html(part)
    picture = base64.b64encode(part.svg.encode("utf-8", "replace")).decode("ascii")
    return f'<img alt="{plain_block(part.alt)}" src="data:image/svg+xml;base64,{picture}">'
