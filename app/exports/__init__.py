"""Records as files, one module a format: rows of texts go in, the file's bytes come out piece by piece."""
