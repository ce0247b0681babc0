"""Decode bytes to text: in the declared charset if that works, else UTF-8, else Latin-1. XML may declare its own."""

from __future__ import annotations

import codecs
import re
from functools import lru_cache

# Python calls these encodings, but they transform text; two of them take quadratic time.
_NO_CHARSETS = {"idna", "punycode", "raw-unicode-escape", "undefined", "unicode-escape"}
_CHARSET = re.compile(r"charset\s*=\s*[\"']?([^\s;\"']+)", re.I)
_MARKS = (  # the longer ones first: UTF-32's BOM begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (b"<\x00?\x00", "utf-16-le"),  # XML without a BOM
    (b"\x00<\x00?", "utf-16-be"),
)
_XML = re.compile(rb"\s*<\?xml\s[^>]*?encoding\s*=\s*[\"']([\w.:-]+)")
_FIRST_BYTES = {mark[:1] for mark, _ in _MARKS}


@lru_cache(maxsize=64)
def charset_of(content_type: str | None) -> str | None:
    """Return Python's name of the charset that a content type declares, None if Python has no such charset."""
    match = _CHARSET.search(content_type or "")
    return _codec(match[1]) if match else None


def _codec(charset: str) -> str | None:
    """Return Python's name for the charset, None if it is unknown or not for text."""
    try:
        name = codecs.lookup(charset).name.replace("_", "-")
        " ".encode(name)  # codecs that are not for text raise LookupError
    except (LookupError, ValueError):
        return None
    return None if name in _NO_CHARSETS else name


def _declared_in_xml(raw: bytes) -> str | None:
    """Return the encoding that the XML declaration names, None if the declaration itself does not decode in it."""
    match = _XML.match(raw)
    name = _codec(match[1].decode("latin-1")) if match else None
    try:
        return name if match and name and match[0].decode(name) == match[0].decode("latin-1") else None
    except UnicodeError:
        return None


def decode(raw: bytes, charset: str | None) -> str:
    """Return the text, decoded in the charset if that works, else UTF-8, else Latin-1; without its BOM."""
    return decoded(raw, charset)[0]


def decoded(raw: bytes, charset: str | None) -> tuple[str, str]:
    """Return the text as `decode` does, and the charset that worked."""
    by_mark = next((name for mark, name in _MARKS if raw.startswith(mark)), None) if raw[:1] in _FIRST_BYTES else None
    for name in filter(None, (charset, by_mark or _declared_in_xml(raw), "utf-8")):
        try:
            return raw.decode(name).removeprefix("\ufeff"), name
        except UnicodeError:
            continue
    return raw.decode("latin-1"), "latin-1"
