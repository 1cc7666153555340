"""The frozen diffusion model. Nothing else in zoodip_core imports diffusers, transformers or bitsandbytes."""

import logging

# Hides a hint about an optional package, which bitsandbytes logs as a warning when it is imported.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
