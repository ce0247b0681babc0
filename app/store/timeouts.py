"""Time limits of the store."""

LOCK_SECONDS: float = 2  # for each lock, while a callback may wait for it; it then goes to the spool
PATIENT_LOCK_SECONDS: float = 30  # for what people start, which has no spool

STATEMENT_SECONDS: float = 10  # for each statement, unless the caller sets another limit
