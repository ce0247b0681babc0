"""The readiness check: whether deliveries can be made durable, and what is wrong.

The report is public, so it does not say where store and spool are; the log does.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from app.cooperative import Threads, aside
from app.errors import StoreError, StoreUnavailable
from app.intake.breaker import within
from app.intake.spool import Spool

LOOK_SECONDS = 3.0
HUNG_SECONDS = 30.0  # housekeeping gives a heartbeat at least every 12 s

_DISK = Threads(2)  # the disk may hang

log = logging.getLogger(__name__)


class Report(NamedTuple):
    is_ready: bool
    lines: list[str]


class Readiness:
    def __init__(
        self, checks: tuple[Callable[[], None], ...], spool: Spool, heartbeat: Callable[[], float | None]
    ) -> None:
        """`checks` raise while the store takes no delivery; `heartbeat` returns the age of the last heartbeat."""
        self._checks = checks
        self._spool = spool
        self._heartbeat = heartbeat

    def look(self) -> Report:
        store = next(filter(None, map(_problem, self._checks)), None)
        spool = _problem(partial(aside, self._spool.check, threads=_DISK))
        return Report(
            not (store and spool), [f"store: {store or 'ok'}", f"spool: {spool or 'ok'}", *self._warnings()]
        )

    def _warnings(self) -> Iterator[str]:
        """Yield problems that do not yet lose deliveries."""
        age = self._heartbeat()
        if age is None:
            yield "housekeeping: not running, so the spool is not drained; start: plum-outcomes housekeeping"
        elif age > HUNG_SECONDS:
            yield f"housekeeping: has not gone on for {age:.0f} s, so the spool is not drained; start it again"
        with suppress(StoreUnavailable):  # a disk that does not answer is reported already
            if count := within(LOOK_SECONDS, partial(aside, self._spool.aside, threads=_DISK)):
                yield f"spool: {count} files are set aside; see docs/operations.md, then: plum-outcomes spool retry"


def _problem(check: Callable[[], None]) -> str | None:
    """Run the check and return its problem in words, or None. Only the log says where the part is."""
    try:
        within(LOOK_SECONDS, check)
    except StoreError as error:
        log.warning("a readiness check failed: %s", error.detail)
        return str(error)
    return None
