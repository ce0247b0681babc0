"""The benchmarks. Each figure is a ratio to a reference in the same run, because machines are noisy."""
