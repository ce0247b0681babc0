"""An object's fields as sent: known names without case, the first value counts, nothing else is lost."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field

from app.model import Json, Problem, Sent
from app.products.duplicate_keys import MORE, Pairs, Rest, distinct, plain


@dataclass(slots=True)
class Fields:
    """What one object holds: `known` by our spelling of Plum's name, the rest in `extra`."""

    known: dict[str, Sent] = field(default_factory=dict)
    extra: dict[str, Json] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    beyond: int = 0  # fields and items that are too many to be read one by one

    def first_of(self, names: frozenset[str]) -> Sent | None:
        """Whichever of these was sent first."""
        if names.isdisjoint(self.known):
            return None
        return next((sent for name, sent in self.known.items() if name in names), None)

    def keep(self, name: str, value: Json) -> None:
        """Put aside what nobody knows; two of one name are both kept."""
        values = distinct([self.extra.get(name, value), value])
        if len(values) > 1:
            self.given_twice(name, values)
        else:
            self.extra[name] = value

    def note_twice(self, name: str, values: list[Json]) -> None:
        """The same within a field that nobody knows: its own value holds them all."""
        self.problems.append(Problem(name, values, "given_twice"))

    def keep_whole(self, text: str) -> None:
        """Put the whole body aside, which holds more than is read one by one."""
        self.problems.append(Problem(MORE, self.beyond, "too_many_values"))
        self.keep(MORE, text)

    def given_twice(self, name: str, values: list[Json]) -> None:
        """Of several values the first counts; all are kept, and a problem says so."""
        self.extra[name] = values
        self.problems.append(Problem(name, values, "given_twice"))

    def renamed(self, tables: Iterable[Mapping[str, str]]) -> dict[str, Sent]:
        """The known fields by our names. Of two that mean the same, the earlier table's counts."""
        ours: dict[str, Sent] = {}
        for table in tables:
            for name, sent in self.known.items():
                our = table.get(name)
                if our is None:
                    continue
                if isinstance(sent.value, list):
                    sent = Sent(sent.name, plain(sent.value))
                if ours.setdefault(our, sent) != sent:
                    self.keep(sent.name, sent.value)
        return ours


def sort_fields(pairs: Pairs, names: Container[str], path: str = "") -> Fields:
    """Tell the known fields from the others. `path` stands before each name that is reported."""
    fields = Fields()
    known = fields.known
    others: dict[str, list[Sent]] = {}
    for name, value in pairs:
        if isinstance(value, Rest):
            fields.beyond += value
            continue
        # Plum's own pages spell start_timestamp in two ways, so known names are compared without case.
        folded = name.casefold()
        key, sent = folded if folded in names else name, Sent(path + name, value)
        if key in names and key not in known:
            known[key] = sent
        else:
            others.setdefault(key, [known[key]] if key in known else []).append(sent)
    for key, given in others.items():
        values = distinct([plain(one.value, one.name, fields.note_twice) for one in given])
        if len(values) > 1:
            fields.given_twice(given[0].name, values)
        elif key not in names:
            fields.keep(given[0].name, values[0])
    return fields
