"""What DuckDB says, in this product's own errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import duckdb

from app.errors import Damaged, StoreUnavailable, TooSlow

# DuckDB goes on with none of these.
_DAMAGES = (duckdb.FatalException, duckdb.InternalException, duckdb.SerializationException)
_SIGNS_OF_DAMAGE = ("orrupt", "Could not read enough bytes")


@contextmanager
def in_words(seconds: float | None = None) -> Iterator[None]:
    """Raises `TooSlow`, `Damaged` or `StoreUnavailable`; `seconds` is the limit that there was."""
    try:
        yield
    except duckdb.InterruptException as error:
        raise TooSlow(
            f"this took longer than {seconds:g} s and was stopped; narrow it: less time between since and until, "
            "more filters, or fewer fields to count or group by"
        ) from error
    except duckdb.OutOfMemoryException as error:
        raise TooSlow(
            "this takes more memory than PLUM_ANALYTICS_MEMORY; narrow it: less time between since and until, "
            "or fewer fields to sort or group by"
        ) from error
    except duckdb.Error as error:
        raise _told(error) from None  # what it says of a row may hold a phone number


def _told(error: duckdb.Error) -> StoreUnavailable:
    said = first_line(error)
    if isinstance(error, _DAMAGES) or any(sign in said for sign in _SIGNS_OF_DAMAGE):
        wrong = "the analytical copy is damaged, and is made again"
        return Damaged(wrong, f"{wrong}: {said}")
    if isinstance(error, duckdb.IOException):
        wrong = "the analytical copy cannot be read or written"
        return StoreUnavailable(wrong, f"{wrong}: {said}")
    wrong = "the analytical copy fails in an unforeseen way"
    return StoreUnavailable(wrong, f"{wrong}: {type(error).__name__}")


def first_line(error: duckdb.Error) -> str:
    return str(error).strip().splitlines()[0][:200]
