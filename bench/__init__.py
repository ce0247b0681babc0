"""What `make bench` measures: each figure as a ratio to a reference in the same run, because machines are noisy."""
