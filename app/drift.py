"""What in a reading nobody has known so far: words, fields, and values of known fields that did not read.

Pure, as understanding itself: no clock, no store. A change at Plum's end shows here first.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator

from app.model import DriftKind, Json, Novelty, Outcome
from app.products import call_details, dev

OTHERS = "(others)"
MOST = 100  # of a kind in one delivery; what it shows beyond is one more, OTHERS
MAX_LENGTH = 200  # of a name or word, which a sender chooses

_FIELDS = dev.FIELDS.keys() | call_details.FIELDS.keys() | call_details.LISTS
_STATUS_FIELDS = ("status", "result")
_INDEX = re.compile(r"\[\d+\]")
_EVENT = re.compile(r"events\[\](?:\.(.+))?", re.S)
_TYPES: dict[type, str] = {
    bool: "boolean",
    int: "number",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
}


def novelties(outcome: Outcome) -> list[Novelty]:
    """Each once, in the order of the reading; of a kind at most `MOST`, and then one that stands for the others."""
    return [*_first(_words(outcome)), *_first(_problems(outcome)), *_first(_fields(outcome))]


def others(kind: DriftKind) -> Novelty:
    """What stands for all of a kind beyond those that are kept by name."""
    return Novelty(kind, OTHERS, "")


def _first(found: Iterable[Novelty]) -> list[Novelty]:
    kept: dict[Novelty, None] = {}
    for one in found:
        if len(kept) == MOST and one not in kept:
            return [*kept, others(one.kind)]
        kept[one] = None
    return list(kept)


def _words(outcome: Outcome) -> Iterator[Novelty]:
    """A value that is no text at all is a problem of its field, and no word."""
    no_text = {problem.field.casefold() for problem in outcome.problems if problem.problem == "not_text"}
    if no_text.isdisjoint(_STATUS_FIELDS) and _is_new(outcome.status_raw, dev.RESULTS.keys()):
        yield Novelty(DriftKind.WORD, "status", _shortened(outcome.status_raw or ""))
    if "callee_type" not in no_text and _is_new(outcome.callee_type_raw, dev.CALLEE_TYPES.keys()):
        yield Novelty(DriftKind.WORD, "callee_type", _shortened(outcome.callee_type_raw or ""))
    for event in outcome.events:
        if _is_new(event.event, call_details.EVENTS):
            yield Novelty(DriftKind.WORD, "event", _shortened(event.event or ""))


def _problems(outcome: Outcome) -> Iterator[Novelty]:
    for problem in outcome.problems:
        if known := _known(problem.field):
            yield Novelty(DriftKind.PROBLEM, known, problem.problem)


def _fields(outcome: Outcome) -> Iterator[Novelty]:
    for name, value in outcome.extra.items():
        if not _known(name):
            yield Novelty(DriftKind.FIELD, _shortened(_INDEX.sub("[]", name)), _type(value))


def _is_new(word: str | None, known: Container[str]) -> bool:
    return word is not None and word.strip().casefold() not in known


def _known(name: str) -> str | None:
    """A field of Plum's by its own spelling, `events[].timestamp` where nested; None for one that nobody knows."""
    folded = _INDEX.sub("[]", name).casefold()
    if event := _EVENT.fullmatch(folded):
        return folded if event[1] is None or event[1] in call_details.EVENT_FIELDS else None
    return folded if folded in _FIELDS else None


def _type(value: Json) -> str:
    kind = float if isinstance(value, float) else type(value)  # a number may remember how it was written
    return "null" if value is None else _TYPES[kind]


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_LENGTH else f"{text[: MAX_LENGTH - 1]}…"
