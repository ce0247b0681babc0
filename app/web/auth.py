"""Who posts under a key, and what a token may see; each asked of the store at most every few seconds."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from app.errors import StoreError, StoreUnavailable
from app.model import Integration, Token

FRESH_SECONDS = 3.0  # a key that is disabled opens nothing anywhere within 5 s
NOTED_SECONDS = 60.0  # between two notes that a token is in use

log = logging.getLogger(__name__)

_T = TypeVar("_T")


@dataclass(slots=True)
class _Known(Generic[_T]):
    opens: _T
    fresh_until: float


class Remembered(Generic[_T]):
    """Answers of `look_up`, kept while fresh, and beyond that while the store is away.

    Only what exists is kept, so a new key works at once and a flood of wrong ones fills no memory.
    """

    def __init__(self, look_up: Callable[[str], _T | None]) -> None:
        self._look_up = look_up
        self._known: dict[str, _Known[_T]] = {}

    def get(self, secret: str) -> _T | None:
        """What the secret opens, or None. Raises `StoreUnavailable` if that cannot be known."""
        known = self._known.get(secret)
        now = time.monotonic()
        if known:
            if now < known.fresh_until:
                return known.opens
            known.fresh_until = now + 1  # the others do not ask as well
        try:
            found = self._look_up(secret)
        except StoreUnavailable:
            if known is None:
                raise
            return known.opens
        if found is None:
            self._known.pop(secret, None)
        else:
            self._known[secret] = _Known(found, time.monotonic() + FRESH_SECONDS)
        return found


class Keyring:
    """The secrets that open something: integrations' keys and analysts' tokens."""

    def __init__(
        self,
        integration: Callable[[str], Integration | None],
        token: Callable[[str], Token | None],
        note_use: Callable[[str], object],
    ) -> None:
        """`note_use` is told a token's name at most once a minute, in a thread of its own: no reader waits for it."""
        self.integrations = Remembered(integration)
        self._tokens = Remembered(token)
        self._note_use = note_use
        self._noted: dict[str, float] = {}  # by name, when it is to be noted again

    def token(self, secret: str) -> Token | None:
        """The token, now in use, or None. Raises `StoreUnavailable` if it cannot be known."""
        found = self._tokens.get(secret)
        if found and time.monotonic() >= self._noted.get(found.name, 0.0):
            self._noted[found.name] = time.monotonic() + NOTED_SECONDS
            threading.Thread(target=self._note, args=(found.name,), daemon=True).start()
        return found

    def _note(self, name: str) -> None:
        try:
            self._note_use(name)
        except StoreError as error:
            log.warning("when a token was last used could not be noted: %s", error.detail)
