"""Bytes to text: by the declared charset if that works, else UTF-8, else Latin-1."""

from __future__ import annotations

import codecs
import re
from functools import lru_cache

# Python calls these encodings, but they transform text; two of them take quadratic time.
_NO_CHARSETS = {"idna", "punycode", "raw-unicode-escape", "undefined", "unicode-escape"}
_CHARSET = re.compile(r"charset\s*=\s*[\"']?([^\s;\"']+)", re.I)
_MARKS = (  # the longer ones first: UTF-32's begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_MARKED = {mark[:1] for mark, _ in _MARKS}


@lru_cache(maxsize=64)
def charset_of(content_type: str | None) -> str | None:
    """The charset that a content type declares, if it is one."""
    match = _CHARSET.search(content_type or "")
    try:
        name = codecs.lookup(match[1]).name.replace("_", "-") if match else None
        if name and name not in _NO_CHARSETS:
            " ".encode(name)  # codecs that are not for text raise LookupError
            return name
    except (LookupError, ValueError):
        return None
    return None


def decode(raw: bytes, charset: str | None) -> str:
    """Text by its declared charset if that works, else UTF-8, else Latin-1; a BOM is skipped."""
    return decoded(raw, charset)[0]


def decoded(raw: bytes, charset: str | None) -> tuple[str, str]:
    """The text, and the charset that worked."""
    marked = next((name for mark, name in _MARKS if raw.startswith(mark)), None) if raw[:1] in _MARKED else None
    for name in filter(None, (charset, marked, "utf-8")):
        try:
            return raw.decode(name).removeprefix("\ufeff"), name
        except UnicodeError:
            continue
    return raw.decode("latin-1"), "latin-1"
