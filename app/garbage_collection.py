"""Tuning of Python's cyclic garbage collector: our processes load many objects and make few cycles."""

from __future__ import annotations

import atexit
import gc

THRESHOLDS = (100_000, 20, 50)


def collect_rarely() -> None:
    """Run the collector rarely, and not at the exit, where it took a third of a short command's time.

    Cycles that are left at the exit are not finalised, so resources have to be closed explicitly.
    """
    gc.set_threshold(*THRESHOLDS)
    atexit.register(gc.freeze)
