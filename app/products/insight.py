"""Insight: a `call_details` without phone number, duration or call id.

Only a reference in the result_url distinguishes the calls: two calls of one batch can send identical bodies.
"""

from app.products import call_details

FIELDS = call_details.FIELDS
STATUSES = call_details.STATUSES

# Fuse's callback does not have this field.
MARKS = frozenset({"last_attempt_timestamp"})
