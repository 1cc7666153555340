"""The frozen diffusion model. Nothing else in zoodip_core imports diffusers, transformers or bitsandbytes."""

import logging
import os


def _import_bitsandbytes() -> None:
    """Import bitsandbytes without torch's inductor, which takes a quarter of the CPU time of a start.

    bitsandbytes wraps functions that this package does not call in `torch.compile`. With this variable they stay as
    they are. diffusers also imports bitsandbytes, so the import comes first.
    """
    before = os.environ.get("TORCHDYNAMO_DISABLE")
    os.environ["TORCHDYNAMO_DISABLE"] = "1"
    try:
        import bitsandbytes  # noqa: F401 — imported for its effect
    finally:
        if before is None:
            del os.environ["TORCHDYNAMO_DISABLE"]
        else:
            os.environ["TORCHDYNAMO_DISABLE"] = before


# Hides a hint about an optional package, which bitsandbytes logs as a warning when it is imported.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
_import_bitsandbytes()
