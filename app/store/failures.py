"""What drivers say, in this product's own errors: without values for everybody, and without places for strangers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from traceback import clear_frames

from sqlalchemy import URL, exc

from app.errors import StoreRefused, StoreUnavailable, TooSlow

_STOPPED = "57014"  # PostgreSQL's code for a statement that took too long
_NO_TABLE = "42P01"
_NO_STORE = "SQLITE_NOTADB"
# ProgrammingError: a table is missing, which a migration mends; our statements themselves are tested.
# NotSupportedError: of a distributed database, which takes the same statement at other times.
_MAY_PASS = (
    exc.OperationalError,
    exc.InterfaceError,
    exc.InternalError,
    exc.TimeoutError,
    exc.ProgrammingError,
    exc.NotSupportedError,
)
# The classes of PostgreSQL's codes whose texts name things of the server's, never values: connections, transactions,
# names, resources, states, operators, the system.
_PLAIN = ("08", "25", "28", "3D", "3F", "42", "53", "55", "57", "58")
_SECRET = ("pass", "secret", "token")


@contextmanager
def own_errors(url: URL) -> Iterator[None]:
    """Raises `StoreUnavailable` or `StoreRefused`, whose `detail` says where, without the password."""
    try:
        yield
    except _MAY_PASS as error:
        public, detail = _in_words(url, error)
        raise StoreUnavailable(public, _without_secrets(url, detail)) from error
    except exc.SQLAlchemyError as error:
        cause = getattr(error, "orig", None) or error
        named = f"{type(cause).__name__} {getattr(cause, 'sqlstate', None) or ''}".rstrip()
        said = str(cause) if getattr(cause, "sqlite_errorname", None) == _NO_STORE else named
        raise StoreRefused("the store refuses this", f"the store at {where(url)} refuses this: {said}") from error
    except (OverflowError, UnicodeError) as error:  # SQLite's driver does not wrap these
        raise StoreRefused(f"a value that SQLite does not hold: {type(error).__name__}") from error


@contextmanager
def in_time(seconds: float) -> Iterator[None]:
    """Raises `TooSlow`."""
    try:
        yield
    except exc.OperationalError as error:
        stopped = getattr(error.orig, "sqlstate", None) == _STOPPED or str(error.orig) == "interrupted"
        if not stopped:
            raise
        # SQLAlchemy's frames hold the error that holds them, and would keep all that their callers have.
        clear_frames(error.__traceback__)
        raise TooSlow(
            f"this took longer than {seconds:g} s and was stopped; narrow it: less time between since and until, "
            "more filters, or fewer fields to count or group by"
        ) from error


def where(url: URL) -> str:
    """A store's place, for the log and the command line."""
    if url.get_backend_name() == "sqlite":
        return f"sqlite:///{url.database}"
    host = url.host or url.query.get("host") or "localhost"
    return f"{host}:{url.port or 5432}/{url.database or ''}"


def _in_words(url: URL, error: exc.SQLAlchemyError) -> tuple[str, str]:
    """One line for strangers, and one that says where and why."""
    cause = getattr(error, "orig", None) or error
    code = getattr(cause, "sqlstate", None)
    said = str(cause).strip().splitlines()[0] if str(cause).strip() else type(cause).__name__
    if "unable to open database file" in said:
        place = f"SQLite cannot open or make {url.database}"
        return "the store cannot be opened", f"{place}; make its directory writable or set PLUM_DATABASE_URL"
    if "no such table" in said or code == _NO_TABLE:
        told = "has no schema; set PLUM_DATABASE_URL, or run: plum-outcomes migrate"
        return "it has no schema; run: plum-outcomes migrate", f"the store at {where(url)} {told}"
    if isinstance(error, exc.TimeoutError):
        busy = "all connections to the store are in use; try again"
        return busy, f"{busy}, or set PLUM_DATABASE_CONNECTIONS"
    if code is not None and not code.startswith(_PLAIN):
        said = f"{type(cause).__name__} {code}"
    hint = "see that it runs and that PLUM_DATABASE_URL is right"
    return "the store does not answer", f"the store at {where(url)} says: {said}; {hint}"


def _without_secrets(url: URL, text: str) -> str:
    queried = [value for name, value in url.query.items() if any(word in name.lower() for word in _SECRET)]
    for secret in filter(None, (url.password, *queried)):
        text = text.replace(str(secret), "***")
    return text
