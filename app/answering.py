"""Who answers what. The store answers in the order of time and by what its indexes name; all else about outcomes
comes from the analytical copy, which finds ids, counts, groups, sorts and writes files.

| asked | answered by |
|---|---|
| single records, deliveries, the audit log | store |
| outcomes in order of `ended_at`, all or between two times | store |
| outcomes with one id, number, call id, message reference or reference, or any of some | store |
| other lists of outcomes | ids from the copy, their rows from the store |
| counts, facets, summaries, drift, exports of outcomes, redial | copy |
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, tzinfo
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

from app.analytics.files import File
from app.store import changes, pages
from app.store.changes import Horizon
from app.store.database import Database
from app.store.pages import Page
from app.store.query.questions import Operator, Question, Records
from app.store.schema import IDENTIFYING

Row = dict[str, Any]
Facet = tuple[Any, int]

_INDEXED = {"id", *IDENTIFYING}
_FEW = 20  # values of an indexed field; beyond it the store would sort what it finds


class Kind(StrEnum):
    """Whether a count is asked for. The estimate that may be is exact."""

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


class Answering:
    """The answers to analysts' questions. What was acknowledged before a question is in its answer.

    `store` may be a replica; `journal` is never one, for it says what the copy has to hold.
    """

    def __init__(self, store: Database, journal: Database, copy: Copy) -> None:
        self._store = store
        self._journal = journal
        self._copy = copy

    def page(self, question: Question, fields: Sequence[str] | None = None) -> Page:
        """One page of records, with these fields or all."""
        if is_answered_by_store(question):
            return pages.page(self._store, question, fields)
        return pages.page_of_ids(self._store, question, self._ask("find", question), fields)

    def count(self, page: Page, question: Question, kind: Kind) -> Count:
        """The count that is asked for with a page: of the whole question."""
        if kind is Kind.NONE:
            return Count(None, kind)
        if question.edge is None and not page.more_after:
            return Count(len(page.rows), Kind.EXACT)  # the first page is all
        if question.records is Records.OUTCOMES:
            return Count(self._ask("count", question), Kind.EXACT)
        return Count(pages.count(self._store, question), Kind.EXACT)

    def facets(self, question: Question, fields: Sequence[str]) -> dict[str, list[Facet]]:
        """For each field its values and how often each stands, most frequent first."""
        found: dict[str, list[Facet]] = self._ask("facets", question, fields)
        return found

    def summarise(self, question: Question, group_by: Sequence[str], zone: tzinfo) -> list[Row]:
        """A row of figures for each group."""
        found: list[Row] = self._ask("summarise", question, group_by, zone)
        return found

    def drift(self, since: datetime | None, among: Mapping[str, Sequence[str]]) -> list[Row]:
        """What came that nobody knew, the newest first."""
        found: list[Row] = self._ask("drift", since, among)
        return found

    def file(self, file: File) -> Iterator[bytes]:
        """A file of outcomes, block by block."""
        return self._copy.file(file, changes.horizon(self._journal))

    def _ask(self, what: str, *arguments: Any) -> Any:
        return self._copy.ask(what, arguments, changes.horizon(self._journal))


def is_answered_by_store(question: Question) -> bool:
    """Whether an index of the store leads to the rows."""
    if question.records is not Records.OUTCOMES:
        return True
    compared = {condition.field for condition in question.conditions}
    if question.whole_order[0].field == "ended_at" and compared <= {"ended_at"}:
        return True
    return any(
        condition.field in _INDEXED and condition.operator is Operator.EQUAL and len(condition.values) <= _FEW
        for condition in question.conditions
    )
