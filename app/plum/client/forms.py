"""Serialise requests for Plum: the form fields, and the file of a batch."""

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

# The field of the contact list. DEV's name is unconfirmed: its documentation page shows the field without a name.
FILE_FIELD = {"dev": "input_file", "insight": "csv", "fuse": "csv"}


def call_form(product: str, request: CallRequest, credentials: Credentials) -> Form:
    """Return the form fields of one call, without those that the request does not set."""
    form = _terms(product, request, credentials) | {"phone_number": request.phone}
    if product == "dev":
        return form | _present(
            message_reference=request.reference, call_parameters=urlencode(request.metadata) or None
        )
    if product == "fuse":
        return form | _present(metadata=json.dumps(dict(request.metadata)) if request.metadata else None)
    return form | {f"metadata[{name}]": value for name, value in request.metadata.items()}


def bulk_form(product: str, request: BulkRequest, credentials: Credentials) -> Form:
    """Return the form fields of a batch, without its file."""
    form = _terms(product, request, credentials)
    return form | {"campaign_name": request.name} if product == "dev" else form


def bulk_file(product: str, request: BulkRequest) -> dict[str, File]:
    """Return the contact list without the BOM that spreadsheets add, since the first header must be `destination`."""
    content = request.csv.removeprefix(codecs.BOM_UTF8)
    return {FILE_FIELD[product]: ("contacts.csv", content, "text/csv")}


def _terms(product: str, terms: Terms, credentials: Credentials) -> Form:
    return _dev_terms(terms, credentials) if product == "dev" else _insight_fuse_terms(terms)


def _dev_terms(terms: Terms, credentials: Credentials) -> Form:
    retries = None if terms.max_attempts is None else terms.max_attempts - 1
    return _present(
        login=credentials.user,
        pin=credentials.secret,
        start_url=terms.start_url,
        result_url=terms.result_url,
        # Plum's newest page has the singular `max_retry`, all older pages the plural.
        max_retries=retries,
        max_retry=retries,
        retry_interval=terms.reattempt_wait_seconds,
        scheduled_timestamp=_unix(terms.start),
        expiration_timestamp=_unix(terms.end),
    )


def _insight_fuse_terms(terms: Terms) -> Form:
    return _present(
        result_url=terms.result_url,
        start_timestamp=_unix(terms.start),
        end_timestamp=_unix(terms.end),
        max_attempts=terms.max_attempts,
        reattempt_wait=terms.reattempt_wait_seconds,
        is_pci=1 if terms.pci else None,
    )


def _present(**values: str | int | None) -> Form:
    return {name: str(value) for name, value in values.items() if value is not None}


def _unix(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp())
