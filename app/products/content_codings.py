"""Content codings undone: gzip, deflate and br, as `Content-Encoding` names them (RFC 9110, 8.4.1)."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable

import brotli

from app.errors import Unreadable

INFLATION = 16  # what a body may inflate to, in bodies of the largest size that is taken
MAX_CODINGS = 4  # one around the other; honest senders use one

GZIP = b"\x1f\x8b"
_ZLIB_BITS, _GZIP_BITS, _RAW_BITS = zlib.MAX_WBITS, zlib.MAX_WBITS | 16, -zlib.MAX_WBITS
_PIECE_BYTES = 1 << 20


class NotInflated(Exception):
    """The bytes are not, or not whole, what the header says."""


def codings_of(headers: Iterable[tuple[str, str]]) -> list[str]:
    """Those to undo, in the order in which they were applied; names that we do not know are passed over."""
    named = ",".join(value for name, value in headers if name.casefold() == "content-encoding")
    codings = (coding.strip().casefold() for coding in named.split(","))
    return [coding for coding in codings if coding in _INFLATE]


def inflated(body: bytes, codings: list[str], most: int) -> bytes:
    """Raises `NotInflated`, and `Unreadable` (too_large) where any step comes to more than `most` bytes."""
    if len(codings) > MAX_CODINGS:
        raise NotInflated
    for coding in reversed(codings):
        body = _INFLATE[coding](body, most)
        if len(body) > most:
            raise Unreadable("too_large")
    return body


def _gzip(body: bytes, most: int) -> bytes:
    """All members; what stands behind them and is none is passed over, as gzip itself does."""
    found, rest = b"", body
    while rest.startswith(GZIP) and len(found) <= most:
        member, rest = _zlib(rest, most - len(found), _GZIP_BITS)
        found += member
    if rest is body:
        raise NotInflated
    return found


def _deflate(body: bytes, most: int) -> bytes:
    """zlib's format (RFC 1950), or the bare one (RFC 1951) that some senders mean by the name."""
    for bits in (_ZLIB_BITS, _RAW_BITS):
        try:
            found, rest = _zlib(body, most, bits)
        except NotInflated:
            continue
        if not rest.strip():
            return found
    raise NotInflated


def _zlib(body: bytes, most: int, bits: int) -> tuple[bytes, bytes]:
    """What the stream holds, as far as `most` and one byte more, and what stands behind it."""
    stream = zlib.decompressobj(bits)
    try:
        found = stream.decompress(body, most + 1)
    except zlib.error:
        raise NotInflated from None
    if len(found) <= most and not stream.eof:
        raise NotInflated
    return found, stream.unused_data


def _brotli(body: bytes, most: int) -> bytes:
    stream, found = brotli.Decompressor(), bytearray()
    try:
        while len(found) <= most:
            found += stream.process(body, output_buffer_limit=_PIECE_BYTES)
            body = b""
            if stream.can_accept_more_data():
                break
    except brotli.error:
        raise NotInflated from None
    if len(found) <= most and not stream.is_finished():
        raise NotInflated
    return bytes(found)


_INFLATE: dict[str, Callable[[bytes, int], bytes]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _deflate,
    "br": _brotli,
}
