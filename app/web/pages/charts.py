"""Charts as inline SVG: pygal computes the layout, and only the shapes and texts of its output are kept.

The styles that pygal writes would need `unsafe-inline`; the page's style sheet gives each class its colours instead.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from itertools import count
from typing import Any, NamedTuple

from markupsafe import Markup, escape
from pygal import PluginImportFixer, StackedBar

from app.cooperative import cooperatively
from app.web.pages import formatting

# pygal's import hook finds its maps, which we do not use. Python 3.11 warns of it at every import of a module.
sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, PluginImportFixer)]

_WIDTH, _HEIGHT = 1000, 280
_LETTER = 9  # assumed width of a letter, so that labels do not overlap
_SHAPES = {"svg", "g", "a", "rect", "path", "text"}
_GROUPS = {"g", "a"}
_KEPT_ATTRIBUTES = {"viewBox", "transform", "x", "y", "width", "height", "d", "href"}
_STYLED_CLASSES = {"axis", "line"}  # classes that the style sheet names
_ZERO = {"0", "0.0"}
_LONG_NUMBER = re.compile(r"(\d+\.\d)\d+")


class Mark(NamedTuple):
    """A part of a bar: its number of calls, its text, and the URL of the list of these calls."""

    value: int
    title: str
    link: str | None


def stacked(labels: Sequence[str], series: Sequence[Sequence[Mark | None]], colours: Sequence[str]) -> Markup:
    """Return a stacked bar chart: a bar for each label, with a part from each series; `colours` are CSS classes."""
    tallest = max((sum(mark.value for mark in bar if mark) for bar in zip(*series, strict=True)), default=0)
    every = -(-len(labels) * _LETTER * max(map(len, labels), default=0) // _WIDTH)  # this many bars share a label
    chart = StackedBar(
        width=_WIDTH, height=_HEIGHT, margin=6, spacing=4, show_legend=False, explicit_size=False, js=[], css=[],
        x_labels_major_every=every, show_minor_x_labels=False, truncate_label=-1,
        value_formatter=formatting.number,
    )  # fmt: skip
    chart.x_labels = labels
    chart.y_labels = _steps(tallest)
    for marks in series:
        chart.add(None, [mark and _pygal_value(mark) for mark in marks])
    return Markup(_plain_svg(chart.render_tree(), colours))  # noqa: S704  # `_plain_svg` escapes all texts


def _pygal_value(mark: Mark) -> dict[str, Any]:
    link = {"xlink": {"href": mark.link, "target": "_self"}} if mark.link else {}
    return {"value": mark.value, "label": mark.title} | link


def _steps(most: int) -> list[int]:
    """Return at most six round numbers from 0 to `most` or just above."""
    sizes = (size * 10**power for power in count() for size in (1, 2, 5))
    step = next(size for size in sizes if size * 5 >= most)
    return list(range(0, most + step, step))


def _plain_svg(element: Any, colours: Sequence[str]) -> str:
    """Return the element without styles, scripts, comments and invisible parts; a mark's description is its title."""
    tag, classes = element.tag, element.get("class", "").split()
    if tag == "desc" and classes == ["label"]:
        return f"<title>{escape(element.text)}</title>"
    if tag not in _SHAPES or "background" in classes or element.get("height") in _ZERO:
        return ""
    content = str(escape(element.text or "")) + "".join(
        _plain_svg(child, colours) for child in cooperatively(element)
    )
    attributes = _attributes(element, classes, colours)
    if tag in _GROUPS and not content:
        return ""
    if tag == "g" and not attributes and element.find("desc") is None:
        return content
    attributes_text = "".join(f' {name}="{escape(value)}"' for name, value in attributes.items())
    return f"<{tag}{attributes_text}>{content}</{tag}>" if content else f"<{tag}{attributes_text}/>"


def _attributes(element: Any, classes: list[str], colours: Sequence[str]) -> dict[str, str]:
    by_name = {str(name).rpartition("}")[2]: value for name, value in element.items()}  # without the namespace
    attributes = {
        name: value if name == "href" else _LONG_NUMBER.sub(r"\1", value)
        for name, value in by_name.items()
        if name in _KEPT_ATTRIBUTES
    }
    if element.tag == "svg":
        return attributes | {"class": "chart", "aria-hidden": "true"}
    if element.tag == "a":
        return attributes | {"tabindex": "-1"}  # keyboard users have the table, whose numbers link to the same pages
    if "series" in classes:
        return attributes | {"class": colours[int(classes[1].removeprefix("serie-"))]}
    return attributes | ({"class": " ".join(classes)} if _STYLED_CLASSES.intersection(classes) else {})
