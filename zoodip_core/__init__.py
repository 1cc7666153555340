"""The engine of zoodip: learn a token of a quantized diffusion model with forward passes only."""

__version__ = "0.1.0"
