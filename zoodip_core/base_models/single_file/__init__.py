"""Checkpoints of Stable Diffusion in one file: recognition, names of their tensors, and configurations."""
