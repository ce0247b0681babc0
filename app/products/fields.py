"""An object's fields as sent: known names without case, the first value counts, nothing else is lost."""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field

from app.model import Json, Problem, Sent
from app.products.payload import Pairs, plain


@dataclass(slots=True)
class Fields:
    """What one object holds: `known` by our spelling of Plum's name, the rest in `extra`."""

    known: dict[str, Sent] = field(default_factory=dict)
    extra: dict[str, Json] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def first_of(self, names: Container[str]) -> Sent | None:
        """Whichever of these was sent first."""
        return next((sent for name, sent in self.known.items() if name in names), None)

    def renamed(self, tables: Iterable[Mapping[str, str]]) -> dict[str, Sent]:
        """The known fields by our names. Of two that mean the same, the earlier table's counts."""
        ours: dict[str, Sent] = {}
        for table in tables:
            for name in table.keys() & self.known.keys():
                sent = self.known[name]
                if not isinstance(sent.value, str):
                    sent = Sent(sent.name, plain(sent.value))
                if ours.setdefault(table[name], sent) != sent:
                    self.extra[sent.name] = sent.value
        return ours


def sort_fields(pairs: Pairs, names: Container[str], path: str = "") -> Fields:
    """Tell the known fields from the others. `path` stands before each name that is reported.

    A name given twice with different values: the first counts, all are kept in `extra`, and a problem says so.
    """
    given: dict[str, list[Sent]] = {}
    for name, value in pairs:
        # Plum's own pages spell start_timestamp in two ways, so known names are compared without case.
        folded = name.casefold()
        key = folded if folded in names else name
        given.setdefault(key, []).append(Sent(path + name, value))
    fields = Fields()
    for key, sent in given.items():
        if key in names:
            fields.known[key] = sent[0]
            if len(sent) == 1:
                continue
        values = _distinct([plain(one.value) for one in sent])
        if key not in names:
            fields.extra[sent[0].name] = values[0]
        if len(values) > 1:
            fields.extra[sent[0].name] = values
            fields.problems.append(Problem(sent[0].name, values, "given_twice"))
    return fields


def _distinct(values: list[Json]) -> list[Json]:
    by_text: dict[str, Json] = {}
    for value in values:
        by_text.setdefault(json.dumps(value, sort_keys=True), value)
    return list(by_text.values())
