"""Parse the form of a queue request as Plum does, or reject it with an error like Plum's.

A second implementation of Plum's limits. It shares no code with our client, so that tests can compare the two.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

Form = Mapping[str, str]

# The field and its minimum; DEV counts retries, in addition to the first attempt.
ATTEMPTS = {"dev": ("max_retries", 0), "insight": ("max_attempts", 1), "fuse": ("max_attempts", 1)}
MOST_ATTEMPTS = 10
WINDOWS = {
    "dev": ("scheduled_timestamp", "expiration_timestamp"),
    "insight": ("start_timestamp", "end_timestamp"),
    "fuse": ("start_timestamp", "end_timestamp"),
}
WAITS = {"dev": (60, 172800), "insight": (0, 2**31 - 1), "fuse": (60, 86400)}
TEXT_CHARACTERS = 255
PHONE = re.compile(r"(tel:)?\+?\d{3,20}(;(ani=\+?\d+|postd=[\d*#,]+))*", re.A)


class Rejected(Exception):
    """Plum would not queue this request; the message is Plum's `error`."""


@dataclass(frozen=True, slots=True)
class QueueRequest:
    """One call to dial. Times are Unix seconds; `to` is the deployment, or DEV's campaign."""

    product: str
    to: str
    phone_number: str
    result_url: str
    start_url: str
    message_reference: str
    call_parameters: str
    max_attempts: int
    reattempt_wait: int
    start: int | None
    end: int | None


def single(product: str, to: str, form: Form) -> QueueRequest:
    """Return the order of a single queue request. Raises Rejected."""
    return _order(product, to, form, form.get("phone_number", ""))


def batch(product: str, to: str, form: Form, content: bytes | None) -> list[QueueRequest]:
    """Return one order for each row of the contact list. Raises Rejected if any part is invalid."""
    rows = _rows(content)
    if rows[0][:1] != ["destination"]:
        raise Rejected("The uploaded CSV was invalid: the first column header must be 'destination'.")
    if len(rows) == 1:
        raise Rejected("The uploaded CSV was invalid: it holds no contacts.")
    return [_row_order(product, to, form, dict(zip(rows[0], row, strict=False))) for row in rows[1:]]


def _rows(content: bytes | None) -> list[list[str]]:
    if not content:
        raise Rejected("The uploaded CSV was not supplied.")
    try:
        rows = [row for row in csv.reader(io.StringIO(content.decode(), newline=""), strict=True) if row]
    except (UnicodeDecodeError, csv.Error):
        raise Rejected("The uploaded CSV was invalid.") from None
    return rows or [[]]


def _row_order(product: str, to: str, form: Form, row: Form) -> QueueRequest:
    order = _order(product, to, form, row["destination"])
    if product != "dev":
        return order
    return replace(
        order,
        message_reference=_short("message_reference", row, order.message_reference),
        call_parameters=_short("call_parameters", row, order.call_parameters),
    )


def _order(product: str, to: str, form: Form, phone_number: str) -> QueueRequest:
    if not PHONE.fullmatch(phone_number):
        raise Rejected("The phone_number is missing or invalid.")
    if product == "fuse":
        _number("is_pci", form, (0, 1))
    attempts, wait = _attempts(product, form)
    start, end = _window(product, form)
    return QueueRequest(
        product=product,
        to=to,
        phone_number=phone_number,
        result_url=_url(product, "result_url", form),
        start_url=_url(product, "start_url", form) if product == "dev" else "",
        message_reference=_short("message_reference", form),
        call_parameters=_short("call_parameters", form),
        max_attempts=attempts,
        reattempt_wait=wait,
        start=start,
        end=end,
    )


def _attempts(product: str, form: Form) -> tuple[int, int]:
    """Return the maximum number of attempts, and the wait between them in seconds."""
    name, least = ATTEMPTS[product]
    wait_name = "retry_interval" if product == "dev" else "reattempt_wait"
    limit = _number(name, form, (least, MOST_ATTEMPTS))
    if limit is None and product == "dev":  # the newest page's spelling
        limit = _number("max_retry", form, (least, MOST_ATTEMPTS))
    wait = _number(wait_name, form, WAITS[product])
    attempts = 1 if limit is None else limit + 1 - least
    if attempts > 1 and wait is None:
        raise Rejected(f"The {wait_name} is required with more than one attempt.")
    return attempts, wait or 0


def _window(product: str, form: Form) -> tuple[int | None, int | None]:
    names = WINDOWS[product]
    start, end = (_number(name, form) or None for name in names)  # DEV's 0 means "at once" and "never"
    if start is not None and end is not None and end <= start:
        raise Rejected(f"The {names[1]} cannot be earlier than the {names[0]}.")
    return start, end


def _number(name: str, form: Form, bounds: tuple[int, int] = (0, 10**12)) -> int | None:
    text = form.get(name, "")
    if not text:
        return None
    if not re.fullmatch(r"\d{1,12}", text, re.A) or not bounds[0] <= int(text) <= bounds[1]:
        raise Rejected(f"The {name} must be an integer between {bounds[0]} and {bounds[1]}.")
    return int(text)


def _url(product: str, name: str, form: Form) -> str:
    url = form.get(name, "")
    if not url and name == "start_url":
        raise Rejected("The start_url is required.")
    if product == "dev":
        _short(name, form)
    if url and not _is_url(url):
        raise Rejected(f"The {name} is not a URL.")
    return url


def _is_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        has_host = bool(parts.hostname) and parts.port != 0
    except ValueError:  # an invalid port or IPv6 address
        return False
    return parts.scheme in ("http", "https") and has_host and re.fullmatch(r"[!-~]+", url) is not None


def _short(name: str, form: Form, default: str = "") -> str:
    text = form.get(name, default)
    if len(text) > TEXT_CHARACTERS:
        raise Rejected(f"The {name} is longer than {TEXT_CHARACTERS} characters.")
    return text
