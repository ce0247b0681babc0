"""Everything that answers HTTP requests."""
