"""The engine of zoodip: learn a token of a quantized diffusion model with forward passes only."""

import os

__version__ = "0.1.0"

if "OMP_WAIT_POLICY" not in os.environ:
    # Before torch is loaded: its threads spin while they wait for each other, unless told to give the core away, and
    # beside other work on the same cores a search is several times slower by that. Fewer turns cost a lone search
    # half of its speed (docs/log.md; benchmarks.engine.waiting).
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")
