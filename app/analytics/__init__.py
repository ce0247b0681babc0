"""The analytical copy: all outcomes in a DuckDB file, which counts, groups, sorts and exports them.

It follows the store's journal of changes. It may be deleted at any time: it fills itself again from the store.
"""
