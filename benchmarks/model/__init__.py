"""Acceptance thresholds of the embedded model, measured on the shipped folder: `python -m benchmarks.model`."""
