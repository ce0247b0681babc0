"""Queries as values: questions, their conditions as SQL and in Python, and buckets of local time."""
