"""An object's fields as sent. Known names match in any case; the first value counts; all other values are kept."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field

from app.model import Json, Problem, Sent
from app.products.duplicate_keys import MORE, Pairs, Surplus, distinct, to_plain


@dataclass(slots=True)
class Fields:
    """The fields of one object: `known` by our spelling of Plum's name, the rest in `extra`."""

    known: dict[str, Sent] = field(default_factory=dict)
    extra: dict[str, Json] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    beyond: int = 0  # number of fields and items beyond those that are parsed

    def first_of(self, names: frozenset[str]) -> Sent | None:
        """Return the field of these names that was sent first."""
        if names.isdisjoint(self.known):
            return None
        return next((sent for name, sent in self.known.items() if name in names), None)

    def keep(self, name: str, value: Json) -> None:
        """Keep an unknown field in `extra`; different values of one name are all kept."""
        values = distinct([self.extra.get(name, value), value])
        if len(values) > 1:
            self.given_twice(name, values)
        else:
            self.extra[name] = value

    def note_twice(self, name: str, values: list[Json]) -> None:
        """Add a problem for a name given twice within an unknown field; that field's own value holds all values."""
        self.problems.append(Problem(name, values, "given_twice"))

    def keep_whole(self, text: str) -> None:
        """Keep the whole body in `extra`, since it holds more values than are parsed."""
        self.problems.append(Problem(MORE, self.beyond, "too_many_values"))
        self.keep(MORE, text)

    def given_twice(self, name: str, values: list[Json]) -> None:
        """Keep all values of a field that was given twice, and add a problem; the first value counts."""
        self.extra[name] = values
        self.problems.append(Problem(name, values, "given_twice"))

    def renamed(self, tables: Iterable[Mapping[str, str]]) -> dict[str, Sent]:
        """Return the known fields by our names. If two fields have the same meaning, the earlier table's counts."""
        ours: dict[str, Sent] = {}
        for table in tables:
            for name, sent in self.known.items():
                our = table.get(name)
                if our is None:
                    continue
                if isinstance(sent.value, list):
                    sent = Sent(sent.name, to_plain(sent.value))
                if ours.setdefault(our, sent) != sent:
                    self.keep(sent.name, sent.value)
        return ours


def sort_fields(pairs: Pairs, names: Container[str], path: str = "") -> Fields:
    """Separate the known fields from the others. `path` is the prefix of each reported name."""
    fields = Fields()
    known = fields.known
    others: dict[str, list[Sent]] = {}
    for name, value in pairs:
        if isinstance(value, Surplus):
            fields.beyond += value
            continue
        # Plum's own pages spell start_timestamp in two ways, so known names are compared without case.
        folded = name.casefold()
        key, sent = folded if folded in names else name, Sent(path + name, value)
        if key in names and key not in known:
            known[key] = sent
        else:
            others.setdefault(key, [known[key]] if key in known else []).append(sent)
    for key, repeated in others.items():
        values = distinct([to_plain(sent.value, sent.name, fields.note_twice) for sent in repeated])
        if len(values) > 1:
            fields.given_twice(repeated[0].name, values)
        elif key not in names:
            fields.keep(repeated[0].name, values[0])
    return fields
