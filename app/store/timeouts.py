"""Time limits of the store."""

STATEMENT_SECONDS: float = 10  # for each statement, unless the caller sets another limit
