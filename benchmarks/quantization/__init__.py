"""What each way to quantize the frozen model costs: error, smoothness, speed, memory."""
