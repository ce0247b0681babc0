"""The overview page: figures of a period's calls, compared with the period before; each figure links to its calls.

The analytical copy counts the period's calls by time, by weekday and hour, and by origin; of the period before it
counts the total only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, tzinfo
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlencode

from flask import Response, request
from markupsafe import Markup, escape

from app.analytics.answers import Found
from app.analytics.counts import CLOCK_HOUR, WEEKDAY
from app.cooperative import cooperatively
from app.errors import Overloaded, StoreUnavailable, TooBroad
from app.model import Disposition, Scope
from app.store.query.question import Order, Question, Records, Weekday
from app.web.auditing import write
from app.web.filters import ListQuery, MissingSchema, parse, permit, revealing
from app.web.lists import schema_of
from app.web.pages import charts, formatting, periods
from app.web.pages.calls import WORDS, chips, values
from app.web.pages.charts import Mark
from app.web.pages.periods import Period, Unit
from app.web.pages.site import Blueprint, here, may, parameters, render_page, token, zone
from app.web.parts import now, parts
from app.web.schemas import OutcomeSchema

NEWEST = 10
FEW = 50  # with fewer calls, the newest calls come before the figures: people look for one call rather than count
GROUPED = ("integration", "product", "batch")
GROUPS = 15
COLOURS = {disposition: f"c{place}" for place, disposition in enumerate(Disposition)}  # classes of the style sheet
COLUMNS = [
    "ended_at",
    "phone_number",
    "disposition",
    "callee_type",
    "reference",
    "message_reference",
    "integration",
]

_RECENT = 100  # deliveries to read; some belong to the same call, and some to none
_MAX_LINK = 300  # maximum characters of a link; hundreds of longer ones would make the page too large
_ROOM_BYTES = 56_000  # for the chart's marks and for links, so that the page stays below 100 kB
_MARK_BYTES = 130  # of a mark without its link
_LINK_BYTES = 16  # of a link without its URL

blueprint = Blueprint("overview", __name__)

_SCHEMA = MissingSchema.about(OutcomeSchema)

Row = Mapping[str, Any]
_Linked = TypeVar("_Linked", Mark, "Hour")


@dataclass(frozen=True, slots=True)
class Chosen:
    """The calls, the period and the time zone that the URL's parameters choose."""

    calls: Question  # of any time
    kept: Mapping[str, list[str]]  # the parameters that choose these calls
    period: Period
    zone: tzinfo

    def of(self, period: Period) -> Question:
        return replace(self.calls, conditions=[*self.calls.conditions, *period.conditions])

    @property
    def question(self) -> Question:
        return self.of(self.period)

    def link(self, period: Period | None = None, **narrower: str | list[str] | None) -> str | None:
        """Return the URL of the list of these calls with more filters, or None if it would be too long."""
        args = {**self.kept, **(period or self.period).parameters, **narrower}
        parameters = {name: text for name, text in args.items() if text is not None}
        link = f"/calls?{urlencode(parameters, doseq=True, safe=',/')}"
        return link if len(link) <= _MAX_LINK else None


_TIME = ("period", "since", "until")


class Room:
    """The bytes that the page has left for links, granted in the order of the calls to `linked`."""

    def __init__(self, marks: int) -> None:
        self._left = _ROOM_BYTES - marks * _MARK_BYTES

    def linked(self, rows: list[list[_Linked | None]]) -> list[list[_Linked | None]]:
        """Return all rows with their links if these fit, else all without."""
        links = [cell.link for row in rows for cell in row if cell and cell.link]
        needed = sum(len(escape(link)) + _LINK_BYTES for link in links)
        if needed > self._left:
            return [[cell and cell._replace(link=None) for cell in row] for row in rows]
        self._left -= needed
        return rows


class Figure(NamedTuple):
    """One figure and its change, both as text."""

    name: str
    text: str
    change: str
    more: str = ""


class Legend(NamedTuple):
    disposition: str
    colour: str
    calls: int
    link: str | None


class Line(NamedTuple):
    """A row of the chart's table: the calls of one mark by disposition."""

    text: str
    link: str | None
    calls: int
    marks: list[Mark | None]


class Chart(NamedTuple):
    unit: str
    svg: Markup
    legend: list[Legend]
    lines: list[Line]


class Hour(NamedTuple):
    """A cell of the heat map: all calls in one hour of one weekday."""

    link: str | None
    calls: int
    rate: float

    @property
    def heat(self) -> int:
        """The colour's step, 0 to 9."""
        return min(int(self.rate * 10), 9)


class Group(NamedTuple):
    """The calls of one integration, product or batch."""

    text: str
    link: str | None
    calls: int
    answered: int
    answer_rate: float
    human_rate: float | None


