"""The engine of zoodip: learn a token of a quantized diffusion model with forward passes only."""

import os

__version__ = "0.1.0"

SPIN_TURNS = "5000"
"""How often a waiting thread of torch's OpenMP on Linux turns before it gives its core away."""

if "OMP_WAIT_POLICY" not in os.environ:
    # Before torch is loaded: OpenMP's own 300 000 turns slow a search down beside other work on the same cores
    # (docs/log.md; benchmarks.engine.waiting).
    os.environ.setdefault("GOMP_SPINCOUNT", SPIN_TURNS)
