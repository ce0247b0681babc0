"""How the log looks: text for people, JSON lines for machines. Nothing that a sender chose is ever logged.

So an exception is shown by its frames and its type alone: drivers quote in their messages what they were given.
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

BURST = 5  # of like messages, each as it comes
WINDOW_SECONDS = 5.0
MAX_KINDS = 1000


class Text(logging.Formatter):
    """A line, with the id of the delivery that it is about (`extra={"delivery": …}`), and the trace below it."""

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
    """Of warnings that say the same lets a few through in each window; the first of the next says how many came more.

    They come in floods: whoever can reach the service can make it refuse something ten thousand times a minute.
    """

    def __init__(self) -> None:
        super().__init__()
        self._windows: dict[str, tuple[float, int]] = {}  # by kind: when it ends, how many came

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
    """The trace of an exception and of those that it came from, without what they say."""
    return "\n\n".join(reversed(list(map(_trace, _chain(error)))))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _trace(error: BaseException) -> str:
    frames = "".join(traceback.format_tb(error.__traceback__))
    within = "".join(f"\n\n{_trace(one)}" for one in getattr(error, "exceptions", ()))
    kind = type(error)
    return f"Traceback (most recent call last):\n{frames}{kind.__module__}.{kind.__qualname__}{within}"


def log_what_ends_threads() -> None:
    """A thread that fails tells so in the log, in its form, and not beside it."""
    threading.excepthook = lambda failed: logging.getLogger(__name__).error(
        "a thread has ended by a failure", exc_info=failed.exc_value
    )


def config(log_format: str) -> dict[str, Any]:
    """For `logging.config.dictConfig`: everything to stderr, in `text` or `json`."""
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
