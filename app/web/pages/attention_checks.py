"""Checks for what needs a person. Some take seconds in a large store, so they run in the background."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from typing import Any, Generic, NamedTuple, TypeVar

from flask import current_app

from app.errors import PlumError
from app.outbound.reconciling import CallCounts
from app.store import integrations, pagination, quarantine
from app.store.query.question import Condition, Operator, Question, Records
from app.web.caching import RefreshedInBackground, values_of
from app.web.pages import formatting
from app.web.parts import Parts, now
from app.web.readiness import HUNG_SECONDS

DAY = timedelta(days=1)
USUAL = timedelta(days=14)  # the history that shows how an integration usually sends
RECENT = timedelta(days=30)  # the period of quarantined deliveries and drift on the page

_HOUR = timedelta(hours=1)
_REGULAR_DAYS = 3  # with results in `USUAL`, from which an integration counts as regular
_STATES_SECONDS = 30.0  # maximum age of the states of store and spool
_EVERY = Question(records=Records.EXPECTED_CALLS)

_T = TypeVar("_T")


class CheckResult(NamedTuple, Generic[_T]):
    """A check's value, or the error that prevents it."""

    value: _T | None
    failure: str | None = None


class Silent(NamedTuple):
    """An integration whose results have stopped."""

    integration: str
    last_at: datetime  # the hour of its last result
    pause: timedelta
    usual: timedelta  # its longest pause before


class State(NamedTuple):
    """The state of a part of the service, in words."""

    name: str
    is_well: bool
    text: str


class AttentionChecks:
    """The checks. Each is called and returns its last result, or None if there is none yet."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.silent = RefreshedInBackground(partial(run_check, self._silent))
        self.drift = RefreshedInBackground(partial(run_check, self._drift))
        self.missing = RefreshedInBackground(partial(run_check, self._missing))
        self.states = RefreshedInBackground(self._states, _STATES_SECONDS)
        self.copy = RefreshedInBackground(self._copy)
        self.quarantined = RefreshedInBackground(partial(run_check, self._quarantined))

    def things(self) -> list[str] | None:
        """Return the home page's list of problems, from the same checks as the attention page; None while a result is
        missing. A check that fails is not listed, since the failed part's state is. Drift is left out: it takes
        seconds."""
        results = values_of(self.states, self.copy, self.quarantined, self.missing, self.silent)
        if any(result is None for result in results):
            return None
        states, copy, *others = results
        quarantined, missing, silent = (result.value or [] for result in others)
        return [
            *(f"{state.name}: {state.text}" for state in [*states, copy] if not state.is_well),
            *_count_texts(sum(dict(quarantined).values()), sum(counts.missing for counts in missing)),
            *_silent_texts(silent),
        ]

    def _silent(self) -> list[Silent]:
        """Return the integrations that sent regularly and have now paused for at least a day, and longer than ever in
        the fortnight: a pause at each weekend is usual."""
        known = integrations.list_integrations(self._parts.answers)
        active = {row["integration"] for row in self._received(now() - DAY, ["integration"])}
        quiet = [str(each["name"]) for each in known if not each["disabled_at"] and each["name"] not in active]
        hours: dict[str, list[datetime]] = defaultdict(list)
        of_quiet = Condition("integration", Operator.EQUAL, quiet)
        for row in self._received(now() - USUAL, ["integration", "hour"], of_quiet) if quiet else []:
            hours[row["integration"]].append(row["hour"])
        regular = [name for name in sorted(hours) if len({hour.date() for hour in hours[name]}) >= _REGULAR_DAYS]
        pauses = [_pause(name, sorted(hours[name]), now()) for name in regular]
        return [
            each
            for each in pauses
            if each.pause > max(each.usual, DAY - _HOUR) and not self._has_deliveries(each.integration)
        ]

    def _has_deliveries(self, integration: str) -> bool:
        """True if deliveries came that made no new call: they were about an older one, or were not understood."""
        conditions = [
            Condition("integration", Operator.EQUAL, [integration]),
            Condition("received_at", Operator.GTE, [now() - DAY]),
        ]
        question = Question(records=Records.DELIVERIES, conditions=conditions, limit=1)
        return bool(pagination.page(self._parts.answers, question, ["id"]).rows)

    def _received(self, since: datetime, group_by: list[str], *conditions: Condition) -> list[dict[str, Any]]:
        is_recent = Condition("received_at", Operator.GTE, [since])
        question = Question(records=Records.OUTCOMES, conditions=[is_recent, *conditions])
        return self._parts.router.summarise(question, group_by, UTC)

    def _drift(self) -> list[dict[str, Any]]:
        return self._parts.router.drift(now() - RECENT, {})

    def _missing(self) -> list[CallCounts]:
        """Return the counts by batch, the most missing first."""
        return sorted(self._parts.missing(_EVERY), key=lambda counts: -counts.missing)

    def _states(self) -> list[State]:
        """Return the states of store, spool and housekeeping."""
        lines = [line.partition(": ") for line in self._parts.readiness().lines]
        first = {name: text for name, _, text in reversed(lines)}  # further lines of a part are warnings
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
            State("Store", first["store"] == "ok", _state_text(first["store"], "takes deliveries")),
            State("Spool", not spool, "; ".join(spool) or "nothing waits in it"),
            self._housekeeping(),
        ]

    def _housekeeping(self) -> State:
        age = self._parts.heartbeat()
        if age is None:
            return State("Housekeeping", False, "does not run; start it: plum-outcomes housekeeping")
        return State("Housekeeping", age <= HUNG_SECONDS, f"last went on {formatting.duration(age)} ago")

    def _copy(self) -> State:
        """Ask the copy a question to see whether it answers."""
        no_record = Condition("id", Operator.NULL, [True])
        question = Question(records=Records.OUTCOMES, conditions=[no_record])
        answer = run_check(lambda: self._parts.router.summarise(question, [], UTC))
        return State(
            "Analytical copy", answer.failure is None, answer.failure or "answers, and holds what the store does"
        )

    def _quarantined(self) -> dict[str, int]:
        """Return the number of quarantined deliveries by reason."""
        return quarantine.count_by_reason(self._parts.answers, now() - RECENT)


def watch() -> AttentionChecks:
    """Return the checks of the running application."""
    watch: AttentionChecks = current_app.extensions["watch"]
    return watch


def run_check(look: Callable[[], _T]) -> CheckResult[_T]:
    """Return the result of `look`, or its error as the failure."""
    try:
        return CheckResult(look())
    except PlumError as error:
        return CheckResult(None, str(error))


def _count_texts(quarantined: int, missing: int) -> Iterator[str]:
    counts = [
        (quarantined, "delivery", "deliveries", "could not be understood"),
        (missing, "expected result is", "expected results are", "missing"),
    ]
    return (
        f"{formatting.counted(number, one, many)} {predicate}" for number, one, many, predicate in counts if number
    )


def _silent_texts(silent: list[Silent]) -> Iterator[str]:
    for each in silent:
        yield f"{each.integration} has sent nothing for {formatting.duration(each.pause.total_seconds())}"


def _pause(integration: str, hours: list[datetime], at: datetime) -> Silent:
    usual = max((later - earlier for earlier, later in pairwise(hours)), default=timedelta(0))
    return Silent(integration, hours[-1], at - hours[-1] - _HOUR, usual)


def _state_text(line: str, well: str) -> str:
    return well if line == "ok" else line
