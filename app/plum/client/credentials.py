"""Credentials for Plum's APIs: never shown, and removed from Plum's texts."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from urllib.parse import quote, quote_plus

HIDDEN = "•••"
SHOWN_CHARACTERS = 200

_URL = re.compile(r"(https?://)(?:[^/\s?#]*@)?([^/\s?#]+)\S*", re.I)
# Like the receiver's masking: any run of digits may be a phone number.
_DIGITS = re.compile(r"\d(?:[^0-9A-Za-z]{0,3}\d){6,}")
_UNPRINTED = re.compile(r"[\x00-\x20\x7f-\xa0\u2028\u2029]+")


@dataclass(frozen=True, slots=True)
class Credentials:
    """DEV's login and PIN; the e-mail address and developer key of Insight and Fuse."""

    user: str = field(repr=False)
    secret: str = field(repr=False)

    def harmless(self, text: str) -> str:
        """Return Plum's text as one line of at most 200 characters that may be shown.

        Credentials, possible phone numbers and the paths of URLs, which hold an integration's key, are removed.
        """
        for spelling in sorted(self._spellings(), key=len, reverse=True):
            text = re.sub(re.escape(spelling), HIDDEN, text, flags=re.I)
        text = _URL.sub(rf"\1\2/{HIDDEN}", text)
        text = _DIGITS.sub(HIDDEN, text)
        return _UNPRINTED.sub(" ", text).strip()[:SHOWN_CHARACTERS]

    def _spellings(self) -> set[str]:
        basic = base64.b64encode(f"{self.user}:{self.secret}".encode()).decode()
        plain = {self.user, self.secret, basic}
        return {encode(value) for value in plain if value for encode in (str, quote, quote_plus)}
