"""DEV: eight form fields, one call per callback.

Plum documents `result` as Completed or Failed, and nine words for `callee_type`. `result` does not follow from
`callee_type`: "completed" includes voicemail and fax. `call_id` is unique per Plum outbound server only.
"""

from app.model import CalleeType
from app.products.call_details import STATUSES

FIELDS = {
    "phone_number": "phone_number",
    "message_reference": "message_reference",
    "call_id": "call_id",
    "result": "status",
    "callee_type": "callee_type",
    "attempts": "attempts",
    "last_attempt_timestamp": "last_attempt_at",
    "duration": "duration_seconds",
}

RESULTS = STATUSES  # Plum documents the first two for DEV; the other words of call_details are accepted too

CALLEE_TYPES = {
    "voice": CalleeType.VOICE,
    "answeringmachine": CalleeType.ANSWERINGMACHINE,
    "faxmachine": CalleeType.FAXMACHINE,
    "fax": CalleeType.FAXMACHINE,  # the word of Fuse's in-call variable
    "busy": CalleeType.BUSY,
    "noanswer": CalleeType.NOANSWER,
    "informationtone": CalleeType.INFORMATIONTONE,
    "linefailure": CalleeType.LINEFAILURE,
    "noattempt": CalleeType.NOATTEMPT,
    "unknown": CalleeType.UNKNOWN,
}

# Fields that no other product has: a body with one of these is DEV's.
MARKS = frozenset({"result", "callee_type", "message_reference"})
