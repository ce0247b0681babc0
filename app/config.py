"""Settings from the environment, validated once at the start. Each field has its description."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import phonenumbers

from app.errors import ConfigError
from app.model import Network, networks

PREFIX = "PLUM_"
# The limit for all bodies together that a process reads, or holds until their commit.
MAX_HELD_BYTES = 64 * 1048576
# Kubernetes sets such variables in every container for each Service of the namespace: `plum-outcomes` or `plum`.
_SERVICE_LINK = re.compile(
    rf"{PREFIX}(?:[A-Z0-9_]+_)?"
    r"(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?|PORT_[0-9]+_(?:TCP|UDP|SCTP)(?:_(?:ADDR|PORT|PROTO))?)"
)
_PORT_LINK = re.compile(rf"{PREFIX}(?:[A-Z0-9_]+_)?PORT=(?:tcp|udp|sctp)://.*", re.S)
ROLES = ("receiver", "analyst", "metrics")


def _text(value: str) -> str:
    return value


def _url(value: str) -> str:
    try:
        parts = urlsplit(value)
        is_valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a wrong port or IPv6 address
        is_valid = False
    if not is_valid or "?" in value or "#" in value:
        raise ValueError("an address like https://calls.example.com")
    return value.rstrip("/")


def _size(value: str) -> int:
    return _number(value, MAX_HELD_BYTES, "bytes")


def _connections(value: str) -> int:
    return _number(value, 1000, "connections", least=7)


def _days(value: str) -> timedelta:
    return timedelta(days=_number(value, 36500, "days"))


def _number(value: str, most: int, unit: str, least: int = 1) -> int:
    if not re.fullmatch(r"[0-9]{1,12}", value) or not least <= int(value) <= most:
        raise ValueError(f"a number of {unit} from {least} to {most}")
    return int(value)


def _roles(value: str) -> frozenset[str]:
    roles = frozenset(role.strip() for role in value.split(","))
    if not roles <= set(ROLES):
        raise ValueError(f"any of {', '.join(ROLES)}, with commas between")
    return roles


def _networks(value: str) -> tuple[Network, ...]:
    try:
        return networks(value)
    except ValueError:
        raise ValueError("networks like 10.0.0.0/8,192.168.1.7, with commas between") from None


def _region(value: str) -> str:
    if value not in phonenumbers.SUPPORTED_REGIONS:
        raise ValueError("a region of two capital letters, like US or GB")
    return value


def _memory(value: str) -> str:
    if not re.fullmatch(r"[1-9][0-9]{0,6}\s?[MG]i?B", value):
        raise ValueError("an amount of memory like 512MB or 1GB")
    return value


def _log_format(value: str) -> str:
    if value not in ("text", "json"):
        raise ValueError("text or json")
    return value


def _setting(doc: str, read: Callable[[str], Any], default: Any) -> Any:
    return field(default=default, metadata={"doc": doc, "read": read})


def _secret(doc: str) -> Any:
    return field(default=None, repr=False, metadata={"doc": doc, "read": _text})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings; the field `database_url` is the variable `PLUM_DATABASE_URL`."""

    database_url: str = _setting("the store's URL", _text, "sqlite:///var/outcomes.db")
    read_database_url: str | None = _setting("a replica for analysts' questions", _text, None)
    database_connections: int = _setting("the most connections that one worker opens", _connections, 8)
    spool_dir: Path = _setting("the directory where deliveries wait while the store is away", Path, Path("var/spool"))
    public_url: str | None = _setting("the address that Plum reaches, for result_url", _url, None)
    roles: frozenset[str] = _setting("which faces this process serves", _roles, frozenset(ROLES))
    max_body_bytes: int = _setting("larger bodies are answered 413", _size, 1048576)
    trusted_proxies: tuple[Network, ...] = _setting("whose X-Forwarded-For is believed", _networks, ())
    retain_deliveries_days: timedelta | None = _setting("how long deliveries are kept; unset: for ever", _days, None)
    retain_outcomes_days: timedelta | None = _setting("how long outcomes are kept; unset: for ever", _days, None)
    retain_audit_days: timedelta | None = _setting("how long the audit log is kept; unset: for ever", _days, None)
    default_region: str = _setting("where national phone numbers belong", _region, "US")
    analytics_path: Path = _setting("the file of the analytical copy", Path, Path("var/analytics.duckdb"))
    analytics_memory: str = _setting("the most memory that the analytical copy uses", _memory, "1GB")
    dev_url: str | None = _setting("the address of DEV's APIs, before /webservice", _url, None)
    dev_login: str | None = _secret("the login of DEV's APIs")
    dev_pin: str | None = _secret("the PIN of DEV's APIs")
    insight_url: str = _setting("the address of Insight's APIs", _url, "https://insight.plumvoice.com")
    insight_user: str | None = _secret("the e-mail address for Insight's APIs")
    insight_key: str | None = _secret("the developer key for Insight's APIs")
    fuse_url: str = _setting("the address of Fuse's APIs", _url, "https://fuse.plumvoice.com")
    fuse_user: str | None = _secret("the e-mail address for Fuse's APIs")
    fuse_key: str | None = _secret("the developer key for Fuse's APIs")
    result_key: str | None = _secret("an integration's key, for the result_url of calls that are queued")
    log_format: str = _setting("text or json; by default text on a terminal", _log_format, "json")


def from_environment(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings; `NAME_FILE` names a file that has the value. Raises `ConfigError` with one clear line."""
    known = {PREFIX + setting.name.upper(): setting for setting in fields(Settings)}
    values: dict[str, Any] = {"log_format": "text"} if sys.stderr.isatty() else {}
    for variable in sorted(name for name in environment if name.startswith(PREFIX)):
        name = variable if variable in known else variable.removesuffix("_FILE")
        if name not in known and _is_service_link(variable, environment[variable]):
            continue
        if name not in known:
            near = get_close_matches(name, known, n=5)
            hint = f"near it: {', '.join(near)}" if near else "the README lists all"
            raise ConfigError(f"{variable} is no setting; {hint}")
        if name != variable and name in environment:
            raise ConfigError(f"{name} and {variable} are both set; keep one of them")
        text = environment[variable] if name == variable else _from_file(variable, environment[variable])
        if text == "":
            continue
        try:
            values[known[name].name] = known[name].metadata["read"](text)
        except ValueError as error:
            raise ConfigError(f"{name} should be {error}") from None
    if "spool_dir" in values:  # each installation of a machine has its own copy
        values.setdefault("analytics_path", values["spool_dir"].parent / "analytics.duckdb")
    return Settings(**values)


def _is_service_link(variable: str, value: str) -> bool:
    return bool(_SERVICE_LINK.fullmatch(variable) or _PORT_LINK.fullmatch(f"{variable}={value}"))


def _from_file(variable: str, file: str) -> str:
    try:
        return Path(file).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not text"
        raise ConfigError(f"{variable}: {file} cannot be read: {reason}") from None
