"""DEV: eight form fields, one call each.

Plum documents `result` as Completed or Failed, and `callee_type` by nine words. The two are not one to one:
"completed" includes voicemail and fax. `call_id` is unique per Plum outbound server only.
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

RESULTS = STATUSES  # documented are the first two; the others' words are taken here as there

CALLEE_TYPES = {
    "voice": CalleeType.VOICE,
    "answeringmachine": CalleeType.ANSWERINGMACHINE,
    "faxmachine": CalleeType.FAXMACHINE,
    "fax": CalleeType.FAXMACHINE,  # Fuse's in-call variable says it so
    "busy": CalleeType.BUSY,
    "noanswer": CalleeType.NOANSWER,
    "informationtone": CalleeType.INFORMATIONTONE,
    "linefailure": CalleeType.LINEFAILURE,
    "noattempt": CalleeType.NOATTEMPT,
    "unknown": CalleeType.UNKNOWN,
}

# Fields that no other product has: where one of these stands, the body is DEV's.
MARKS = frozenset({"result", "callee_type", "message_reference"})
