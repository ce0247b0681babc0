"""The store: the only SQL. SQLite or PostgreSQL, told apart by the URL alone."""
