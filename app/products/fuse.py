"""Fuse: a `call_details` with the phone number (Plum's sample has quotes inside the text) and the duration."""

from app.products import call_details

FIELDS = call_details.FIELDS
STATUSES = call_details.STATUSES

# Insight's callback has neither field.
MARKS = frozenset({"phone_number", "duration"})
