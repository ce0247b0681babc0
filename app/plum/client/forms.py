"""Requests in Plum's spelling: the form fields, and the file of a batch."""

from __future__ import annotations

import codecs
import json
from datetime import datetime
from urllib.parse import urlencode

from app.plum.client.credentials import Credentials
from app.plum.client.requests import BulkRequest, CallRequest, Terms

Form = dict[str, str]
FORM_TYPE = "application/x-www-form-urlencoded"
File = tuple[str, bytes, str]  # name, content, type

# What holds the contact list. DEV's name is unconfirmed: its page for reading shows the field without one.
FILE_FIELD = {"dev": "input_file", "insight": "csv", "fuse": "csv"}


def call_form(product: str, request: CallRequest, credentials: Credentials) -> Form:
    """The fields of one call, those left out that the request does not name."""
    form = _terms(product, request, credentials) | {"phone_number": request.phone}
    if product == "dev":
        return form | _named(message_reference=request.reference, call_parameters=urlencode(request.metadata) or None)
    if product == "fuse":
        return form | _named(metadata=json.dumps(dict(request.metadata)) if request.metadata else None)
    return form | {f"metadata[{name}]": value for name, value in request.metadata.items()}


def bulk_form(product: str, request: BulkRequest, credentials: Credentials) -> Form:
    """The fields beside the file."""
    form = _terms(product, request, credentials)
    return form | {"campaign_name": request.name} if product == "dev" else form


def bulk_file(product: str, request: BulkRequest) -> dict[str, File]:
    """The contact list, without the mark that spreadsheets put first: with it no header would be `destination`."""
    content = request.csv.removeprefix(codecs.BOM_UTF8)
    return {FILE_FIELD[product]: ("contacts.csv", content, "text/csv")}


def _terms(product: str, terms: Terms, credentials: Credentials) -> Form:
    return _dev_terms(terms, credentials) if product == "dev" else _numbered_terms(terms)


def _dev_terms(terms: Terms, credentials: Credentials) -> Form:
    retries = None if terms.max_attempts is None else terms.max_attempts - 1
    return _named(
        login=credentials.user,
        pin=credentials.secret,
        start_url=terms.start_url,
        result_url=terms.result_url,
        # The newest page spells it in the singular, all older ones in the plural.
        max_retries=retries,
        max_retry=retries,
        retry_interval=terms.reattempt_wait_seconds,
        scheduled_timestamp=_unix(terms.start),
        expiration_timestamp=_unix(terms.end),
    )


def _numbered_terms(terms: Terms) -> Form:
    return _named(
        result_url=terms.result_url,
        start_timestamp=_unix(terms.start),
        end_timestamp=_unix(terms.end),
        max_attempts=terms.max_attempts,
        reattempt_wait=terms.reattempt_wait_seconds,
        is_pci=1 if terms.pci else None,
    )


def _named(**values: str | int | None) -> Form:
    return {name: str(value) for name, value in values.items() if value is not None}


def _unix(at: datetime | None) -> int | None:
    return None if at is None else int(at.timestamp())
