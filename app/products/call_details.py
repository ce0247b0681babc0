"""The `call_details` element: what Insight and Fuse post, in any of its shapes.

Plum documents it as the answer of `GET /api/outbound/{call_id}` and calls the callback "identical to the
call_details element". Neither the encoding nor the words for busy, no answer and retries are documented.
"""

from app.errors import Unreadable
from app.model import Json, Problem, Sent, Status
from app.products.duplicate_keys import Pairs, fitting, plain
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

# Names of events that Plum's pages show; without case. Those for busy, no answer and retries are not documented.
EVENTS = frozenset({"queued", "dialing", "connected", "disconnected", "canceled"})

# Fields that DEV does not have: where one of these stands, the body is a call_details.
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
    """The fields themselves, from whichever wrapper: an object, or JSON text within a form."""
    inner, outer = Pairs(), Pairs()
    for name, value in pairs:
        content = _from_text(value) if name.casefold() == WRAPPER else None
        if isinstance(content, Pairs):
            inner.extend(content)
        else:
            outer.append((name, value))
    match outer:
        case [(name, str(text))] if text.strip() and not inner and name.casefold() == WRAPPER:
            parse_json(text)  # says why the one field there is could not be read
    return Pairs(inner + outer)


def events(fields: Fields) -> tuple[tuple[Sent, Sent], ...]:
    """The events as (name, timestamp), in the order sent; what does not fit goes to `problems` and `extra`."""
    sent = fields.known.get("events")
    if sent is None or sent.value is None or (isinstance(sent.value, str) and not sent.value.strip()):
        return ()
    items = _items(_from_text(sent.value))
    if items is None:
        fields.problems.append(Problem(sent.name, plain(sent.value), "not_a_list"))
        return ()
    read = fitting(items)
    fields.beyond += len(items) - read
    told = (_event(fields, f"{sent.name}[{at}]", item) for at, item in enumerate(items[:read]))
    return tuple(event for event in told if event)


def _from_text(value: Json) -> Json:
    """The value, or what its JSON text holds."""
    if not isinstance(value, str):
        return value
    try:
        return parse_json(value)
    except Unreadable:
        return value


def _items(value: Json) -> list[Json] | None:
    if not isinstance(value, Pairs):
        return value if isinstance(value, list) else None
    # One event that is no list, or a list whose items have names: XML's, or PHP's {"0": …}.
    items = [item for _, item in value]
    return items if all(isinstance(item, Pairs) for item in items) else [value]


def _event(fields: Fields, path: str, item: Json) -> tuple[Sent, Sent] | None:
    if not isinstance(item, Pairs):
        fields.problems.append(Problem(path, plain(item), "not_an_event"))
        return None
    within = sort_fields(item, EVENT_FIELDS, f"{path}.")
    for stranger, value in within.extra.items():
        fields.keep(stranger, value)
    fields.problems.extend(within.problems)
    event = within.renamed([{name: name for name in EVENT_FIELDS}])
    name, at = (event.get(name, Sent(f"{path}.{name}", None)) for name in EVENT_FIELDS)
    return name, at
