"""The answers: pages, single records, counts, facets and summaries."""
