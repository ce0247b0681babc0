"""Writes records as files, one module per format: rows of texts go in, blocks of bytes come out."""
