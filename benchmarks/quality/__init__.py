"""EmojiBooth, the benchmark of learned tokens: `python -m benchmarks.quality`."""
