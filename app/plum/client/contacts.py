"""Plum's contact list: a CSV whose first header is `destination`.

https://docs.plumvoice.com/dev/plum-dev-apis/dev-outbound-apis/contacts-csv-formatting
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

from app.plum.client.failures import InvalidRequest
from app.plum.client.phones import PHONE, PHONE_FORM

# Maximum characters in a row of DEV's list; its page allows fewer for a reference here than in a single call.
# https://api-docs.plumvoice.com/reference/post_queuecalls-php
DEV_COLUMNS = {"message_reference": 128, "call_parameters": 255}


def contacts(product: str, content: bytes) -> int:
    """Return the number of rows, at least one. Raises `InvalidRequest` for a list that Plum could not dial."""
    rows = _rows(content)
    header = next(rows, [])
    if header[:1] != ["destination"]:
        raise InvalidRequest("csv", "a list whose first header is destination")
    if any(header.count(name) > 1 for name in header if name):  # spreadsheets leave several without a name
        raise InvalidRequest("csv", "a list whose headers differ")
    limits = {header.index(name): most for name, most in DEV_COLUMNS.items() if product == "dev" and name in header}
    count = 0
    for count, row in enumerate(rows, start=1):
        _check_row(count, row, header, limits)
    if not count:
        raise InvalidRequest("csv", "a list with at least one row below its header")
    return count


def _rows(content: bytes) -> Iterator[list[str]]:
    try:
        text = content.decode("utf-8-sig")
        yield from (row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row)
    except (UnicodeDecodeError, csv.Error):
        raise InvalidRequest("csv", "CSV in UTF-8") from None


def _check_row(number: int, row: Sequence[str], header: Sequence[str], limits: dict[int, int]) -> None:
    if len(row) > len(header):
        raise InvalidRequest(f"csv row {number}", f"of at most {len(header)} cells, as many as the header")
    if not PHONE.fullmatch(row[0]):
        raise InvalidRequest(f"csv row {number}: destination", PHONE_FORM)
    for column, most in limits.items():
        if len(row) > column and len(row[column]) > most:
            raise InvalidRequest(f"csv row {number}: {header[column]}", f"at most {most} characters, for DEV")
