"""One JSON object a line, as the query API shows the records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from json.encoder import encode_basestring

from app.exports.cells import json_text, one_line
from app.exports.columns import Batch, Column, Kind, Texts


def blocks(batches: Iterable[Batch], columns: Sequence[Column], _raw: bool) -> Iterator[bytes]:
    fields = ",".join(f"{json_text(name).replace('%', '%%')}:%s" for name, _ in columns)
    line = f"{{{fields}}}\n"
    for batch in batches:
        values = [_values(texts, kind) for texts, (_, kind) in zip(batch, columns, strict=True)]
        yield one_line("".join([line % row for row in zip(*values, strict=True)])).encode()


def _values(texts: Texts, kind: Kind) -> Sequence[str]:
    """As they stand in JSON, which is how numbers, flags, lists and objects look already."""
    encode = _ENCODED.get(kind)
    if encode is None:
        return ["null" if text is None else text for text in texts]
    return ["null" if text is None else encode(text) for text in texts]


_ENCODED: Mapping[Kind, Callable[[str], str]] = {Kind.TEXT: encode_basestring, Kind.MOMENT: '"{}"'.format}
