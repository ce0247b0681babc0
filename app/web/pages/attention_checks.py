"""What needs a person. Some of it takes seconds to find in a large store, and is found beside the pages."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from typing import Any, Generic, NamedTuple, TypeVar

from flask import current_app

from app.errors import PlumError
from app.reconciling import CallCounts
from app.store import integrations, pagination, quarantine
from app.store.query.question import Condition, Operator, Question, Records
from app.web.caching import RefreshedInBackground, values_of
from app.web.pages import formatting
from app.web.parts import Parts, now
from app.web.readiness import HUNG_SECONDS

DAY = timedelta(days=1)
USUAL = timedelta(days=14)  # from which it is known how an integration sends
RECENT = timedelta(days=30)  # of what is told that was not understood, or is new

_HOUR = timedelta(hours=1)
_REGULAR_DAYS = 3
_STATES_SECONDS = 30.0  # so old may be what is told of the store and the spool
_EVERY = Question(records=Records.EXPECTED_CALLS)

_T = TypeVar("_T")


class Found(NamedTuple, Generic[_T]):
    """What was looked for, or what stands against finding it."""

    value: _T | None
    failure: str | None = None


class Silent(NamedTuple):
    """An integration whose results have stopped."""

    integration: str
    last_at: datetime  # the hour of its last result
    pause: timedelta
    usual: timedelta  # its longest pause before


class State(NamedTuple):
    """How a part of the service is, in words."""

    name: str
    is_well: bool
    told: str


class Watch:
    """Each of these is called for the last that is known, None where nothing is yet."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.silent = RefreshedInBackground(partial(found, self._silent))
        self.drift = RefreshedInBackground(partial(found, self._drift))
        self.missing = RefreshedInBackground(partial(found, self._missing))
        self.states = RefreshedInBackground(self._states, _STATES_SECONDS)
        self.copy = RefreshedInBackground(self._copy)
        self.quarantined = RefreshedInBackground(partial(found, self._quarantined))

    def things(self) -> list[str] | None:
        """What the home page says, by what the page of them shows; None while too little is known. What cannot be
        found shows in the state of what it would be found in. Drift is left out: it takes seconds."""
        parts = values_of(self.states, self.copy, self.quarantined, self.missing, self.silent)
        if any(part is None for part in parts):
            return None
        states, copy, *others = parts
        quarantined, late, silent = (part.value or [] for part in others)
        return [
            *(f"{state.name}: {state.told}" for state in [*states, copy] if not state.is_well),
            *_told_counts(sum(dict(quarantined).values()), sum(counts.missing for counts in late)),
            *_told_silent(silent),
        ]

    def _silent(self) -> list[Silent]:
        """Who sends on some days, has sent nothing for a day, and for longer than ever in the fortnight: a pause at
        each weekend is usual."""
        known = integrations.list_integrations(self._parts.answers)
        heard = {row["integration"] for row in self._received(now() - DAY, ["integration"])}
        quiet = [str(one["name"]) for one in known if not one["disabled_at"] and one["name"] not in heard]
        hours: dict[str, list[datetime]] = defaultdict(list)
        of_quiet = Condition("integration", Operator.EQUAL, quiet)
        for row in self._received(now() - USUAL, ["integration", "hour"], of_quiet) if quiet else []:
            hours[row["integration"]].append(row["hour"])
        regular = [name for name in sorted(hours) if len({hour.date() for hour in hours[name]}) >= _REGULAR_DAYS]
        told = [_pauses(name, sorted(hours[name]), now()) for name in regular]
        return [
            one for one in told if one.pause > max(one.usual, DAY - _HOUR) and not self._is_heard(one.integration)
        ]

    def _is_heard(self, integration: str) -> bool:
        """Whether something came that made no call: it told of an older one, or was not understood."""
        conditions = [
            Condition("integration", Operator.EQUAL, [integration]),
            Condition("received_at", Operator.GTE, [now() - DAY]),
        ]
        question = Question(records=Records.DELIVERIES, conditions=conditions, limit=1)
        return bool(pagination.page(self._parts.answers, question, ["id"]).rows)

    def _received(self, since: datetime, group_by: list[str], *more: Condition) -> list[dict[str, Any]]:
        conditions = [Condition("received_at", Operator.GTE, [since]), *more]
        question = Question(records=Records.OUTCOMES, conditions=conditions)
        return self._parts.router.summarise(question, group_by, UTC)

    def _drift(self) -> list[dict[str, Any]]:
        return self._parts.router.drift(now() - RECENT, {})

    def _missing(self) -> list[CallCounts]:
        """By batch, the most missing first."""
        return sorted(self._parts.missing(_EVERY), key=lambda counts: -counts.missing)

    def _states(self) -> list[State]:
        """Of store, spool and housekeeping."""
        lines = [line.partition(": ") for line in self._parts.readiness().lines]
        first = {name: told for name, _, told in reversed(lines)}  # further ones tell what costs no delivery
        backlog = self._parts.spool.backlog()
        oldest = formatting.duration(backlog.oldest_seconds)
        waiting = formatting.counted(backlog.deliveries, "delivery waits", "deliveries wait")
        aside = formatting.counted(backlog.aside, "file is", "files are")
        spool = [first["spool"]] if first["spool"] != "ok" else []
        spool += [f"{waiting} in it, the oldest for {oldest}"] if backlog.deliveries else []
        spool += (
            [f"{aside} set aside; see docs/operations.md, then: plum-outcomes spool retry"] if backlog.aside else []
        )
        return [
            State("Store", first["store"] == "ok", _said(first["store"], "takes deliveries")),
            State("Spool", not spool, "; ".join(spool) or "nothing waits in it"),
            self._housekeeping(),
        ]

    def _housekeeping(self) -> State:
        age = self._parts.heartbeat()
        if age is None:
            return State("Housekeeping", False, "does not run; start it: plum-outcomes housekeeping")
        return State("Housekeeping", age <= HUNG_SECONDS, f"last went on {formatting.duration(age)} ago")

    def _copy(self) -> State:
        """Whether it answers a question."""
        nobody = Condition("id", Operator.NULL, [True])
        question = Question(records=Records.OUTCOMES, conditions=[nobody])
        asked = found(lambda: self._parts.router.summarise(question, [], UTC))
        return State(
            "Analytical copy", asked.failure is None, asked.failure or "answers, and holds what the store does"
        )

    def _quarantined(self) -> dict[str, int]:
        """By reason."""
        return quarantine.count_by_reason(self._parts.answers, now() - RECENT)


def watch() -> Watch:
    """The running app's."""
    kept: Watch = current_app.extensions["watch"]
    return kept


def found(look: Callable[[], _T]) -> Found[_T]:
    try:
        return Found(look())
    except PlumError as error:
        return Found(None, str(error))


def _told_counts(quarantined: int, late: int) -> Iterator[str]:
    told = [
        (quarantined, "delivery", "deliveries", "could not be understood"),
        (late, "expected result is", "expected results are", "missing"),
    ]
    return (f"{formatting.counted(number, one, many)} {what}" for number, one, many, what in told if number)


def _told_silent(silent: list[Silent]) -> Iterator[str]:
    for one in silent:
        yield f"{one.integration} has sent nothing for {formatting.duration(one.pause.total_seconds())}"


def _pauses(integration: str, hours: list[datetime], at: datetime) -> Silent:
    usual = max((later - earlier for earlier, later in pairwise(hours)), default=timedelta(0))
    return Silent(integration, hours[-1], at - hours[-1] - _HOUR, usual)


def _said(line: str, well: str) -> str:
    return well if line == "ok" else line
