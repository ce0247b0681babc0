"""The in-memory cache of valid keys and tokens: whose a key is, and what a token may see.

While requests come, the cache is refreshed once a second: one read of all valid keys and tokens from the store. A
secret that is not in the cache may be new, so its request waits for a refresh that begins after the request came.
Requests with unknown secrets share refreshes, so any number of them costs the store only a few reads.
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

LOOK_SECONDS = 1.0  # between refreshes while requests come
MISS_SECONDS = 0.1  # between refreshes while unknown secrets wait for them
FRESH_SECONDS = 3.0  # maximum age of a refresh: a disabled key stops working in every process within 5 s
AWAY_SECONDS = 8.0  # the same for a refresh that failed; while requests come, another one runs before that
FAILED_SECONDS = 0.2  # after a failed refresh, how long unknown secrets fail at once instead of waiting for another
PATIENCE_SECONDS = 6.0  # timeout of a caller: for a refresh, and for the one that already runs
NOTED_SECONDS = 60.0  # between two records of a token's last use

log = logging.getLogger(__name__)

_T = TypeVar("_T")


class Secrets(NamedTuple):
    """All valid keys and tokens, by the hex of their hashes."""

    keys: Mapping[str, KnownKey] = {}
    tokens: Mapping[str, Token] = {}


class Keyring:
    """The valid secrets: integrations' keys and analysts' tokens."""

    def __init__(
        self,
        look: Callable[[], Secrets],
        remembered: Callable[[], Mapping[str, KnownKey]],
        remember: Callable[[Mapping[str, KnownKey]], object],
        note_use: Callable[[str], object],
    ) -> None:
        """`look` reads the secrets from the store, and raises `StoreUnavailable` in bounded time.

        `remembered` returns the keys that any process read last, for the time when the store is away. `remember`
        receives all keys after a refresh, and `note_use` a token's name at most once a minute; no request waits for
        either.
        """
        self._look = look
        self._remember = remember
        self._note_use = note_use
        self._noted: dict[str, float] = {}  # by token name, when its use is to be recorded again
        self._remembered = remembered
        self._secrets = Secrets()
        self._failure: StoreUnavailable | None = None  # of the last refresh
        self._began_at = self._ended_at = -AWAY_SECONDS  # of the last refresh that has ended
        self._running: threading.Event | None = None  # set when the secrets of this refresh are in use
        self._starting = threading.Lock()
        self._remembering = threading.Lock()

    def integration(self, key: str, patience: float = PATIENCE_SECONDS) -> Integration | None:
        """Return the key's integration, or None. Raises `StoreUnavailable` if it cannot be known in `patience` s."""
        known = self._find(lambda secrets: _unless_expired(secrets.keys.get(hashed(key).hex())), patience)
        return known.integration if known else None

    def token(self, secret: str) -> Token | None:
        """Return the token, or None; record its use. Raises `StoreUnavailable` if it cannot be known in time."""
        token = self._find(lambda secrets: secrets.tokens.get(hashed(secret).hex()))
        if token and time.monotonic() >= self._noted.get(token.name, 0.0):
            self._noted[token.name] = time.monotonic() + NOTED_SECONDS
            threading.Thread(target=self._note, args=(token.name,), daemon=True).start()
        return token

    def _find(self, select: Callable[[Secrets], _T | None], patience: float = PATIENCE_SECONDS) -> _T | None:
        asked_at = time.monotonic()
        if match := select(self._cached_secrets(asked_at, patience)):
            return match
        if self._failure and time.monotonic() - self._ended_at <= FAILED_SECONDS:
            raise self._failure
        failure = self._refresh_since(asked_at, patience)
        match = select(self._secrets)
        if failure and match is None:
            raise failure
        return match

    def _cached_secrets(self, asked_at: float, patience: float) -> Secrets:
        """Return the cached secrets. A refresh that exceeds `patience` counts as failed for this caller."""
        age = asked_at - self._ended_at
        if age > (AWAY_SECONDS if self._failure else FRESH_SECONDS):
            if not self._start_refresh().wait(patience):
                return self._last_known(self._secrets)
        elif age > LOOK_SECONDS:
            self._start_refresh()
        return self._secrets

    def _last_known(self, secrets: Secrets) -> Secrets:
        return Secrets({**self._remembered(), **secrets.keys}, secrets.tokens)

    def _refresh_since(self, asked_at: float, patience: float) -> StoreUnavailable | None:
        """Wait for the end of a refresh that began after `asked_at`. Returns its failure, or None."""
        deadline = asked_at + patience
        while self._began_at < asked_at:
            if not self._start_refresh().wait(max(0.0, deadline - time.monotonic())):
                return StoreUnavailable("the store did not return the keys and tokens in time")
        return self._failure

    def _start_refresh(self) -> threading.Event:
        """Return the refresh that runs, else start one. Does not wait for it."""
        with self._starting:
            if self._running:
                return self._running
            refresh = self._running = threading.Event()
        threading.Thread(target=self._run_refresh, args=(refresh,), name="keys", daemon=True).start()
        return refresh

    def _run_refresh(self, refresh: threading.Event) -> None:
        time.sleep(max(0.0, self._began_at + MISS_SECONDS - time.monotonic()))
        began_at = time.monotonic()
        try:
            secrets, failure = self._read_secrets()
            if failure:
                secrets = self._last_known(secrets)
            self._secrets, self._failure = secrets, failure
        finally:
            self._began_at, self._ended_at = began_at, time.monotonic()
            self._running = None
            refresh.set()
        if failure is None:
            self._remember_keys(secrets.keys)

    def _read_secrets(self) -> tuple[Secrets, StoreUnavailable | None]:
        """Read the secrets. If that fails, return the previous ones and the failure."""
        try:
            secrets = self._look()
        except StoreUnavailable as error:
            return self._secrets, error
        except Exception as error:
            log.error("keys and tokens cannot be read", exc_info=error)
            return self._secrets, StoreUnavailable("keys and tokens cannot be read")
        return secrets, None

    def _remember_keys(self, keys: Mapping[str, KnownKey]) -> None:
        """Remember the keys, unless that still runs since a disk stalls; a later refresh remembers them then."""
        if not self._remembering.acquire(blocking=False):
            return
        try:
            self._remember(keys)
        except Exception as error:
            log.error("keys cannot be remembered for other processes", exc_info=error)
        finally:
            self._remembering.release()

    def _note(self, name: str) -> None:
        try:
            self._note_use(name)
        except StoreError as error:
            log.warning("the last use of a token could not be recorded: %s", error.detail)


def _unless_expired(known: KnownKey | None) -> KnownKey | None:
    return None if known is None or (known.expires_at and known.expires_at <= datetime.now(UTC)) else known
