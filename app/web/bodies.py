"""Reads the bodies of posts, and limits how many bytes of them a process holds at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from app.config import MAX_HELD_BYTES
from app.errors import Overloaded
from app.web.errors import BodyTooLarge

CHUNK_BYTES = 65536
HEAD_BYTES = 65536  # so that the largest allowed body fits together with its headers
# A client sees a 413 only after it has sent its body, so this much beyond the limit is read and thrown away.
DRAIN_BYTES = 16 * 1048576


class Held:
    """Counts the bytes that the process holds of all posts."""

    def __init__(self, limit: int = MAX_HELD_BYTES + HEAD_BYTES) -> None:
        self._limit = limit
        self._count = 0

    def add(self, count: int) -> None:
        """Raises `Overloaded` if the limit would be exceeded."""
        if self._count + count > self._limit:
            raise Overloaded("too many bodies at once; post it again")
        self._count += count

    def remove(self, count: int) -> None:
        self._count -= count


class Body:
    """One post's body. As a context manager it counts the bytes as held until its exit."""

    def __init__(self, environ: dict[str, Any], limit: int, held: Held) -> None:
        self._environ = environ
        self._limit = limit
        self._held = held
        self._count = 0

    def __enter__(self) -> Body:
        return self

    def __exit__(self, *_: object) -> None:
        self._held.remove(self._count)

    def hold(self, count: int) -> None:
        """Count so many more bytes, of the body or of its headers. Raises `Overloaded`."""
        self._held.add(count)
        self._count += count

    def read(self) -> tuple[bytes, bool]:
        """Return the body, and whether it is complete. Raises `BodyTooLarge`, `Overloaded`.

        The bytes are counted while reading, since a chunked body has no Content-Length.
        """
        declared = self._declared()
        if declared is None and not self._environ.get("wsgi.input_terminated"):
            return b"", True
        if declared is not None and declared > self._limit + DRAIN_BYTES:
            raise BodyTooLarge(f"the body is larger than {self._limit} bytes")
        chunks: list[bytes] = []
        size = 0
        is_complete = True
        for chunk in _chunks(
            self._environ["wsgi.input"], self._limit + DRAIN_BYTES if declared is None else declared
        ):
            if chunk is None:
                is_complete = False
                break
            size += len(chunk)
            if size <= self._limit:
                self.hold(len(chunk))
                chunks.append(chunk)
        if size > self._limit:
            raise BodyTooLarge(f"the body is larger than {self._limit} bytes")
        return b"".join(chunks), is_complete and (declared is None or size == declared)

    def _declared(self) -> int | None:
        length = self._environ.get("CONTENT_LENGTH", "")
        return int(length) if length.isdecimal() else None


def _chunks(stream: Any, most: int) -> Iterator[bytes | None]:
    """Yield chunks of the body, up to `most` bytes in all; None if the client closed the connection."""
    while most > 0:
        try:
            chunk = stream.read(min(CHUNK_BYTES, most))
        except Exception:  # noqa: BLE001  each server raises its own errors for a broken connection
            yield None
            return
        if not chunk:
            return
        most -= len(chunk)
        yield chunk
