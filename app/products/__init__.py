"""Parsers of Plum's callbacks: `report()` turns the bytes of a callback into a Report, with our field names.

Each product has a module, with its tables first; the modules are the list of the products we understand.
"""

from __future__ import annotations

from collections.abc import Mapping

from app.errors import Unreadable
from app.model import Json, Problem, Product, Report, Sent, Status
from app.products import call_details, dev, fuse, insight, payload
from app.products.charsets import charset_of, decode
from app.products.duplicate_keys import MAX_VALUES, limit_values, to_plain
from app.products.fields import Fields, sort_fields

_NAMES = dev.FIELDS.keys() | call_details.FIELDS.keys() | call_details.LISTS
# The names that `Problem.field` may have; names of list items are without their index.
KNOWN_FIELDS = frozenset({*_NAMES, "events[]", *(f"events[].{name}" for name in call_details.EVENT_FIELDS)})
_FIELDS = {
    Product.DEV: (dev.FIELDS, call_details.FIELDS),
    Product.INSIGHT: (insight.FIELDS, dev.FIELDS),
    Product.FUSE: (fuse.FIELDS, dev.FIELDS),
}
_STATUSES = {Product.DEV: dev.RESULTS, Product.INSIGHT: insight.STATUSES, Product.FUSE: fuse.STATUSES}


def report(body: bytes, content_type: str | None, declared: Product | None) -> Report:
    """Parse a callback's body. `declared` is the integration's product, None for auto. Raises `Unreadable`."""
    pairs = call_details.unwrap(payload.read(body, content_type, _NAMES))
    if len(body) > MAX_VALUES:  # a shorter body cannot hold more values
        pairs = limit_values(pairs, _NAMES, call_details.LISTS)
    fields = sort_fields(pairs, _NAMES)
    if not fields.known:
        raise Unreadable("no_known_field")
    fields.extra.pop(call_details.ENVELOPE, None)
    product = _recognise(fields, declared)
    renamed = fields.renamed(_FIELDS[product])
    events = call_details.events(fields)
    if fields.beyond:
        fields.keep_whole(decode(body, charset_of(content_type)))
    return Report(
        product=product,
        fields=renamed,
        status=_word(renamed.get("status"), _STATUSES[product]) or Status.UNKNOWN,
        callee_type=_callee_type(renamed.get("callee_type")) if product is Product.DEV else None,
        events=events,
        extra=fields.extra,
        problems=tuple(fields.problems),
        body_bytes=len(body),
    )


def _recognise(fields: Fields, declared: Product | None) -> Product:
    """Return the body's product. Only a clear mark of another product overrules the declared one."""
    product, mark = _product_and_mark(fields, declared)
    if declared and mark and product is not declared:
        fields.problems.append(Problem(mark.name, to_plain(mark.value), f"belongs_to_{product}"))
    return product


def _product_and_mark(fields: Fields, declared: Product | None) -> tuple[Product, Sent | None]:
    """Return the product and the field that proves it, None if no field does."""
    dev_mark, details_mark = fields.first_of(dev.MARKS), fields.first_of(call_details.MARKS)
    fuse_mark, insight_mark = fields.first_of(fuse.MARKS), fields.first_of(insight.MARKS)
    if declared is Product.INSIGHT and fuse_mark and fuse_mark.value in (None, ""):
        fuse_mark = None  # an empty field is not a clear mark
    if declared is Product.DEV and (dev_mark or not details_mark):
        return Product.DEV, None
    if dev_mark and not (declared and details_mark):
        return Product.DEV, dev_mark
    if declared is None and not details_mark and "call_id" in fields.known:
        return Product.DEV, None  # only DEV sends a call_id
    if fuse_mark:
        return Product.FUSE, details_mark if declared is Product.DEV else fuse_mark
    if declared is Product.FUSE and not insight_mark:
        return Product.FUSE, None
    return Product.INSIGHT, details_mark if declared is Product.DEV else insight_mark


def _callee_type(sent: Sent | None) -> Json:
    return _word(sent, dev.CALLEE_TYPES) or dev.CALLEE_TYPES["unknown"]


def _word(sent: Sent | None, words: Mapping[str, Json]) -> Json:
    return words.get(sent.value.strip().casefold()) if sent and isinstance(sent.value, str) else None
