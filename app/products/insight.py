"""Insight: a `call_details` without phone number, duration or any id of its own.

Only a reference in the result_url tells its calls apart: two calls of one batch can send identical bodies.
"""

from app.products import call_details

FIELDS = call_details.FIELDS
STATUSES = call_details.STATUSES

# Fuse's callback does not have it.
MARKS = frozenset({"last_attempt_timestamp"})
