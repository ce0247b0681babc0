"""PostgreSQL as this product needs it, whatever the server, the database or the role have set.

A pooler such as PgBouncer gives each transaction another session, so behind one there are no prepared statements, and
the settings go with each transaction.
"""

from __future__ import annotations

from select import POLLIN, poll
from typing import Any

import psycopg
from sqlalchemy import URL, Connection, Engine, create_engine, event, exc

from app.store.timeouts import STATEMENT_SECONDS

CONNECT_SECONDS = 3
LOCK_SECONDS = 2
GRACE_SECONDS = 2.0  # for a server that keeps its own limits to say so
KEEPALIVES = {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3}

_ENCODING = "UTF8"
_SETTINGS = {
    "bytea_output": "hex",
    "datestyle": "ISO, MDY",
    "extra_float_digits": "1",
    "idle_in_transaction_session_timeout": "0",
    "intervalstyle": "postgres",
    "jit": "off",  # compiling a statement takes some hundred milliseconds, which no time limit cuts short
    "lock_timeout": f"{LOCK_SECONDS}s",
    "row_security": "on",
    "standard_conforming_strings": "on",
    "statement_timeout": f"{STATEMENT_SECONDS:g}s",
    "synchronous_commit": "on",
    "timezone": "UTC",
}
_SINCE = {140_000: {"idle_session_timeout": "0"}, 170_000: {"transaction_timeout": "0"}}
# These a transaction has of its own, and a pooler's is told when it begins.
_OF_SESSIONS = {
    "default_transaction_deferrable": "off",
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
}


class Session(psycopg.Connection[Any]):
    """Gives up a server that does not answer: one that is frozen keeps no limit of its own."""

    patience = STATEMENT_SECONDS + GRACE_SECONDS  # with each statement
    at_begin: tuple[str, ...] = ()  # what each transaction has to set, behind a pooler

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        try:
            return super().wait(gen, interval, self.patience if timeout is None else timeout)
        except psycopg.OperationalError as error:
            if error.sqlstate is None:  # not the server's word: the answer may still come, and nobody waits for it
                self.pgconn.finish()
            raise


def engine(url: URL, connections: int) -> Engine:
    made = create_engine(
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
    event.listen(made, "do_connect", _connect)
    event.listen(made, "checkout", _refuse_ended)
    return made


def begin(connection: Connection, seconds: float, *settings: str) -> None:
    """What a transaction sets first; each of its statements has so many seconds."""
    session: Any = connection.connection.driver_connection
    session.patience = seconds + GRACE_SECONDS
    limit = [f"SET LOCAL statement_timeout = {int(seconds * 1000)}"] if seconds != STATEMENT_SECONDS else []
    if wanted := [*session.at_begin, *limit, *settings]:
        connection.exec_driver_sql("; ".join(wanted))


def _connect(_dialect: Any, _record: Any, arguments: list[Any], options: dict[str, Any]) -> Session:
    session = Session.connect(*arguments, **options)
    try:
        session.autocommit = True
        _settle(session)
        session.autocommit = False
    except BaseException:
        session.close()
        raise
    return session


def _refuse_ended(session: Session, _record: Any, _proxy: Any) -> None:
    """A server that was started again has ended its connections. Nothing else is to be read from one that rests.

    Raises `DisconnectionError`, for which the pool opens another.
    """
    waiting = poll()  # `select` knows no file beyond the first thousand
    waiting.register(session.fileno(), POLLIN)
    if waiting.poll(0):
        raise exc.DisconnectionError


def _settle(session: Session) -> None:
    """Raises `OperationalError` for a database that cannot hold what is sent."""
    asked = "SELECT pg_backend_pid(), current_setting('server_encoding'), current_schema() IS NOT NULL"
    [(pid, encoding, has_schema)] = session.execute(asked).fetchall()
    if encoding != _ENCODING:
        raise psycopg.OperationalError(
            f"the database's encoding is {encoding}; make one with ENCODING 'UTF8': "
            "createdb --encoding=UTF8 --template=template0 NAME"
        )
    wanted = dict(_SETTINGS)
    for version, settings in _SINCE.items():
        if session.info.server_version >= version:
            wanted |= settings
    if not has_schema:
        wanted |= {"search_path": "public"}
    if session.info.backend_pid == pid:
        session.execute("; ".join(f"SET {name} = '{value}'" for name, value in (wanted | _OF_SESSIONS).items()))
    else:
        session.prepare_threshold = None
        session.at_begin = (
            "SET TRANSACTION ISOLATION LEVEL READ COMMITTED",
            *(f"SET LOCAL {name} = '{value}'" for name, value in wanted.items()),
        )
