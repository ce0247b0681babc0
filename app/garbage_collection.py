"""How often Python looks for garbage in cycles, of which a process of ours makes little beside what it loads."""

from __future__ import annotations

import atexit
import gc

THRESHOLDS = (100_000, 20, 50)


def collect_rarely() -> None:
    """Look for garbage rarely, and not when the process ends: that took a third of a short command's time.

    Cycles that are left at the end are not finalised, so what has to be closed is closed by name.
    """
    gc.set_threshold(*THRESHOLDS)
    atexit.register(gc.freeze)
