"""Charts as SVG that a page may hold: pygal places each mark, and of what it draws only shapes and texts are kept.

The styles that pygal writes would need `unsafe-inline`; the page's own say which colour a class has, light and dark.
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

# How pygal finds its maps, of which we have none: Python 3.11 warns of it whenever a module is looked for.
sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, PluginImportFixer)]

_WIDTH, _HEIGHT = 1000, 280
_LETTER = 9  # as wide as this, so that labels stand apart
_SHAPES = {"svg", "g", "a", "rect", "path", "text"}
_GROUPS = {"g", "a"}
_KEPT = {"viewBox", "transform", "x", "y", "width", "height", "d", "href"}
_TOLD = {"axis", "line"}  # classes that the page's styles know
_NOTHING = {"0", "0.0"}
_LONG_NUMBER = re.compile(r"(\d+\.\d)\d+")


class Mark(NamedTuple):
    """A part of a bar: how many, in words, and the page that shows them."""

    value: int
    title: str
    link: str | None


def stacked(labels: Sequence[str], series: Sequence[Sequence[Mark | None]], colours: Sequence[str]) -> Markup:
    """A bar for each label, with a part from each series in its colour, a class of the style sheet."""
    tallest = max((sum(mark.value for mark in bar if mark) for bar in zip(*series, strict=True)), default=0)
    every = -(-len(labels) * _LETTER * max(map(len, labels), default=0) // _WIDTH)  # has room for its label
    chart = StackedBar(
        width=_WIDTH, height=_HEIGHT, margin=6, spacing=4, show_legend=False, explicit_size=False, js=[], css=[],
        x_labels_major_every=every, show_minor_x_labels=False, truncate_label=-1,
        value_formatter=formatting.number,
    )  # fmt: skip
    chart.x_labels = labels
    chart.y_labels = _steps(tallest)
    for marks in series:
        chart.add(None, [mark and _value(mark) for mark in marks])
    return Markup(_plain(chart.render_tree(), colours))  # noqa: S704  # all that it holds is escaped


def _value(mark: Mark) -> dict[str, Any]:
    link = {"xlink": {"href": mark.link, "target": "_self"}} if mark.link else {}
    return {"value": mark.value, "label": mark.title} | link


def _steps(most: int) -> list[int]:
    """Round numbers from 0 to `most` or just above, six at most."""
    sizes = (size * 10**power for power in count() for size in (1, 2, 5))
    step = next(size for size in sizes if size * 5 >= most)
    return list(range(0, most + step, step))


def _plain(element: Any, colours: Sequence[str]) -> str:
    """The element without styles, scripts, comments and what cannot be seen; what it tells of a mark is its title."""
    tag, classes = element.tag, element.get("class", "").split()
    if tag == "desc" and classes == ["label"]:
        return f"<title>{escape(element.text)}</title>"
    if tag not in _SHAPES or "background" in classes or element.get("height") in _NOTHING:
        return ""
    inside = str(escape(element.text or "")) + "".join(_plain(child, colours) for child in cooperatively(element))
    attributes = _attributes(element, classes, colours)
    if tag in _GROUPS and not inside:
        return ""
    if tag == "g" and not attributes and element.find("desc") is None:
        return inside
    written = "".join(f' {name}="{escape(value)}"' for name, value in attributes.items())
    return f"<{tag}{written}>{inside}</{tag}>" if inside else f"<{tag}{written}/>"


def _attributes(element: Any, classes: list[str], colours: Sequence[str]) -> dict[str, str]:
    named = {str(name).rpartition("}")[2]: value for name, value in element.items()}  # without its namespace
    kept = {
        name: value if name == "href" else _LONG_NUMBER.sub(r"\1", value)
        for name, value in named.items()
        if name in _KEPT
    }
    if element.tag == "svg":
        return kept | {"class": "chart", "aria-hidden": "true"}
    if element.tag == "a":
        return kept | {"tabindex": "-1"}  # the keyboard has the table, whose numbers lead to the same pages
    if "series" in classes:
        return kept | {"class": colours[int(classes[1].removeprefix("serie-"))]}
    return kept | ({"class": " ".join(classes)} if _TOLD.intersection(classes) else {})
