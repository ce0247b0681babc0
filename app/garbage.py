"""How often Python looks for garbage in cycles, which a process of ours makes little of and loads much beside."""

from __future__ import annotations

import atexit
import gc

THRESHOLDS = (100_000, 20, 50)


def collect_rarely() -> None:
    """Looking through what is being loaded, again and again and once more at the end, takes a third of a short
    command's time."""
    gc.set_threshold(*THRESHOLDS)
    atexit.register(gc.freeze)
