"""The overview: how the calls of a period went, against the time before it; each figure leads to its calls.

It asks the copy to count the calls of a period by time, by the clock and by whence they come, and those of the period
before in all.
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
from app.web.filters import Asked, MissingSchema, asked, permit, revealing
from app.web.lists import schema_of
from app.web.pages import charts, formatting, periods
from app.web.pages.calls import WORDS, chips, values
from app.web.pages.charts import Mark
from app.web.pages.periods import Period, Unit
from app.web.pages.site import Blueprint, here, may, parameters, shown, token, zone
from app.web.parts import now, parts
from app.web.schemas import OutcomeSchema

NEWEST = 10
FEW = 50  # calls in all, below which one is rather looked for than counted
GROUPED = ("integration", "product", "batch")
GROUPS = 15
COLOURS = {disposition: f"c{place}" for place, disposition in enumerate(Disposition)}  # of the style sheet
COLUMNS = [
    "ended_at",
    "phone_number",
    "disposition",
    "callee_type",
    "reference",
    "message_reference",
    "integration",
]

_RECENT = 100  # deliveries, of which some are of the same call, and some of none
_LONG = 300  # characters of a link; hundreds of longer ones would make the page too large
_ROOM_BYTES = 56_000  # for the marks over time and for links, that the page stays below 100 kB
_MARK_BYTES = 130  # without its link
_LINK_BYTES = 16  # around its address

blueprint = Blueprint("overview", __name__)

_SCHEMA = MissingSchema.about(OutcomeSchema)

Row = Mapping[str, Any]
_Linked = TypeVar("_Linked", Mark, "Hour")


@dataclass(frozen=True, slots=True)
class Chosen:
    """What the address asks for: some calls of a period, in the time of a zone."""

    calls: Question  # whichever their time
    kept: Mapping[str, list[str]]  # the parameters of these calls
    period: Period
    zone: tzinfo

    def of(self, period: Period) -> Question:
        return replace(self.calls, conditions=[*self.calls.conditions, *period.conditions])

    @property
    def question(self) -> Question:
        return self.of(self.period)

    def link(self, period: Period | None = None, **narrower: str | list[str] | None) -> str | None:
        """The list of these calls, narrowed down; None where that takes too long a text."""
        args = {**self.kept, **(period or self.period).parameters, **narrower}
        given = {name: text for name, text in args.items() if text is not None}
        link = f"/calls?{urlencode(given, doseq=True, safe=',/')}"
        return link if len(link) <= _LONG else None


_TIME = ("period", "since", "until")


class Room:
    """What the page has left for links: who comes first has theirs."""

    def __init__(self, marks: int) -> None:
        self._left = _ROOM_BYTES - marks * _MARK_BYTES

    def linked(self, rows: list[list[_Linked | None]]) -> list[list[_Linked | None]]:
        """All with their links, or all without."""
        links = [one.link for row in rows for one in row if one and one.link]
        needed = sum(len(escape(link)) + _LINK_BYTES for link in links)
        if needed > self._left:
            return [[one and one._replace(link=None) for one in row] for row in rows]
        self._left -= needed
        return rows


class Figure(NamedTuple):
    """One figure, and how it has changed, both in words."""

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
    """Of the chart's table: a mark's calls by disposition."""

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
    """All calls of one weekday's hour."""

    link: str | None
    calls: int
    rate: float

    @property
    def heat(self) -> int:
        """0 to 9."""
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
    """The period that the parameters ask for, and the calls that came last, whenever they ended."""
    whole: Asked = asked(parameters("period"), _SCHEMA)
    permit(whole.question, reveal=may(Scope.REVEAL))
    if revealing(whole.question):  # counts tell of a number, too
        write(token(), {}, 200)
    with parts().question_limit.slot():
        ends = _ends()
        newest = _newest()
    if ends is None:
        return shown("overview.html", is_empty=True, live="")
    filters: Asked = asked(parameters(*_TIME), _SCHEMA)
    period = periods.chosen(request.args, zone(), now(), periods.whole_days(ends.oldest, ends.newest, zone()))
    chosen = Chosen(filters.question, dict(parameters(*_TIME).lists()), period, zone())
    newest_days = periods.whole_days(ends.newest, ends.newest, zone(), least=30)
    return shown(
        "overview.html",
        newest=newest,
        are_few=ends.are_few,
        columns=["came_at", *COLUMNS],
        chips=chips(),
        periods=[(name, here(period=name, since=None, until=None)) for name in periods.NAMES],
        current=_name(),
        told_period=periods.told_period(period),
        elsewhere=here(period=None, **newest_days.parameters),
        newest_at=ends.newest,
        all_link=chosen.link(),
        live=urlencode(list(parameters(*_TIME).items(multi=True))),
        **_answers(chosen),
    )


def _name() -> str | None:
    """Of the period, where it has one."""
    is_by_time = request.args.get("since") or request.args.get("until")
    return None if is_by_time else request.args.get("period", periods.USUAL)


class Ends(NamedTuple):
    """When the first and the last call of all ended, and whether there are few."""

    oldest: datetime
    newest: datetime
    are_few: bool


def _ends() -> Ends | None:
    """By the store's index of time; None where there is no call."""
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
    """The calls of the deliveries that came last, as the store has them: also while the copy is away."""
    router = parts().router
    deliveries = router.page(_in_order("received_at", True, _RECENT, Records.DELIVERIES), ["outcome_id"]).rows
    came = {row["outcome_id"]: row["received_at"] for row in reversed(deliveries) if row["outcome_id"]}
    newest = sorted(came, key=lambda key: came[key], reverse=True)[:NEWEST]
    found = [Found(key, []) for key in newest]
    page = router.rows(Question(records=Records.OUTCOMES, limit=NEWEST), found, ["id", *COLUMNS])
    schema = schema_of(OutcomeSchema, ["id", *COLUMNS])
    return [{"came_at": came[row["id"]], **schema.record(row)} for row in page.rows]


