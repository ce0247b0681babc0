"""The analytical copy: all outcomes in DuckDB, which counts, groups, sorts and writes files.

It follows the store's journal of changes and may be thrown away at any time: it is filled again by itself.
"""