@blueprint.page("/")
def show() -> Response:
    """The figures of the period in the parameters, and the newest calls, whenever they ended."""
    request_filters: ListQuery = parse(parameters("period"), _SCHEMA)
    permit(request_filters.question, reveal=may(Scope.REVEAL))
    if revealing(request_filters.question):  # counts reveal a number, too
        write(token(), {}, 200)
    with parts().question_limit.slot():
        ends = _ends()
        newest = _newest()
    if ends is None:
        return render_page("overview.html", is_empty=True, live="")
    call_filters: ListQuery = parse(parameters(*_TIME), _SCHEMA)
    period = periods.chosen(request.args, zone(), now(), periods.whole_days(ends.oldest, ends.newest, zone()))
    chosen = Chosen(call_filters.question, dict(parameters(*_TIME).lists()), period, zone())
    newest_days = periods.whole_days(ends.newest, ends.newest, zone(), least=30)
    return render_page(
        "overview.html",
        newest=newest,
        are_few=ends.are_few,
        columns=["came_at", *COLUMNS],
        chips=chips(),
        periods=[(name, here(period=name, since=None, until=None)) for name in periods.NAMES],
        current=_period_name(),
        period_text=periods.period_text(period),
        elsewhere=here(period=None, **newest_days.parameters),
        newest_at=ends.newest,
        all_link=chosen.link(),
        live=urlencode(list(parameters(*_TIME).items(multi=True))),
        **_copy_values(chosen),
    )


def _period_name() -> str | None:
    """Return the period's name, or None if the parameters give its times."""
    is_by_time = request.args.get("since") or request.args.get("until")
    return None if is_by_time else request.args.get("period", periods.USUAL)


class Ends(NamedTuple):
    """When the first and the last call ended, and whether there are few calls in all."""

    oldest: datetime
    newest: datetime
    are_few: bool


def _ends() -> Ends | None:
    """Read the ends by the store's index on `ended_at`; None if there are no calls."""
    last, first = (
        parts().router.page(_in_order("ended_at", descending, limit), ["ended_at"])
        for descending, limit in ((True, FEW - 1), (False, 1))
    )
    if not (last.rows and first.rows):
        return None
    return Ends(first.rows[0]["ended_at"], last.rows[0]["ended_at"], not last.more_after)


def _in_order(field: str, descending: bool, limit: int, records: Records = Records.OUTCOMES) -> Question:
    return Question(records=records, order=[Order(field, descending)], limit=limit)


def _newest() -> list[dict[str, Any]]:
    """Return the calls of the newest deliveries from the store, which also works while the copy is away."""
    router = parts().router
    deliveries = router.page(_in_order("received_at", True, _RECENT, Records.DELIVERIES), ["outcome_id"]).rows
    received_at = {row["outcome_id"]: row["received_at"] for row in reversed(deliveries) if row["outcome_id"]}
    newest = sorted(received_at, key=lambda key: received_at[key], reverse=True)[:NEWEST]
    matches = [Found(key, []) for key in newest]
    page = router.rows(Question(records=Records.OUTCOMES, limit=NEWEST), matches, ["id", *COLUMNS])
    schema = schema_of(OutcomeSchema, ["id", *COLUMNS])
    return [{"came_at": received_at[row["id"]], **schema.record(row)} for row in page.rows]


def _copy_values(chosen: Chosen) -> dict[str, Any]:
    """Return the template's values from the copy, or the reason why there are none."""
    unit, earlier = periods.unit_of(chosen.period), chosen.period.before(now())
    groupings = [[], [unit.bucket, "disposition"], [WEEKDAY, CLOCK_HOUR], *([field] for field in GROUPED)]
    try:
        totals, by_time, by_clock, *by_field = parts().router.group_counts(chosen.question, groupings, chosen.zone)
        [totals_before] = parts().router.group_counts(chosen.of(earlier), [[]], chosen.zone) if totals else [[]]
    except (StoreUnavailable, Overloaded, TooBroad) as error:
        return {"failure": str(error)}
    if not totals:
        return {"is_nothing": True}
    return {
        "figures": _figures(_with_rates(totals[0]), _with_rates(totals_before[0]) if totals_before else {}),
        "told_before": periods.period_text(earlier),
        "is_compared": bool(totals_before),
        **_charts(chosen, unit, by_time, by_clock),
        "groups": {field: _largest(chosen, field, rows) for field, rows in zip(GROUPED, by_field, strict=True)},
    }


def _with_rates(row: Row) -> Row:
    return {
        **row,
        "answer_rate": row["answered"] / row["count"],
        "human_rate": row["human"] / row["known"] if row["known"] else None,
    }


def _figures(row: Row, before: Row) -> list[Figure]:
    """Return a period's figures, compared with those of the period before."""
    return [
        _amount("Calls", "count", row, before),
        _rate("Answer rate", "answer_rate", row, before, "of all calls"),
        _rate("Human rate", "human_rate", row, before, "of those whose answerer is known"),
        _amount("Attempts", "attempts", row, before),
        _amount("Talk time", "duration_sum", row, before, formatting.duration),
    ]


