"""How values are told to people: times in a zone, durations, numbers, our own names as words."""

from __future__ import annotations

import json
from datetime import datetime, tzinfo
from typing import Any

from markupsafe import Markup

NOTHING = "–"
_SPELLED = {  # Plum's words, and names that a screen has less room for
    "noanswer": "no answer",
    "noattempt": "no attempt",
    "answeringmachine": "answering machine",
    "faxmachine": "fax machine",
    "informationtone": "information tone",
    "linefailure": "line failure",
    "dev": "DEV",
    "id": "ID",
    "call_id": "call ID",
    "duration_seconds": "duration",
    "reattempt_wait_seconds": "reattempt wait",
    "phone_number_raw": "number as sent",
    "status_raw": "status as sent",
    "callee_type_raw": "callee type as sent",
    "remote_addr": "sent from",
}


def moment(value: datetime | str | None, zone: tzinfo) -> str | Markup:
    """`19 Jul 2004 17:46:03` as an element that says which moment that is."""
    if value is None:
        return NOTHING
    at = (datetime.fromisoformat(value) if isinstance(value, str) else value).astimezone(zone)
    return Markup('<time datetime="{}">{}</time>').format(
        at.isoformat(timespec="seconds"), f"{at:%-d %b %Y %H:%M:%S}"
    )


def duration(seconds: float | None) -> str:
    """`37 s`, `2 min 5 s`, `3 h 20 min`, `4 d 2 h`: the two largest parts."""
    if seconds is None:
        return NOTHING
    whole, told = round(abs(seconds)), []
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, whole = divmod(whole, size)
        if count:
            told.append(f"{count} {unit}")
    return ("−" if seconds < 0 else "") + (" ".join(told[:2]) or "0 s")


def number(value: float | None) -> str:
    """`12,345`."""
    return NOTHING if value is None else f"{value:,}"


def counted(number: int, one: str, many: str) -> str:
    """`1 call`, `1,200 calls`."""
    return f"{number:,} {one if number == 1 else many}"


def percent(share: float | None) -> str:
    """`41.7 %` of a share of 1."""
    return NOTHING if share is None else f"{share * 100:.1f} %"


def as_json(value: Any) -> str:
    """As it was sent: letters stand for themselves."""
    return json.dumps(value, ensure_ascii=False, indent=1, default=str)


def name(word: Any) -> str:
    """`Ended at` for `ended_at`; a text that is no word of ours stays as it is."""
    text = _SPELLED.get(str(word), str(word).replace("_", " "))
    return text[:1].upper() + text[1:]
