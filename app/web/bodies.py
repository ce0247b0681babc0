"""A post's bytes, read before anything is made of them, and how many of them the process holds at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from app.config import MAX_HELD_BYTES
from app.errors import Overloaded
from app.web.errors import BodyTooLarge

CHUNK_BYTES = 65536
HEAD_BYTES = 65536  # so that the largest body that is allowed has room with its headers
# A sender that is still writing does not see a 413 before it is done, so this much is read and thrown away.
DRAIN_BYTES = 16 * 1048576


class Held:
    """Counts the bytes of all posts under way."""

    def __init__(self, limit: int = MAX_HELD_BYTES + HEAD_BYTES) -> None:
        self._limit = limit
        self._count = 0

    def add(self, count: int) -> None:
        """Raises `Overloaded`."""
        if self._count + count > self._limit:
            raise Overloaded("too many bodies at once; post it again")
        self._count += count

    def remove(self, count: int) -> None:
        self._count -= count


class Body:
    """One post's bytes. They count as held until it is left."""

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
        """Count so many bytes more, of the body or of what is kept beside it. Raises `Overloaded`."""
        self._held.add(count)
        self._count += count

    def read(self) -> tuple[bytes, bool]:
        """The bytes, and whether they are all. Raises `BodyTooLarge`, `Overloaded`.

        Counted while reading: a chunked body has no Content-Length.
        """
        declared = self._declared()
        if declared is None and not self._environ.get("wsgi.input_terminated"):
            return b"", True
        if declared is not None and declared > self._limit + DRAIN_BYTES:
            raise BodyTooLarge(f"the body is larger than {self._limit} bytes")
        chunks: list[bytes] = []
        size = 0
        whole = True
        for chunk in _chunks(
            self._environ["wsgi.input"], self._limit + DRAIN_BYTES if declared is None else declared
        ):
            if chunk is None:
                whole = False
                break
            size += len(chunk)
            if size <= self._limit:
                self.hold(len(chunk))
                chunks.append(chunk)
        if size > self._limit:
            raise BodyTooLarge(f"the body is larger than {self._limit} bytes")
        return b"".join(chunks), whole and (declared is None or size == declared)

    def _declared(self) -> int | None:
        length = self._environ.get("CONTENT_LENGTH", "")
        return int(length) if length.isdecimal() else None


def _chunks(stream: Any, most: int) -> Iterator[bytes | None]:
    """Pieces of the body up to `most` bytes; None where the sender hung up."""
    while most > 0:
        try:
            chunk = stream.read(min(CHUNK_BYTES, most))
        except Exception:  # noqa: BLE001  each server has its own names for a connection that broke
            yield None
            return
        if not chunk:
            return
        most -= len(chunk)
        yield chunk
