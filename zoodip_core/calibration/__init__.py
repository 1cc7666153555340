"""Calibration of a base model: learn once in which directions its tokens move."""
