"""A simulator of Plum, to try everything without placing a call.

It imports nothing of the receiver or of our client, so its expectations depend only on the bytes on the wire.
"""

from __future__ import annotations

from app.plum.simulator.campaign import BASE, Call, Noise, Post, Target, campaign, noise
from app.plum.simulator.probing import ProbeFailed, probe, probe_start
from app.plum.simulator.result_sender import Starts, Summary, expectations, run, start
from app.plum.simulator.wire_forms import ANY_FORM, DRAWN, FORMS, Encoding

__all__ = [
    "ANY_FORM",
    "BASE",
    "DRAWN",
    "FORMS",
    "Call",
    "Encoding",
    "Noise",
    "Post",
    "ProbeFailed",
    "Starts",
    "Summary",
    "Target",
    "campaign",
    "expectations",
    "noise",
    "probe",
    "probe_start",
    "run",
    "start",
]
