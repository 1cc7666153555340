"""Error, smoothness, speed and memory of each quantization method."""
