"""PostgreSQL with the settings of this product, regardless of those of the server, the database or the role.

A pooler such as PgBouncer may give each transaction another session. Behind a pooler there are therefore no prepared
statements, and each transaction sets the settings again.
"""

from __future__ import annotations

from select import POLLIN, poll
from typing import Any

import psycopg
from sqlalchemy import URL, Connection, Engine, create_engine, event, exc

from app.store.timeouts import LOCK_SECONDS, STATEMENT_SECONDS

CONNECT_SECONDS = 3
GRACE_SECONDS = 2.0  # for a server that enforces its own limits to report that
KEEPALIVES = {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3}

_ENCODING = "UTF8"
_SETTINGS = {
    "bytea_output": "hex",
    "datestyle": "ISO, MDY",
    "extra_float_digits": "1",
    "idle_in_transaction_session_timeout": "0",
    "intervalstyle": "postgres",
    "jit": "off",  # compilation takes some hundred milliseconds, and no timeout interrupts it
    "lock_timeout": f"{LOCK_SECONDS:g}s",
    "row_security": "on",
    "standard_conforming_strings": "on",
    "statement_timeout": f"{STATEMENT_SECONDS:g}s",
    "synchronous_commit": "on",
    "timezone": "UTC",
}
_SINCE = {140_000: {"idle_session_timeout": "0"}, 170_000: {"transaction_timeout": "0"}}
# Defaults of a session; behind a pooler `SET TRANSACTION` replaces them.
_OF_SESSIONS = {
    "default_transaction_deferrable": "off",
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
}


class Session(psycopg.Connection[Any]):
    """A connection that is closed if the server does not answer: a frozen server does not enforce its own
    timeouts."""

    patience = STATEMENT_SECONDS + GRACE_SECONDS  # seconds for each statement
    at_begin: tuple[str, ...] = ()  # the settings of each transaction behind a pooler

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        try:
            return super().wait(gen, interval, self.patience if timeout is None else timeout)
        except psycopg.OperationalError as error:
            if error.sqlstate is None:  # the server did not answer; its late response would be left unread
                self.pgconn.finish()
            raise


def engine(url: URL, connections: int) -> Engine:
    new_engine = create_engine(
        url,
        connect_args={
            "connect_timeout": CONNECT_SECONDS,
            "client_encoding": _ENCODING,
            "tcp_user_timeout": int(STATEMENT_SECONDS * 1000),
            **KEEPALIVES,
        },
        pool_size=connections,
        max_overflow=0,
        pool_timeout=CONNECT_SECONDS,
        hide_parameters=True,
        use_native_hstore=False,
    )
    event.listen(new_engine, "do_connect", _connect)
    event.listen(new_engine, "checkout", _refuse_ended)
    return new_engine


def begin(connection: Connection, seconds: float, *settings: str) -> None:
    """Apply the settings at the start of a transaction; each of its statements may take `seconds`."""
    session: Any = connection.connection.driver_connection
    session.patience = seconds + GRACE_SECONDS
    timeout = [f"SET LOCAL statement_timeout = {int(seconds * 1000)}"] if seconds != STATEMENT_SECONDS else []
    if statements := [*session.at_begin, *timeout, *settings]:
        connection.exec_driver_sql("; ".join(statements))


def _connect(_dialect: Any, _record: Any, arguments: list[Any], options: dict[str, Any]) -> Session:
    session = Session.connect(*arguments, **options)
    try:
        session.autocommit = True
        _configure(session)
        session.autocommit = False
    except BaseException:
        session.close()
        raise
    return session


def _refuse_ended(session: Session, _record: Any, _proxy: Any) -> None:
    """Refuse a connection that the server has closed, for example by a restart. An idle connection has nothing else
    to read.

    Raises `DisconnectionError`; the pool then opens another connection.
    """
    poller = poll()  # `select` cannot handle descriptors above 1023
    poller.register(session.fileno(), POLLIN)
    if poller.poll(0):
        raise exc.DisconnectionError


def _configure(session: Session) -> None:
    """Configure a new session. Raises `OperationalError` if the database's encoding is not UTF-8."""
    query = "SELECT pg_backend_pid(), current_setting('server_encoding'), current_schema() IS NOT NULL"
    [(pid, encoding, has_schema)] = session.execute(query).fetchall()
    if encoding != _ENCODING:
        raise psycopg.OperationalError(
            f"the database's encoding is {encoding}; make one with ENCODING 'UTF8': "
            "createdb --encoding=UTF8 --template=template0 NAME"
        )
    session_settings = dict(_SETTINGS)
    for version, settings in _SINCE.items():
        if session.info.server_version >= version:
            session_settings |= settings
    if not has_schema:
        session_settings |= {"search_path": "public"}
    if session.info.backend_pid == pid:
        session.execute(
            "; ".join(f"SET {name} = '{value}'" for name, value in (session_settings | _OF_SESSIONS).items())
        )
    else:
        session.prepare_threshold = None
        session.at_begin = (
            "SET TRANSACTION ISOLATION LEVEL READ COMMITTED",
            *(f"SET LOCAL {name} = '{value}'" for name, value in session_settings.items()),
        )
