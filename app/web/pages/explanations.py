"""Sentences that explain the words of records on pages."""

from __future__ import annotations

from app.model import CallState, Identity, Verdict, Via

VERDICTS = {
    Verdict.APPLIED: "It had new information. The call shows the newest reading.",
    Verdict.DUPLICATE: "It says the same as one before, so it changed nothing.",
    Verdict.SUPERSEDED: "It is older than what was known already, so it changed nothing.",
    Verdict.QUARANTINED: "It could not be understood. It is kept as it came, and can be read again.",
    Verdict.STARTED: "It says that the call has connected; it tells no result.",
}
VIAS = {
    Via.HTTP: "posted by Plum",
    Via.SPOOL: "posted by Plum while the store was away",
    Via.IMPORT: "imported",
    Via.POLL: "asked for at Plum, since no result had come",
}
IDENTITIES = {
    Identity.REFERENCE: "By the reference in its result_url: all that is posted there is about this call.",
    Identity.CALL_ID: "By DEV's call ID together with the message reference and the number as sent, since a call ID "
    "is unique on one of Plum's servers only.",
    Identity.DERIVED: "By the number as sent and the time when it was queued: Fuse sends no ID.",
    Identity.NONE: "By nothing: its delivery names no call, so each one is a call of its own. Put call/REFERENCE "
    "into the result_url, and each result finds its call.",
}
REASONS = {
    "cut_short": "The sender hung up before the body was whole",
    "empty": "There is no body",
    "no_known_field": "No field of it is one that Plum sends",
    "not_form": "It is not a form, nor anything else that can be read",
    "not_inflated": "It is compressed, and cannot be inflated",
    "not_json": "It says that it is JSON, and is none",
    "not_text": "Its bytes are no text",
    "not_understood": "It cannot be understood",
    "not_xml": "It says that it is XML, and is none",
    "store_refused": "The store does not take its content",
    "too_deep": "It is nested too deep",
    "too_large": "It is compressed, and inflates beyond 16 times PLUM_MAX_BODY_BYTES",
}
STATES = {
    CallState.WAITING: "its result has not come yet",
    CallState.RECEIVED: "its result has come",
    CallState.MISSING: "its window is over and no result has come",
    CallState.POLLED: "its result was asked for at Plum",
    CallState.UNKNOWN_TO_PLUM: "Plum does not know it",
    CallState.REFUSED: "Plum refused to queue it, or does not let this account see it",
}
