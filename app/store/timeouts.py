"""How long the store may take."""

STATEMENT_SECONDS: float = 10  # for each statement of a question, unless it says otherwise
