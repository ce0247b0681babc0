"""Translates DuckDB's errors into the errors of this product."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import duckdb

from app.errors import Damaged, MustReopen, StoreUnavailable, TooSlow

# DuckDB cannot continue after any of these errors.
_DAMAGES = (duckdb.FatalException, duckdb.InternalException, duckdb.SerializationException)
_SIGNS_OF_DAMAGE = ("orrupt", "Could not read enough bytes")
# While it writes, DuckDB reports a lack of memory by other errors than `OutOfMemoryException`.
_SIGNS_OF_LITTLE_MEMORY = ("failed to pin block", "failed to allocate", "could not allocate")
_LITTLE_MEMORY = "the analytical copy needs more memory to follow the store than PLUM_ANALYTICS_MEMORY; raise it"


@contextmanager
def in_words(seconds: float | None = None) -> Iterator[None]:
    """Translate DuckDB's errors: raises `TooSlow`, `MustReopen`, `Damaged` or `StoreUnavailable`. `seconds` is the
    time limit of a question; None for other work."""
    try:
        yield
    except duckdb.InterruptException as error:
        raise TooSlow(
            f"this took longer than {seconds:g} s and was stopped; narrow it: less time between since and until, "
            "more filters, or fewer fields to count or group by"
        ) from error
    except duckdb.OutOfMemoryException as error:
        if seconds is None:
            raise StoreUnavailable(_LITTLE_MEMORY) from error
        raise TooSlow(
            "this takes more memory than PLUM_ANALYTICS_MEMORY; narrow it: less time between since and until, "
            "or fewer fields to sort or group by"
        ) from error
    except duckdb.Error as error:
        raise _translated(error) from None  # DuckDB's message may quote a phone number


def _translated(error: duckdb.Error) -> StoreUnavailable:
    message = first_line(error)
    if any(sign in str(error) for sign in _SIGNS_OF_LITTLE_MEMORY):
        # After a failed checkpoint the file is sound: https://duckdb.org/docs/stable/sql/statements/checkpoint
        failure = MustReopen if isinstance(error, duckdb.FatalException) else StoreUnavailable
        return failure(_LITTLE_MEMORY)
    if isinstance(error, _DAMAGES) or any(sign in message for sign in _SIGNS_OF_DAMAGE):
        reason = "the analytical copy is damaged, and is made again"
        return Damaged(reason, f"{reason}: {message}")
    if isinstance(error, duckdb.IOException):
        reason = "the analytical copy cannot be read or written"
        return StoreUnavailable(reason, f"{reason}: {message}")
    reason = "the analytical copy fails in an unforeseen way"
    return StoreUnavailable(reason, f"{reason}: {type(error).__name__}")


def first_line(error: duckdb.Error) -> str:
    return str(error).strip().splitlines()[0][:200]
