"""The `call_details` element, which Insight and Fuse post, in each of its forms.

Plum documents it as the response of `GET /api/outbound/{call_id}` and calls the callback "identical to the
call_details element". Plum documents neither the encoding nor the words for busy, no answer and retries.
"""

from app.errors import Unreadable
from app.model import Json, Problem, Sent, Status
from app.products.duplicate_keys import Pairs, count_fitting, to_plain
from app.products.fields import Fields, sort_fields
from app.products.payload import parse_json

FIELDS = {
    "status": "status",
    "attempts": "attempts",
    "max_attempts": "max_attempts",
    "reattempt_wait": "reattempt_wait_seconds",
    "queued_timestamp": "queued_at",
    "start_timestamp": "start_at",
    "end_timestamp": "end_at",
    "last_attempt_timestamp": "last_attempt_at",
    "phone_number": "phone_number",
    "duration": "duration_seconds",
}
LISTS = frozenset({"events"})

STATUSES = {
    "completed": Status.COMPLETED,
    "failed": Status.FAILED,
    "canceled": Status.CANCELED,
    "cancelled": Status.CANCELED,
    "rejected": Status.REJECTED,
    "uncalled": Status.UNCALLED,
}

# The event names in Plum's pages; case does not matter. Those for busy, no answer and retries are not documented.
EVENTS = frozenset({"queued", "dialing", "connected", "disconnected", "canceled"})

# Fields that DEV does not have: a body with one of these is a call_details.
MARKS = frozenset(
    {
        "status",
        "events",
        "max_attempts",
        "reattempt_wait",
        "queued_timestamp",
        "start_timestamp",
        "end_timestamp",
    }
)

WRAPPER = "call_details"
ENVELOPE = "success"
EVENT_FIELDS = ("event", "timestamp")


def unwrap(pairs: Pairs) -> Pairs:
    """Return the fields without their wrapper, which is an object, or JSON text within a form."""
    inner, outer = Pairs(), Pairs()
    for name, value in pairs:
        content = _from_text(value) if name.casefold() == WRAPPER else None
        if isinstance(content, Pairs):
            inner.extend(content)
        else:
            outer.append((name, value))
    match outer:
        case [(name, str(text))] if text.strip() and not inner and name.casefold() == WRAPPER:
            parse_json(text)  # raises the reason why the only field does not parse
    return Pairs(inner + outer)


def events(fields: Fields) -> tuple[tuple[Sent, Sent], ...]:
    """Return the events as (name, timestamp), in the order sent. Other values go to `problems` and `extra`."""
    sent = fields.known.get("events")
    if sent is None or sent.value is None or (isinstance(sent.value, str) and not sent.value.strip()):
        return ()
    items = _items(_from_text(sent.value))
    if items is None:
        fields.problems.append(Problem(sent.name, to_plain(sent.value), "not_a_list"))
        return ()
    count = count_fitting(items)
    fields.beyond += len(items) - count
    parsed = (_event(fields, f"{sent.name}[{index}]", item) for index, item in enumerate(items[:count]))
    return tuple(event for event in parsed if event)


def _from_text(value: Json) -> Json:
    """Return the value; if it is JSON text, the parsed JSON."""
    if not isinstance(value, str):
        return value
    try:
        return parse_json(value)
    except Unreadable:
        return value


def _items(value: Json) -> list[Json] | None:
    if not isinstance(value, Pairs):
        return value if isinstance(value, list) else None
    # A single event instead of a list, or a list whose items have names: XML's, or PHP's {"0": …}.
    items = [item for _, item in value]
    return items if all(isinstance(item, Pairs) for item in items) else [value]


def _event(fields: Fields, path: str, item: Json) -> tuple[Sent, Sent] | None:
    if not isinstance(item, Pairs):
        fields.problems.append(Problem(path, to_plain(item), "not_an_event"))
        return None
    event_fields = sort_fields(item, EVENT_FIELDS, f"{path}.")
    for unknown_name, value in event_fields.extra.items():
        fields.keep(unknown_name, value)
    fields.problems.extend(event_fields.problems)
    event = event_fields.renamed([{name: name for name in EVENT_FIELDS}])
    name, timestamp = (event.get(name, Sent(f"{path}.{name}", None)) for name in EVENT_FIELDS)
    return name, timestamp
