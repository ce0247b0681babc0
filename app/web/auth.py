"""Who posts under a key, and what a token may see: answered from memory.

While requests come, one look a second reads all keys and tokens that open something. A secret that is not among them
may be new, so it waits for a look that begins after it came; however many wrong ones come, they share a few looks.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import NamedTuple, TypeVar

from app.errors import StoreError, StoreUnavailable
from app.model import Integration, KnownKey, Token, hashed

LOOK_SECONDS = 1.0  # between looks while requests come
MISS_SECONDS = 0.1  # between looks while unknown secrets wait for them
FRESH_SECONDS = 3.0  # for which a look holds: a key that is disabled opens nothing anywhere within 5 s
AWAY_SECONDS = 8.0  # likewise for one that failed; while requests come there is another before that
FAILED_SECONDS = 0.2  # after which who brings an unknown secret waits for another look
PATIENCE_SECONDS = 6.0  # with a look, and the one under way before it
NOTED_SECONDS = 60.0  # between two notes that a token is in use

log = logging.getLogger(__name__)

_T = TypeVar("_T")


class Secrets(NamedTuple):
    """All that opens something now, by the hex of its hash."""

    keys: Mapping[str, KnownKey] = {}
    tokens: Mapping[str, Token] = {}


class Keyring:
    """The secrets that open something: integrations' keys and analysts' tokens."""

    def __init__(
        self,
        look: Callable[[], Secrets],
        remembered: Callable[[], Mapping[str, KnownKey]],
        remember: Callable[[Mapping[str, KnownKey]], object],
        note_use: Callable[[str], object],
    ) -> None:
        """`look` asks the store and raises `StoreUnavailable` in bounded time.

        `remembered` gives the keys that any process has seen last, for while the store is away; `remember` is told of
        all keys after each look. `note_use` is told a token's name at most once a minute, in a thread of its own:
        no reader waits for it.
        """
        self._look = look
        self._remember = remember
        self._note_use = note_use
        self._noted: dict[str, float] = {}  # by name, when it is to be noted again
        self._remembered = remembered
        self._secrets = Secrets()
        self._failure: StoreUnavailable | None = None  # of the last look
        self._began_at = self._ended_at = -AWAY_SECONDS  # of the last look that has ended
        self._under_way: threading.Event | None = None  # set once what the look has found counts
        self._starting = threading.Lock()

    def integration(self, key: str, patience: float = PATIENCE_SECONDS) -> Integration | None:
        """Whom the key opens for, or None. Raises `StoreUnavailable` if that cannot be known in so many seconds."""
        known = self._find(lambda secrets: _unless_expired(secrets.keys.get(hashed(key).hex())), patience)
        return known.integration if known else None

    def token(self, secret: str) -> Token | None:
        """The token, now in use, or None. Raises `StoreUnavailable` if it cannot be known."""
        found = self._find(lambda secrets: secrets.tokens.get(hashed(secret).hex()))
        if found and time.monotonic() >= self._noted.get(found.name, 0.0):
            self._noted[found.name] = time.monotonic() + NOTED_SECONDS
            threading.Thread(target=self._note, args=(found.name,), daemon=True).start()
        return found

    def _find(self, found_in: Callable[[Secrets], _T | None], patience: float = PATIENCE_SECONDS) -> _T | None:
        asked_at = time.monotonic()
        if found := found_in(self._in_time(asked_at, patience)):
            return found
        if self._failure and time.monotonic() - self._ended_at <= FAILED_SECONDS:
            raise self._failure
        failure = self._look_since(asked_at, patience)
        found = found_in(self._secrets)
        if failure and found is None:
            raise failure
        return found

    def _in_time(self, asked_at: float, patience: float) -> Secrets:
        """As of the last look. One that takes too long counts as failed for who waits for it."""
        age = asked_at - self._ended_at
        if age > (AWAY_SECONDS if self._failure else FRESH_SECONDS):
            if not self._start_look().wait(patience):
                return self._last_known(self._secrets)
        elif age > LOOK_SECONDS:
            self._start_look()
        return self._secrets

    def _last_known(self, secrets: Secrets) -> Secrets:
        return Secrets({**self._remembered(), **secrets.keys}, secrets.tokens)

    def _look_since(self, asked_at: float, patience: float) -> StoreUnavailable | None:
        """Wait for a look that began after that moment to end; what stood against it."""
        deadline = asked_at + patience
        while self._began_at < asked_at:
            if not self._start_look().wait(max(0.0, deadline - time.monotonic())):
                return StoreUnavailable("the store has not said in time what opens for whom")
        return self._failure

    def _start_look(self) -> threading.Event:
        """The look under way, else another. Who only starts it waits for nothing."""
        with self._starting:
            if self._under_way:
                return self._under_way
            look = self._under_way = threading.Event()
        threading.Thread(target=self._run_look, args=(look,), name="keys", daemon=True).start()
        return look

    def _run_look(self, look: threading.Event) -> None:
        time.sleep(max(0.0, self._began_at + MISS_SECONDS - time.monotonic()))
        began_at = time.monotonic()
        try:
            secrets, failure = self._looked()
            if failure:
                secrets = self._last_known(secrets)
            self._secrets, self._failure = secrets, failure
        finally:
            self._began_at, self._ended_at = began_at, time.monotonic()
            self._under_way = None
            look.set()

    def _looked(self) -> tuple[Secrets, StoreUnavailable | None]:
        """What opens something now; what was known before where that cannot be told."""
        try:
            secrets = self._look()
        except StoreUnavailable as error:
            return self._secrets, error
        except Exception as error:
            log.error("keys and tokens cannot be read", exc_info=error)
            return self._secrets, StoreUnavailable("keys and tokens cannot be read")
        try:
            self._remember(secrets.keys)
        except Exception as error:
            log.error("keys cannot be remembered for other processes", exc_info=error)
        return secrets, None

    def _note(self, name: str) -> None:
        try:
            self._note_use(name)
        except StoreError as error:
            log.warning("when a token was last used could not be noted: %s", error.detail)


def _unless_expired(known: KnownKey | None) -> KnownKey | None:
    return None if known is None or (known.expires_at and known.expires_at <= datetime.now(UTC)) else known
