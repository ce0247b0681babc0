"""Formats values for people: times in a zone, durations, numbers, and our names as words."""

from __future__ import annotations

import json
from datetime import datetime, tzinfo
from typing import Any

from markupsafe import Markup

NOTHING = "–"
_SPELLED = {  # Plum's words, and short forms of our names
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
    """Return `19 Jul 2004 17:46:03` in a `<time>` element with the machine-readable time."""
    if value is None:
        return NOTHING
    at = (datetime.fromisoformat(value) if isinstance(value, str) else value).astimezone(zone)
    return Markup('<time datetime="{}">{}</time>').format(
        at.isoformat(timespec="seconds"), f"{at:%-d %b %Y %H:%M:%S}"
    )


def duration(seconds: float | None) -> str:
    """Return `37 s`, `2 min 5 s`, `3 h 20 min` or `4 d 2 h`: the two largest units."""
    if seconds is None:
        return NOTHING
    rest, texts = round(abs(seconds)), []
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        if count:
            texts.append(f"{count} {unit}")
    return ("−" if seconds < 0 else "") + (" ".join(texts[:2]) or "0 s")


def number(value: float | None) -> str:
    """Return the number like `12,345`."""
    return NOTHING if value is None else f"{value:,}"


def counted(number: int, one: str, many: str) -> str:
    """Return the number with its noun, like `1 call` or `1,200 calls`."""
    return f"{number:,} {one if number == 1 else many}"


def percent(share: float | None) -> str:
    """Return a fraction of 1 like `41.7 %`."""
    return NOTHING if share is None else f"{share * 100:.1f} %"


def as_json(value: Any) -> str:
    """Return indented JSON, with non-ASCII characters unescaped."""
    return json.dumps(value, ensure_ascii=False, indent=1, default=str)


def name(word: Any) -> str:
    """Return `Ended at` for `ended_at`."""
    text = _SPELLED.get(str(word), str(word).replace("_", " "))
    return text[:1].upper() + text[1:]
