"""What each of Plum's products says: `report()` turns a callback's bytes into a Report, in our field names.

One file a product, its tables first; this folder's listing is the list of what is understood.
"""

from __future__ import annotations

from collections.abc import Mapping

from app.errors import Unreadable
from app.model import Json, Problem, Product, Report, Sent, Status
from app.products import call_details, dev, fuse, insight, payload
from app.products.charsets import charset_of, decode
from app.products.duplicate_keys import MAX_VALUES, bounded, plain
from app.products.fields import Fields, sort_fields

_NAMES = dev.FIELDS.keys() | call_details.FIELDS.keys() | call_details.LISTS
# As `Problem.field` names them; those of a list's items without their numbers.
KNOWN_FIELDS = frozenset({*_NAMES, "events[]", *(f"events[].{name}" for name in call_details.EVENT_FIELDS)})
_FIELDS = {
    Product.DEV: (dev.FIELDS, call_details.FIELDS),
    Product.INSIGHT: (insight.FIELDS, dev.FIELDS),
    Product.FUSE: (fuse.FIELDS, dev.FIELDS),
}
_STATUSES = {Product.DEV: dev.RESULTS, Product.INSIGHT: insight.STATUSES, Product.FUSE: fuse.STATUSES}


def report(body: bytes, content_type: str | None, declared: Product | None) -> Report:
    """What the body says. `declared` is the integration's product, None for auto. Raises `Unreadable`."""
    pairs = call_details.unwrap(payload.read(body, content_type, _NAMES))
    if len(body) > MAX_VALUES:  # a shorter one cannot hold more
        pairs = bounded(pairs, _NAMES, call_details.LISTS)
    fields = sort_fields(pairs, _NAMES)
    if not fields.known:
        raise Unreadable("no_known_field")
    fields.extra.pop(call_details.ENVELOPE, None)
    product = _recognise(fields, declared)
    ours = fields.renamed(_FIELDS[product])
    events = call_details.events(fields)
    if fields.beyond:
        fields.keep_whole(decode(body, charset_of(content_type)))
    return Report(
        product=product,
        fields=ours,
        status=_word(ours.get("status"), _STATUSES[product]) or Status.UNKNOWN,
        callee_type=_callee_type(ours.get("callee_type")) if product is Product.DEV else None,
        events=events,
        extra=fields.extra,
        problems=tuple(fields.problems),
    )


def _recognise(fields: Fields, declared: Product | None) -> Product:
    """The product that the body shows. Where a product is declared, only a clear sign of another overrules it."""
    product, mark = _recognised(fields, declared)
    if declared and mark and product is not declared:
        fields.problems.append(Problem(mark.name, plain(mark.value), f"belongs_to_{product}"))
    return product


def _recognised(fields: Fields, declared: Product | None) -> tuple[Product, Sent | None]:
    of_dev, of_details = fields.first_of(dev.MARKS), fields.first_of(call_details.MARKS)
    of_fuse, of_insight = fields.first_of(fuse.MARKS), fields.first_of(insight.MARKS)
    if declared is Product.INSIGHT and of_fuse and of_fuse.value in (None, ""):
        of_fuse = None  # an empty field is no clear sign
    if declared is Product.DEV and (of_dev or not of_details):
        return Product.DEV, None
    if of_dev and not (declared and of_details):
        return Product.DEV, of_dev
    if declared is None and not of_details and "call_id" in fields.known:
        return Product.DEV, None  # its own id: the others send none
    if of_fuse:
        return Product.FUSE, of_details if declared is Product.DEV else of_fuse
    if declared is Product.FUSE and not of_insight:
        return Product.FUSE, None
    return Product.INSIGHT, of_details if declared is Product.DEV else of_insight


def _callee_type(sent: Sent | None) -> Json:
    return _word(sent, dev.CALLEE_TYPES) or dev.CALLEE_TYPES["unknown"]


def _word(sent: Sent | None, words: Mapping[str, Json]) -> Json:
    return words.get(sent.value.strip().casefold()) if sent and isinstance(sent.value, str) else None
