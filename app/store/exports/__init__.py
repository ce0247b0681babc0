"""All rows of a question, however many: for files."""
