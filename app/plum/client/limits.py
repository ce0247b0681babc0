"""Check requests against Plum's limits before they are sent.

https://docs.plumvoice.com/dev/plum-dev-apis/dev-outbound-apis
https://docs.plumvoice.com/insight/api/queuing-an-outbound-call
https://docs.plumvoice.com/fuse/apis/outbound-calls/outbound-call
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlencode, urlsplit

from app.plum.client.contacts import contacts
from app.plum.client.failures import InvalidRequest
from app.plum.client.phones import PHONE, PHONE_FORM
from app.plum.client.requests import BulkRequest, CallRequest, Terms


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one product. `waits` are in seconds; `url_characters` is None if Plum documents no limit."""

    max_attempts: int
    waits: tuple[int, int]
    takes_to: bool
    takes_pci: bool
    url_characters: int | None


LIMITS = {
    # DEV counts retries, 0 to 10, on top of the first attempt.
    "dev": Limits(11, (60, 172800), takes_to=False, takes_pci=False, url_characters=255),
    # Insight's page gives no range for the wait, and one of its samples has 0.
    "insight": Limits(10, (0, 2**31 - 1), takes_to=True, takes_pci=False, url_characters=None),
    "fuse": Limits(10, (60, 86400), takes_to=True, takes_pci=True, url_characters=None),
}

DEV_TEXT_CHARACTERS = 255
NAME_CHARACTERS = 255

_TO = re.compile(r"[A-Za-z0-9_-]{1,64}/[A-Za-z0-9_-]{1,64}")
_TO_FORM = {"insight": "SURVEY/INSTANCE", "fuse": "APPLICATION/DEPLOYMENT"}
_METADATA_NAME = re.compile(r"[^\[\]\x00-\x1f]{1,255}")


def check_call(product: str, request: CallRequest, now: datetime) -> None:
    """Raise `InvalidRequest` for the first limit that the request breaks."""
    if not PHONE.fullmatch(request.phone):
        raise InvalidRequest("phone", PHONE_FORM)
    if request.reference is not None and not 1 <= len(request.reference) <= DEV_TEXT_CHARACTERS:
        raise InvalidRequest("reference", f"1 to {DEV_TEXT_CHARACTERS} characters")
    _check_metadata(product, request.metadata)
    _check_terms(product, request, now)


def check_bulk(product: str, request: BulkRequest, now: datetime) -> int:
    """Return the number of calls in the batch. Raises `InvalidRequest` for the first limit that it breaks."""
    if not 1 <= len(request.name) <= NAME_CHARACTERS:
        raise InvalidRequest("name", f"1 to {NAME_CHARACTERS} characters")
    _check_terms(product, request, now)
    return contacts(product, request.csv)


def _check_terms(product: str, terms: Terms, now: datetime) -> None:
    limits = LIMITS[product]
    check_to(product, terms.to)
    _check_url("result_url", terms.result_url, limits)
    _check_start_url(product, terms.start_url)
    _check_attempts(terms, limits)
    _check_window(terms, now)
    if terms.pci and not limits.takes_pci:
        raise InvalidRequest("pci", "left out: only Fuse has it")


def check_to(product: str, to: str | None) -> None:
    """Raise `InvalidRequest` if `to` does not name a deployment of the product."""
    if not LIMITS[product].takes_to:
        if to is not None:
            raise InvalidRequest("to", "left out: DEV is told what to do by start_url")
    elif to is None or not _TO.fullmatch(to):
        raise InvalidRequest("to", f"{_TO_FORM[product]}, the two ids that Plum shows of the deployment")


def _check_start_url(product: str, url: str | None) -> None:
    if product != "dev":
        if url is not None:
            raise InvalidRequest("start_url", "left out: only DEV has it")
    elif url is None:
        raise InvalidRequest("start_url", "the address of the call's VoiceXML")
    else:
        _check_url("start_url", url, LIMITS[product])


def _check_url(field: str, url: str, limits: Limits) -> None:
    if not _is_url(url):
        raise InvalidRequest(field, "an http(s) address without spaces")
    if limits.url_characters is not None and len(url) > limits.url_characters:
        raise InvalidRequest(field, f"at most {limits.url_characters} characters")


def _is_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        has_host = bool(parts.hostname) and parts.port != 0
    except ValueError:  # an invalid port or IPv6 address
        return False
    return parts.scheme in ("http", "https") and has_host and not re.search(r"[^\x21-\x7e]", url)


def _check_attempts(terms: Terms, limits: Limits) -> None:
    attempts, wait = terms.max_attempts, terms.reattempt_wait_seconds
    least, most = limits.waits
    if attempts is not None and not 1 <= attempts <= limits.max_attempts:
        raise InvalidRequest("max_attempts", f"1 to {limits.max_attempts}")
    if wait is not None and not least <= wait <= most:
        raise InvalidRequest("reattempt_wait_seconds", f"{least} to {most}")
    if wait is None and (attempts or 1) > 1:
        raise InvalidRequest("reattempt_wait_seconds", "given where max_attempts is more than 1")


def _check_window(terms: Terms, now: datetime) -> None:
    for field, moment in (("start", terms.start), ("end", terms.end)):
        if moment is not None and (moment.utcoffset() is None or moment.timestamp() <= 0):
            raise InvalidRequest(field, "a moment with its offset from UTC, after 1970")
    if terms.end is None:
        return
    if terms.start is not None and int(terms.end.timestamp()) <= int(terms.start.timestamp()):
        raise InvalidRequest("end", "later than start")
    if terms.end <= now:
        raise InvalidRequest("end", "in the future: this window is over")


def _check_metadata(product: str, metadata: Mapping[str, str]) -> None:
    for name, value in metadata.items():
        if not isinstance(name, str) or not _METADATA_NAME.fullmatch(name):
            raise InvalidRequest("metadata", "named by 1 to 255 characters without brackets")
        if not isinstance(value, str):
            raise InvalidRequest("metadata", "texts by name")
    if product == "dev" and len(urlencode(metadata)) > DEV_TEXT_CHARACTERS:
        raise InvalidRequest("metadata", f"at most {DEV_TEXT_CHARACTERS} characters once it is urlencoded, for DEV")
