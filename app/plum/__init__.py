"""A client of Plum's APIs, and a simulator of Plum. Neither imports the other."""