def _answers(chosen: Chosen) -> dict[str, Any]:
    """What the copy says, or why it does not."""
    unit, earlier = periods.unit_of(chosen.period), chosen.period.before(now())
    groupings = [[], [unit.bucket, "disposition"], [WEEKDAY, CLOCK_HOUR], *([field] for field in GROUPED)]
    try:
        whole, by_time, by_clock, *by_field = parts().router.group_counts(chosen.question, groupings, chosen.zone)
        [before] = parts().router.group_counts(chosen.of(earlier), [[]], chosen.zone) if whole else [[]]
    except (StoreUnavailable, Overloaded, TooBroad) as error:
        return {"told": str(error)}
    if not whole:
        return {"is_nothing": True}
    return {
        "figures": _figures(_rated(whole[0]), _rated(before[0]) if before else {}),
        "told_before": periods.told_period(earlier),
        "is_compared": bool(before),
        **_charts(chosen, unit, by_time, by_clock),
        "groups": {field: _largest(chosen, field, rows) for field, rows in zip(GROUPED, by_field, strict=True)},
    }


def _rated(row: Row) -> Row:
    return {
        **row,
        "answer_rate": row["answered"] / row["count"],
        "human_rate": row["human"] / row["known"] if row["known"] else None,
    }


def _figures(row: Row, before: Row) -> list[Figure]:
    """A period's against those of the one before."""
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
    value, other = row[field], before.get(field)
    share = abs(value - other) / other if value is not None and other else 0
    return Figure(name, say(value), _change(value, other, formatting.percent(share), say), more)


def _rate(name: str, field: str, row: Row, before: Row, more: str) -> Figure:
    value, other = row[field], before.get(field)
    points = f"{abs((value or 0) - (other or 0)) * 100:.1f} points"
    return Figure(name, formatting.percent(value), _change(value, other, points, formatting.percent), more)


def _change(value: float | None, before: float | None, difference: str, say: Callable[[Any], str]) -> str:
    if before is None or value is None:
        return ""
    if say(value) == say(before):
        return "the same as before"
    way = "▲ up" if value > before else "▼ down"
    return f"{way} {difference} from {say(before)}" if before else f"{way} from {say(before)}"


def _charts(chosen: Chosen, unit: Unit, by_time: Iterable[Row], by_clock: Iterable[Row]) -> dict[str, Any]:
    """Calls over time, and when people answer. What is drawn leads to its calls before the table of the same does."""
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
    """The dispositions of the calls, and these over time; marks without calls stand there too."""
    calls: Counter[tuple[datetime, str]] = Counter()
    for row in rows:
        calls[periods.start(row[unit.bucket], unit, chosen.zone), row["disposition"]] += row["count"]
    present = [word for word in Disposition if any(disposition == word for _, disposition in calls)]
    marks = cooperatively(periods.marks(chosen.period, unit))
    return present, [_line(chosen, mark, unit, calls, present) for mark in marks]


def _line(
    chosen: Chosen, mark: Period, unit: Unit, calls: Mapping[tuple[datetime, str], int], present: list[Disposition]
) -> Line:
    begin, text = periods.start(mark.since, unit, chosen.zone), periods.told(mark.since, unit)
    within = mark.within(chosen.period)

    def part(word: Disposition) -> Mark | None:
        count = calls.get((begin, word), 0)
        title = f"{text}: {count:,} {formatting.name(word).lower()}"
        return Mark(count, title, chosen.link(within, disposition=word)) if count else None

    marks = [part(word) for word in present]
    return Line(text, chosen.link(within), sum(one.value for one in marks if one), marks)


def _legend(chosen: Chosen, word: Disposition, marks: Iterable[Mark | None]) -> Legend:
    return Legend(word, COLOURS[word], sum(mark.value for mark in marks if mark), chosen.link(disposition=word))


def _heat(chosen: Chosen, rows: Iterable[Row]) -> list[list[Hour | None]]:
    """Of each weekday its hours."""
    found = {(row[WEEKDAY], row[CLOCK_HOUR]): row for row in rows}
    days = enumerate(Weekday, start=1)
    return [[_hour(chosen, weekday, found.get((day, hour))) for hour in range(24)] for day, weekday in days]


def _hour(chosen: Chosen, weekday: Weekday, row: Row | None) -> Hour | None:
    if row is None:
        return None
    link = chosen.link(weekday=weekday, hour=str(row[CLOCK_HOUR]))
    return Hour(link, row["count"], row["answered"] / row["count"])


def _largest(chosen: Chosen, field: str, rows: Sequence[Row]) -> tuple[list[Group], int]:
    """The largest groups, and how many there are."""
    most = sorted(rows, key=lambda row: (-row["count"], row[field] or ""))[:GROUPS]
    return [_group(chosen, field, _rated(row)) for row in most], len(rows)


def _group(chosen: Chosen, field: str, row: Row) -> Group:
    value = row[field]
    return Group(
        _named(field, value),
        _narrowed(chosen, field, value),
        row["count"],
        row["answered"],
        row["answer_rate"],
        row["human_rate"],
    )


def _named(field: str, value: str | None) -> str:
    if value is None:
        return "not known"
    return formatting.name(value) if field in WORDS else value


def _narrowed(chosen: Chosen, field: str, value: str | None) -> str | None:
    narrower = {f"{field}__null": ["true"]} if value is None else {field: values([value])}
    return chosen.link(**narrower)
