"""The engine of zoodip: learn a token of a quantized diffusion model with forward passes only."""

import os

__version__ = "0.1.0"

if "OMP_WAIT_POLICY" not in os.environ:
    # Before torch is loaded: its threads spin while they wait for each other, unless told to soon give the core away.
    # Beside other work on the same cores a search falls to a tenth of its speed by that (docs/log.md).
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
