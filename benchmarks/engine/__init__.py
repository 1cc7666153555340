"""Speed and memory of the engine at every precision."""
