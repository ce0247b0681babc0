"""Keys and tokens from memory: what is new opens at once, what is gone soon no more, and no flood comes through."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest

from app.errors import StoreUnavailable
from app.model import Integration, KnownKey, Scope, Token, hashed
from app.web import auth
from app.web.auth import Keyring, Secrets
from tests.conftest import wait_until

KNOWN = Integration("known", None)


def keys(**expires_at: datetime | None) -> dict[str, KnownKey]:
    return {hashed(name).hex(): KnownKey(KNOWN, at) for name, at in expires_at.items()}


class Store:
    """What opens something, and how often it was looked at."""

    def __init__(self, **expires_at: datetime | None) -> None:
        self.keys = keys(**expires_at)
        self.tokens: dict[str, Token] = {}
        self.looks = 0
        self.is_away = False
        self.answers = threading.Event()
        self.answers.set()

    def look(self) -> Secrets:
        self.looks += 1
        self.answers.wait(10)
        if self.is_away:
            raise StoreUnavailable("away")
        return Secrets(dict(self.keys), dict(self.tokens))

    def keyring(self, remembered: Mapping[str, KnownKey] = {}) -> Keyring:
        return Keyring(self.look, lambda: remembered, lambda _: None, lambda _: None)


def test_a_new_key_opens_at_once_and_one_taken_back_soon_no_more(monkeypatch) -> None:
    monkeypatch.setattr(auth, "LOOK_SECONDS", 0.05)
    store = Store(one=None)
    keyring = store.keyring()
    assert keyring.integration("one") == KNOWN
    assert keyring.integration("two") is None
    store.keys |= keys(two=None)
    assert keyring.integration("two") == KNOWN
    store.keys.clear()
    wait_until(lambda: keyring.integration("one") is None and keyring.integration("two") is None)


def test_a_token_opens_with_its_scope() -> None:
    store = Store()
    store.tokens = {hashed("t").hex(): Token("a", Scope.READ)}
    keyring = store.keyring()
    assert keyring.token("t") == Token("a", Scope.READ)
    assert keyring.token("u") is None
    assert keyring.integration("t") is None


def test_a_key_whose_grace_is_over_opens_nothing() -> None:
    now = datetime.now(UTC)
    keyring = Store(old=now - timedelta(seconds=1), new=now + timedelta(hours=1)).keyring()
    assert keyring.integration("old") is None
    assert keyring.integration("new") == KNOWN


def test_known_keys_read_the_store_about_once_a_second() -> None:
    store = Store(one=None)
    keyring = store.keyring()
    began = time.monotonic()
    for _ in range(2000):
        assert keyring.integration("one") == KNOWN
    assert store.looks <= 2 + time.monotonic() - began


def test_many_wrong_keys_share_a_few_refreshes() -> None:
    store = Store(one=None)
    keyring = store.keyring()
    found: list[object] = []
    threads = [
        threading.Thread(target=lambda at=at: found.append(keyring.integration(f"wrong {at}"))) for at in range(300)
    ]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [None] * 300
    assert store.looks <= 3 + (time.monotonic() - began) / auth.MISS_SECONDS


def test_while_the_store_is_away_known_keys_open_and_of_others_nothing_can_be_said() -> None:
    store = Store(one=None)
    keyring = store.keyring()
    assert keyring.integration("one") == KNOWN
    store.is_away = True
    with pytest.raises(StoreUnavailable):
        keyring.integration("two")
    assert keyring.integration("one") == KNOWN
    store.is_away = False
    store.keys |= keys(two=None)
    wait_until(lambda: _opens(keyring, "two"))


def _opens(keyring: Keyring, key: str) -> bool:
    try:
        return keyring.integration(key) is not None
    except StoreUnavailable:
        return False


def test_keys_of_an_earlier_process_count_only_where_the_store_is_away_from_the_start() -> None:
    store = Store(one=None)
    assert store.keyring(keys(gone=None)).integration("gone") is None
    store.is_away = True
    assert store.keyring(keys(gone=None)).integration("gone") == KNOWN


def test_a_store_that_hangs_keeps_no_known_key_waiting_once_it_is_noticed(monkeypatch) -> None:
    monkeypatch.setattr(auth, "LOOK_SECONDS", 0.05)
    store = Store(one=None)
    keyring = store.keyring()
    assert keyring.integration("one") == KNOWN
    store.is_away = True
    wait_until(lambda: keyring.integration("one") and keyring._failure is not None)
    store.answers.clear()
    time.sleep(0.1)
    began = time.monotonic()
    for _ in range(100):
        assert keyring.integration("one") == KNOWN
    assert time.monotonic() - began < 5
    store.answers.set()


def test_after_a_long_silence_nothing_old_counts(monkeypatch) -> None:
    monkeypatch.setattr(auth, "FRESH_SECONDS", 0.1)
    store = Store(one=None)
    keyring = store.keyring()
    assert keyring.integration("one") == KNOWN
    store.keys.clear()
    time.sleep(0.2)
    assert keyring.integration("one") is None


def test_a_fault_of_ours_counts_as_an_absent_store(caplog) -> None:
    def fail() -> Secrets:
        raise RuntimeError("a fault")

    keyring = Keyring(fail, lambda: keys(one=None), lambda _: None, lambda _: None)
    assert keyring.integration("one") == KNOWN
    with pytest.raises(StoreUnavailable):
        keyring.integration("two")
    assert "keys and tokens cannot be read" in caplog.text


def test_a_key_that_another_process_has_seen_opens_while_the_store_is_away() -> None:
    store = Store(one=None)
    seen = keys(one=None)
    keyring = Keyring(store.look, lambda: seen, lambda _: None, lambda _: None)
    assert keyring.integration("one") == KNOWN
    seen |= keys(later=None)
    store.is_away = True
    assert _opens(keyring, "later")
    assert _opens(keyring, "one")


def test_keys_that_cannot_be_saved_block_no_request() -> None:
    def fail(_: Mapping[str, KnownKey]) -> None:
        raise RecursionError

    keyring = Keyring(Store(one=None).look, lambda: keys(one=None), fail, lambda _: None)
    for _ in range(3):
        assert keyring.integration("one") == KNOWN


def test_after_silence_a_request_waits_for_one_refresh_only(monkeypatch) -> None:
    monkeypatch.setattr(auth, "FRESH_SECONDS", 0.01)
    monkeypatch.setattr(auth, "LOOK_SECONDS", 0.005)
    store = Store(one=None)
    keyring = store.keyring()
    for looks in range(1, 4):
        assert keyring.integration("one") == KNOWN
        assert store.looks == looks
        time.sleep(auth.MISS_SECONDS)


def test_an_impatient_request_uses_the_last_known_keys(monkeypatch) -> None:
    store = Store(one=None)
    store.answers.clear()
    keyring = store.keyring(keys(seen=None))
    began = time.monotonic()
    assert keyring.integration("seen", 0.1) == KNOWN
    with pytest.raises(StoreUnavailable):
        keyring.integration("one", 0.1)
    assert time.monotonic() - began < auth.PATIENCE_SECONDS / 2
    store.answers.set()
    assert keyring.integration("one") == KNOWN


def test_an_impatient_request_does_not_wait_for_a_slow_refresh(monkeypatch) -> None:
    monkeypatch.setattr(auth, "FRESH_SECONDS", 0.05)
    store = Store(one=None)
    keyring = store.keyring()
    assert keyring.integration("one") == KNOWN
    time.sleep(0.1)
    store.answers.clear()
    began = time.monotonic()
    assert keyring.integration("one", 0.1) == KNOWN
    assert time.monotonic() - began < auth.PATIENCE_SECONDS / 2
    store.answers.set()
