"""The store, which is the only place with SQL. The URL selects SQLite or PostgreSQL."""
