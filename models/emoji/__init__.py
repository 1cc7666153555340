"""The embedded emoji model: its training data, training and export."""
