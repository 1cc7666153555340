"""Builders of models with random weights, which tests and benchmarks use instead of downloads."""
