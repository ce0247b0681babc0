"""A file object in memory, for writers that need a file while their output is sent block by block."""

from __future__ import annotations

import io
from typing import Any


class Sink(io.RawIOBase):
    """A write-only file that cannot seek; `taken` returns the bytes written since its last call."""

    def __init__(self) -> None:
        super().__init__()
        self._written: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, block: Any, /) -> int:
        self._written.append(bytes(block))
        return len(self._written[-1])

    def taken(self) -> bytes:
        taken, self._written = b"".join(self._written), []
        return taken
