"""The log's formats: text for people, JSON lines for machines. Nothing that a sender chose is logged.

Therefore an exception is logged by its frames and type only: messages of drivers quote the values that they got.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

BURST = 5  # equal warnings that a window logs
WINDOW_SECONDS = 5.0
MAX_KINDS = 1000


class Text(logging.Formatter):
    """A line with the id of its delivery (`extra={"delivery": …}`), and the traceback below it."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  the library's name
        delivery = getattr(record, "delivery", None)
        return super().formatMessage(record) + (f" [delivery {delivery}]" if delivery else "")

    def formatException(self, ei: Any) -> str:  # noqa: N802  the library's name
        return without_values(ei[1])


class JsonLines(Text):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat().replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
            "message": record.getMessage(),
        }
        if delivery := getattr(record, "delivery", None):
            line["delivery"] = str(delivery)
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class Sparing(logging.Filter):
    """Logs only the first few equal warnings of each window; the next window's first says how many were dropped.

    Any client of the service can cause ten thousand refusals a minute, with a warning each.
    """

    def __init__(self) -> None:
        super().__init__()
        self._windows: dict[str, tuple[float, int]] = {}  # message → end of its window, count

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        kind = record.getMessage()
        until, count = self._windows.get(kind, (0.0, 0))
        now = time.monotonic()
        if now >= until:
            if count > BURST:
                record.msg, record.args = f"{kind} ({count - BURST} more like it came before)", None
            until, count = now + WINDOW_SECONDS, 0
        if len(self._windows) >= MAX_KINDS:
            self._windows.clear()
        self._windows[kind] = (until, count + 1)
        return count < BURST


def without_values(error: BaseException | None) -> str:
    """Return the tracebacks of an exception and its causes, without their messages."""
    return "\n\n".join(reversed(list(map(_trace, _chain(error)))))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _trace(error: BaseException) -> str:
    frames = "".join(traceback.format_tb(error.__traceback__))
    grouped = "".join(f"\n\n{_trace(member)}" for member in getattr(error, "exceptions", ()))
    kind = type(error)
    return f"Traceback (most recent call last):\n{frames}{kind.__module__}.{kind.__qualname__}{grouped}"


def log_what_ends_threads() -> None:
    """Log the exception that ends a thread, in the log's format, instead of printing it."""
    threading.excepthook = lambda failed: logging.getLogger(__name__).error(
        "a thread has ended by a failure", exc_info=failed.exc_value
    )


def config(log_format: str) -> dict[str, Any]:
    """Return the configuration for `logging.config.dictConfig`: everything to stderr, as `text` or `json`."""
    loggers = {"level": "INFO", "handlers": ["stderr"], "propagate": False}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"sparing": {"()": Sparing}},
        "formatters": {
            "text": {"()": Text, "format": "%(asctime)s %(levelname)-7s %(name)s [%(process)d] %(message)s"},
            "json": {"()": JsonLines},
        },
        "handlers": {
            "stderr": {
                "class": "logging.StreamHandler",
                "stream": "ext://sys.stderr",
                "formatter": log_format,
                "filters": ["sparing"],
            }
        },
        "root": {"level": "WARNING", "handlers": ["stderr"]},
        "loggers": {"app": loggers, "gunicorn.error": loggers},
    }
