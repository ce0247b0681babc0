"""Whether a delivery can be made durable, and what is wrong.

Anybody may ask, so nothing here says where store and spool are; the log does.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from app.errors import StoreError
from app.intake.breaker import within
from app.intake.spool import Spool
from app.store.sqlite_threads import Threads, aside

LOOK_SECONDS = 3.0
HUNG_SECONDS = 30.0  # housekeeping goes on at least every 12

_DISK = Threads(2)  # which may hang

log = logging.getLogger(__name__)


class Report(NamedTuple):
    is_ready: bool
    lines: list[str]


class Readiness:
    def __init__(
        self, checks: tuple[Callable[[], None], ...], spool: Spool, heartbeat: Callable[[], float | None]
    ) -> None:
        """`checks` raise while the store takes no delivery; `heartbeat` gives the age of housekeeping's last sign."""
        self._checks = checks
        self._spool = spool
        self._heartbeat = heartbeat

    def look(self) -> Report:
        store = next(filter(None, map(_wrong, self._checks)), None)
        spool = _wrong(partial(aside, self._spool.check, threads=_DISK))
        return Report(not (store and spool), [f"store: {store or 'ok'}", f"spool: {spool or 'ok'}", *self._remarks()])

    def _remarks(self) -> Iterator[str]:
        """What costs no delivery yet."""
        age = self._heartbeat()
        if age is None:
            yield "housekeeping: not running, so the spool is not drained; start: plum-outcomes housekeeping"
        elif age > HUNG_SECONDS:
            yield f"housekeeping: has not gone on for {age:.0f} s, so the spool is not drained; start it again"
        if count := aside(self._spool.aside):
            yield f"spool: {count} files are set aside; see docs/operations.md, then: plum-outcomes spool retry"


def _wrong(check: Callable[[], None]) -> str | None:
    """What is wrong, in words; the log says where."""
    try:
        within(LOOK_SECONDS, check)
    except StoreError as error:
        log.warning("not all is well: %s", error.detail)
        return str(error)
    return None