def _amount(
    name: str, field: str, row: Row, before: Row, say: Callable[[Any], str] = formatting.number, more: str = ""
) -> Figure:
    value, previous = row[field], before.get(field)
    share = abs(value - previous) / previous if value is not None and previous else 0
    return Figure(name, say(value), _change(value, previous, formatting.percent(share), say), more)


def _rate(name: str, field: str, row: Row, before: Row, more: str) -> Figure:
    value, previous = row[field], before.get(field)
    points = f"{abs((value or 0) - (previous or 0)) * 100:.1f} points"
    return Figure(name, formatting.percent(value), _change(value, previous, points, formatting.percent), more)


def _change(value: float | None, before: float | None, difference: str, say: Callable[[Any], str]) -> str:
    if before is None or value is None:
        return ""
    if say(value) == say(before):
        return "the same as before"
    direction = "▲ up" if value > before else "▼ down"
    return f"{direction} {difference} from {say(before)}" if before else f"{direction} from {say(before)}"


def _charts(chosen: Chosen, unit: Unit, by_time: Iterable[Row], by_clock: Iterable[Row]) -> dict[str, Any]:
    """Return the chart of calls over time and the heat map of answers. The drawings get links before the table."""
    present, lines = _lines(chosen, unit, by_time)
    room = Room(sum(mark is not None for line in lines for mark in line.marks))
    series = [list(marks) for marks in zip(*(line.marks for line in lines), strict=True)]
    svg = charts.stacked([line.text for line in lines], room.linked(series), [COLOURS[word] for word in present])
    heat = room.linked(_heat(chosen, by_clock))
    in_table = room.linked([line.marks for line in lines])
    return {
        "chart": Chart(
            unit,
            svg,
            [_legend(chosen, word, series[place]) for place, word in enumerate(present)],
            [line._replace(marks=marks) for line, marks in zip(lines, in_table, strict=True)],
        ),
        "heat": dict(zip(Weekday, heat, strict=True)),
    }


def _lines(chosen: Chosen, unit: Unit, rows: Iterable[Row]) -> tuple[list[Disposition], list[Line]]:
    """Return the dispositions that occur, and a line for each mark of the period, even for marks without calls."""
    calls: Counter[tuple[datetime, str]] = Counter()
    for row in rows:
        calls[periods.start(row[unit.bucket], unit, chosen.zone), row["disposition"]] += row["count"]
    present = [word for word in Disposition if any(disposition == word for _, disposition in calls)]
    marks = cooperatively(periods.marks(chosen.period, unit))
    return present, [_line(chosen, mark, unit, calls, present) for mark in marks]


def _line(
    chosen: Chosen, mark: Period, unit: Unit, calls: Mapping[tuple[datetime, str], int], present: list[Disposition]
) -> Line:
    start, text = periods.start(mark.since, unit, chosen.zone), periods.mark_text(mark.since, unit)
    within = mark.within(chosen.period)

    def bar_part(word: Disposition) -> Mark | None:
        count = calls.get((start, word), 0)
        title = f"{text}: {count:,} {formatting.name(word).lower()}"
        return Mark(count, title, chosen.link(within, disposition=word)) if count else None

    marks = [bar_part(word) for word in present]
    return Line(text, chosen.link(within), sum(part.value for part in marks if part), marks)


def _legend(chosen: Chosen, word: Disposition, marks: Iterable[Mark | None]) -> Legend:
    return Legend(word, COLOURS[word], sum(mark.value for mark in marks if mark), chosen.link(disposition=word))


def _heat(chosen: Chosen, rows: Iterable[Row]) -> list[list[Hour | None]]:
    """Return the 24 hours of each weekday."""
    cells = {(row[WEEKDAY], row[CLOCK_HOUR]): row for row in rows}
    days = enumerate(Weekday, start=1)
    return [[_hour(chosen, weekday, cells.get((day, hour))) for hour in range(24)] for day, weekday in days]


def _hour(chosen: Chosen, weekday: Weekday, row: Row | None) -> Hour | None:
    if row is None:
        return None
    link = chosen.link(weekday=weekday, hour=str(row[CLOCK_HOUR]))
    return Hour(link, row["count"], row["answered"] / row["count"])


def _largest(chosen: Chosen, field: str, rows: Sequence[Row]) -> tuple[list[Group], int]:
    """Return the largest groups, and the number of all groups."""
    largest = sorted(rows, key=lambda row: (-row["count"], row[field] or ""))[:GROUPS]
    return [_group(chosen, field, _with_rates(row)) for row in largest], len(rows)


def _group(chosen: Chosen, field: str, row: Row) -> Group:
    value = row[field]
    return Group(
        _group_name(field, value),
        _group_link(chosen, field, value),
        row["count"],
        row["answered"],
        row["answer_rate"],
        row["human_rate"],
    )


def _group_name(field: str, value: str | None) -> str:
    if value is None:
        return "not known"
    return formatting.name(value) if field in WORDS else value


def _group_link(chosen: Chosen, field: str, value: str | None) -> str | None:
    narrower = {f"{field}__null": ["true"]} if value is None else {field: values([value])}
    return chosen.link(**narrower)
