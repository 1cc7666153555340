"""Training of the embedded model, one module a part."""
