"""Builders of models with random weights: what the tests and benchmarks run on instead of downloads."""
