"""Decode content codings: gzip, deflate and br, as `Content-Encoding` names them (RFC 9110, 8.4.1)."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable

import brotli

from app.errors import Unreadable

INFLATION = 16  # a body may inflate to this many times the largest accepted body
MAX_CODINGS = 4  # nested codings; honest senders use one

GZIP = b"\x1f\x8b"
_ZLIB_BITS, _GZIP_BITS, _RAW_BITS = zlib.MAX_WBITS, zlib.MAX_WBITS | 16, -zlib.MAX_WBITS
_PIECE_BYTES = 1 << 20


class NotInflated(Exception):
    """The body is not in the coding that the header names, or is incomplete."""


def codings_of(headers: Iterable[tuple[str, str]]) -> list[str]:
    """Return the codings to decode, in the order in which they were applied; unknown names are skipped."""
    names = ",".join(value for name, value in headers if name.casefold() == "content-encoding")
    codings = (coding.strip().casefold() for coding in names.split(","))
    return [coding for coding in codings if coding in _INFLATE]


def inflated(body: bytes, codings: list[str], most: int) -> bytes:
    """Return the decoded body. Raises `NotInflated`; `Unreadable` (too_large) if a step gives over `most` bytes."""
    if len(codings) > MAX_CODINGS:
        raise NotInflated
    for coding in reversed(codings):
        body = _INFLATE[coding](body, most)
        if len(body) > most:
            raise Unreadable("too_large")
    return body


def _gzip(body: bytes, most: int) -> bytes:
    """Return the content of all members; other bytes after them are ignored, as gzip itself does."""
    content, rest = b"", body
    while rest.startswith(GZIP) and len(content) <= most:
        member, rest = _zlib(rest, most - len(content), _GZIP_BITS)
        content += member
    if rest is body:
        raise NotInflated
    return content


def _deflate(body: bytes, most: int) -> bytes:
    """Inflate zlib's format (RFC 1950), or raw deflate (RFC 1951), which some senders mean by the name."""
    for bits in (_ZLIB_BITS, _RAW_BITS):
        try:
            content, rest = _zlib(body, most, bits)
        except NotInflated:
            continue
        if not rest.strip():
            return content
    raise NotInflated


def _zlib(body: bytes, most: int, bits: int) -> tuple[bytes, bytes]:
    """Return the stream's content, at most `most` bytes plus one, and the bytes after the stream."""
    stream = zlib.decompressobj(bits)
    try:
        content = stream.decompress(body, most + 1)
    except zlib.error:
        raise NotInflated from None
    if len(content) <= most and not stream.eof:
        raise NotInflated
    return content, stream.unused_data


def _brotli(body: bytes, most: int) -> bytes:
    stream, content = brotli.Decompressor(), bytearray()
    try:
        while len(content) <= most:
            content += stream.process(body, output_buffer_limit=_PIECE_BYTES)
            body = b""
            if stream.can_accept_more_data():
                break
    except brotli.error:
        raise NotInflated from None
    if len(content) <= most and not stream.is_finished():
        raise NotInflated
    return bytes(content)


_INFLATE: dict[str, Callable[[bytes, int], bytes]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _deflate,
    "br": _brotli,
}
