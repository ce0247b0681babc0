"""Plum accounts from the settings, and API clients that use them."""

from __future__ import annotations

import time

from app.config import PREFIX, Settings
from app.errors import ConfigError
from app.model import Product
from app.plum.client import CallStatus, Client, connect
from app.plum.client.pacing import Pace

POLLS_PER_SECOND = 20.0
QUEUED_PER_SECOND = 5.0  # Plum warns that a fast loop of queue requests can make all calls fail

# The settings of each product's account: base URL, user, secret.
ACCOUNTS = {
    Product.DEV: ("dev_url", "dev_login", "dev_pin"),
    Product.INSIGHT: ("insight_url", "insight_user", "insight_key"),
    Product.FUSE: ("fuse_url", "fuse_user", "fuse_key"),
}


def connected(settings: Settings, product: Product, per_second: float = QUEUED_PER_SECOND) -> Client:
    """Return a client of the product's APIs that queues at most `per_second` calls a second.

    Raises `ConfigError` if the settings lack the account.
    """
    values = [getattr(settings, name) for name in ACCOUNTS[product]]
    if missing := [name for name, value in zip(ACCOUNTS[product], values, strict=True) if not value]:
        names = " and ".join(PREFIX + name.upper() for name in missing)
        raise ConfigError(f"to reach Plum's {product}, set {names} (each also as …_FILE)")
    return connect(product.value, *values, per_second=per_second)


class Accounts:
    """Asks Plum for the status of single calls, at a limited rate."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._clients: dict[Product, Client | None] = {}
        self._pace = Pace(1 / POLLS_PER_SECOND, time.monotonic, time.sleep)

    def __call__(self, product: Product, call_id: str) -> CallStatus | None:
        """Return the call's status, or None if the product has no account. Raises `ApiError`."""
        if product not in self._clients:
            self._clients[product] = self._connected(product)
        client = self._clients[product]
        if client is None:
            return None
        self._pace.wait()
        return client.status(call_id)

    def _connected(self, product: Product) -> Client | None:
        try:
            return connected(self._settings, product)
        except ConfigError:  # this installation only receives
            return None
