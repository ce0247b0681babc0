"""Routes queries: the store answers what its indexes serve; the analytical copy finds ids, counts, groups, sorts and
writes files.

| query | answered by |
|---|---|
| single records, deliveries, the audit log | store |
| outcomes in order of `ended_at`, all or between two times | store |
| outcomes by ids, or by one number, call id, message reference or reference in order of `ended_at` | store |
| other lists of outcomes | ids from the copy, their rows from the store |
| the same with an id, number, call id or reference, while the copy is away | store |
| counts, facets, summaries, drift, exports of outcomes, redial | copy |
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime, tzinfo
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

from app.analytics.answers import Found
from app.analytics.protocol import File
from app.analytics.redial import Candidate
from app.errors import CopyUnavailable
from app.model import Identity
from app.store import do_not_call, journal, pagination
from app.store.database import Database
from app.store.journal import Horizon
from app.store.pagination import Page
from app.store.query.question import Condition, Operator, Order, Question, Records
from app.store.schema import IDENTIFYING, INDEXED_CHARACTERS

Row = dict[str, Any]
Facet = tuple[Any, int]

# Limits how many queries use the copy at a time.
Slot = Callable[[], AbstractContextManager[None]]

_MAX_IDS = 1000  # whose rows the store finds and sorts quickly


class Kind(StrEnum):
    """The requested kind of count. An estimated count is exact here."""

    NONE = "none"
    ESTIMATED = "estimated"
    EXACT = "exact"


class Count(NamedTuple):
    value: int | None
    kind: Kind


class Copy(Protocol):
    """The analytical copy, in this process or another."""

    def ask(self, what: str, arguments: tuple[Any, ...], horizon: Horizon) -> Any: ...

    def file(self, file: File, horizon: Horizon) -> Iterator[bytes]: ...


class QueryRouter:
    """Answers analysts' queries. An answer includes everything that was acknowledged before its query.

    `store` may be a replica; `journal` is the primary, whose horizon tells what the copy has to hold.
    """

    def __init__(
        self,
        store: Database,
        journal: Database,
        copy: Copy,
        slot: Slot = nullcontext,
    ) -> None:
        """`slot` limits how many queries use the copy at a time."""
        self._store = store
        self._may_lag = store.address != journal.address
        self._journal = journal
        self._copy = copy
        self._slot = slot

    def page(self, question: Question, fields: Sequence[str] | None = None) -> Page:
        """Return one page of records, with these fields or all."""
        return self.rows(question, self.find(question), fields)

    def find(self, question: Question) -> list[Found] | None:
        """Return the page's outcomes from the copy, or None if the store answers the query alone."""
        if is_answered_by_store(question):
            return None
        try:
            found: list[Found] = self._ask("find", question)
        except CopyUnavailable:
            if not is_looked_up(question):
                raise
            return None
        return found

    def rows(self, question: Question, found: list[Found] | None, fields: Sequence[str] | None = None) -> Page:
        """Return the page of these outcomes, or, without them, as the store finds it."""
        question = self._within_ends(question)
        if found is None:
            return pagination.page(self._store, question, fields)
        return pagination.page_of_ids(self._store, question, found, fields)

    def count(self, page: Page, question: Question, kind: Kind) -> Count:
        """Return the number of records that match the query, on all pages."""
        if kind is Kind.NONE:
            return Count(None, kind)
        is_of_copy = question.records is Records.OUTCOMES
        if question.edge is None and not page.more_after and not (is_of_copy and self._may_lag):
            return Count(len(page.rows), Kind.EXACT)  # the first page has all rows
        if is_of_copy:
            return Count(self._ask("count", question), Kind.EXACT)
        return Count(pagination.count(self._store, question), Kind.EXACT)

    def facets(self, question: Question, fields: Sequence[str]) -> dict[str, list[Facet]]:
        """Return for each field its values with their counts, most frequent first."""
        found: dict[str, list[Facet]] = self._ask("facets", question, fields)
        return found

    def summarise(self, question: Question, group_by: Sequence[str], zone: tzinfo) -> list[Row]:
        """Return a row of figures for each group."""
        found: list[Row] = self._ask("summarise", question, group_by, zone)
        return found

    def group_counts(self, question: Question, groupings: Sequence[Sequence[str]], zone: tzinfo) -> list[list[Row]]:
        """Return for each grouping its groups and their counts, from one statement."""
        found: list[list[Row]] = self._ask("group_counts", question, groupings, zone)
        return found

    def count_nameless(self, integrations: Sequence[str]) -> dict[tuple[str, str | None], int]:
        """Return by integration and batch how many outcomes have the identity `none`."""
        conditions = [
            Condition("integration", Operator.EQUAL, integrations),
            Condition("identity", Operator.EQUAL, [Identity.NONE]),
        ]
        question = Question(records=Records.OUTCOMES, conditions=conditions)
        found = self.summarise(question, ["integration", "batch"], UTC)
        return {(row["integration"], row["batch"]): row["count"] for row in found}

    def drift(self, since: datetime | None, among: Mapping[str, Sequence[str]]) -> list[Row]:
        """Return unknown words, fields and problems, the newest first."""
        found: list[Row] = self._ask("drift", since, among)
        return found

    def candidates(self, question: Question) -> list[Candidate]:
        """Return the phone numbers of the matching outcomes, with what redial needs to know of each."""
        found: list[Candidate] = self._ask("candidates", question)
        return found

    def file(self, file: File) -> Iterator[bytes]:
        """Return an export of outcomes, block by block. Contact lists lack the numbers that must not be called."""
        if file.form == "redial":
            file = replace(file, without=do_not_call.numbers(self._journal))
        file = replace(file, question=self._within_ends(file.question))
        return self._copy.file(file, journal.horizon(self._journal))

    def _ask(self, what: str, *arguments: Any) -> Any:
        with self._slot():
            bounded = tuple(self._within_ends(one) if isinstance(one, Question) else one for one in arguments)
            return self._copy.ask(what, bounded, journal.horizon(self._journal))

    def _within_ends(self, question: Question) -> Question:
        """Bound a query for hours of the week by the first and last `ended_at`.

        Its SQL has a case for each change of the zone's offset within the time that the query names.
        """
        if question.hours is None or question.records is not Records.OUTCOMES:
            return question
        ends = [
            pagination.page(
                self._journal, Question(records=Records.OUTCOMES, order=[order], limit=1), ["ended_at"]
            ).rows
            for order in (Order("ended_at"), Order("ended_at", descending=True))
        ]
        first, last = (rows[0]["ended_at"] if rows else datetime.now(UTC) for rows in ends)
        bounds = [Condition("ended_at", Operator.GTE, [first]), Condition("ended_at", Operator.LTE, [last])]
        return replace(question, conditions=[*question.conditions, *bounds])


def is_answered_by_store(question: Question) -> bool:
    """True if the rows are adjacent in an index of the store, or few."""
    if question.records is not Records.OUTCOMES:
        return True
    others = [condition for condition in question.conditions if condition.field != "ended_at"]
    is_in_time = question.whole_order[0].field == "ended_at"
    if is_in_time and (_names_one(others[0]) if len(others) == 1 else not others and not question.hours):
        return True
    return any(one.field == "id" and one.operator is Operator.EQUAL and len(one.values) <= _MAX_IDS for one in others)


def is_looked_up(question: Question) -> bool:
    """True if an index of the store leads to the rows, which may be many."""
    return any(one.field in IDENTIFYING and one.operator is Operator.EQUAL for one in question.conditions)


def _names_one(condition: Condition) -> bool:
    is_equal = condition.operator is Operator.EQUAL and condition.field in IDENTIFYING
    return is_equal and len(set(condition.values)) == 1 and len(condition.values[0]) <= INDEXED_CHARACTERS
