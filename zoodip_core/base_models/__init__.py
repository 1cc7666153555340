"""Base models: catalog, families, fingerprints, memory footprint and vocabulary, without torch."""
