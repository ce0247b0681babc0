"""Translates the drivers' errors into this product's errors. Neither message has values of rows; only `detail`, which
is not public, says where the store is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from traceback import clear_frames

from sqlalchemy import URL, exc

from app.errors import Exists, StoreRefused, StoreUnavailable, TooSlow

_STOPPED = "57014"  # PostgreSQL's code for a statement that was cancelled by its timeout
_NO_TABLE = "42P01"
_LIMITS = "54"  # PostgreSQL's class of exceeded limits: waiting does not make a row smaller
_LOCKED = ("55P03", "SQLITE_BUSY")
_NO_STORE = "SQLITE_NOTADB"
# These errors may pass. ProgrammingError: a table is missing until a migration runs; our statements are tested.
# NotSupportedError: a distributed database may accept the same statement at another time.
_MAY_PASS = (
    exc.OperationalError,
    exc.InterfaceError,
    exc.InternalError,
    exc.TimeoutError,
    exc.ProgrammingError,
    exc.NotSupportedError,
)
# Classes of PostgreSQL's codes whose messages name objects of the server, never values of rows: connections,
# transactions, names, resources, states, operators, the system.
_PLAIN = ("08", "25", "28", "3D", "3F", "42", "53", "55", "57", "58")
_SECRET = ("pass", "secret", "token")


@contextmanager
def own_errors(url: URL) -> Iterator[None]:
    """Translate errors: raises `StoreUnavailable` or `StoreRefused`, whose `detail` has the store's address without
    password."""
    try:
        yield
    except exc.SQLAlchemyError as error:
        if _may_pass(error):
            public, detail = _in_words(url, error)
            raise StoreUnavailable(public, _without_secrets(url, detail)) from error
        cause = getattr(error, "orig", None) or error
        label = f"{type(cause).__name__} {getattr(cause, 'sqlstate', None) or ''}".rstrip()
        message = str(cause) if getattr(cause, "sqlite_errorname", None) == _NO_STORE else label
        raise StoreRefused("the store refuses this", f"the store at {where(url)} refuses this: {message}") from error
    except (OverflowError, UnicodeError) as error:  # SQLite's driver does not wrap these
        raise StoreRefused(f"a value that SQLite does not hold: {type(error).__name__}") from error


def _may_pass(error: exc.SQLAlchemyError) -> bool:
    code = getattr(getattr(error, "orig", None), "sqlstate", None) or ""
    return isinstance(error, _MAY_PASS) and not code.startswith(_LIMITS)


@contextmanager
def in_time(seconds: float) -> Iterator[None]:
    """Translate the error of an exceeded time limit: raises `TooSlow`."""
    try:
        yield
    except exc.OperationalError as error:
        is_timeout = getattr(error.orig, "sqlstate", None) == _STOPPED or str(error.orig) == "interrupted"
        if not is_timeout:
            raise
        # SQLAlchemy's frames refer to the error that refers to them, and would keep the variables of all callers
        # alive.
        clear_frames(error.__traceback__)
        raise TooSlow(
            f"this took longer than {seconds:g} s and was stopped; narrow it: less time between since and until, "
            "more filters, or fewer fields to count or group by"
        ) from error


@contextmanager
def unless_exists(message: str) -> Iterator[None]:
    """Translate the error of an insert whose key is taken: raises `Exists` with the message."""
    try:
        yield
    except exc.IntegrityError:
        raise Exists(message) from None


def where(url: URL) -> str:
    """Return a store's address without secrets, for the log and the command line."""
    if url.get_backend_name() == "sqlite":
        return f"sqlite:///{url.database}"
    host = url.host or url.query.get("host") or "localhost"
    return f"{host}:{url.port or 5432}/{url.database or ''}"


def _in_words(url: URL, error: exc.SQLAlchemyError) -> tuple[str, str]:
    """Return a public message, and a detailed one with the address and the cause."""
    cause = getattr(error, "orig", None) or error
    code = getattr(cause, "sqlstate", None)
    message = str(cause).strip().splitlines()[0] if str(cause).strip() else type(cause).__name__
    if "unable to open database file" in message:
        place = f"SQLite cannot open or make {url.database}"
        return "the store cannot be opened", f"{place}; make its directory writable or set PLUM_DATABASE_URL"
    if "no such table" in message or code == _NO_TABLE:
        advice = "has no schema; set PLUM_DATABASE_URL, or run: plum-outcomes migrate"
        return "it has no schema; run: plum-outcomes migrate", f"the store at {where(url)} {advice}"
    if isinstance(error, exc.TimeoutError):
        busy = "all connections to the store are in use; try again"
        return busy, f"{busy}, or set PLUM_DATABASE_CONNECTIONS"
    if code is not None and not code.startswith(_PLAIN):
        message = f"{type(cause).__name__} {code}"
    hint = "see that it runs and that PLUM_DATABASE_URL is right"
    if code in _LOCKED or getattr(cause, "sqlite_errorname", None) in _LOCKED:
        hint = "somebody uses it for long, as a migration or a shell does; try again when that has ended"
    return "the store does not answer", f"the store at {where(url)} says: {message}; {hint}"


def _without_secrets(url: URL, text: str) -> str:
    query_secrets = [value for name, value in url.query.items() if any(word in name.lower() for word in _SECRET)]
    for secret in filter(None, (url.password, *query_secrets)):
        text = text.replace(str(secret), "***")
    return text
