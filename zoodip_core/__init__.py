"""Learn a token of a quantized diffusion model with forward passes only.

The names in `__all__` are the public library. They load on first use, so `import zoodip_core` stays fast.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoodip_core.artifact import Concept, export_concept, load_concept
    from zoodip_core.base_models.catalog import Catalog
    from zoodip_core.base_models.presets import resolve_settings
    from zoodip_core.config import GenerationSettings
    from zoodip_core.diffusion.generation import generate
    from zoodip_core.diffusion.loading import load_bundle
    from zoodip_core.engine import Engine
    from zoodip_core.errors import ZoodipError
    from zoodip_core.images import read_images
    from zoodip_core.personalization.concept_conversion import concept_vectors, to_concept
    from zoodip_core.personalization.personalize import Personalization
    from zoodip_core.personalization.run import run_search
    from zoodip_core.personalization.subject import Subject

__version__ = "0.1.0"

__all__ = [
    "Catalog",
    "Concept",
    "Engine",
    "GenerationSettings",
    "Personalization",
    "Subject",
    "ZoodipError",
    "concept_vectors",
    "export_concept",
    "generate",
    "load_bundle",
    "load_concept",
    "read_images",
    "resolve_settings",
    "run_search",
    "to_concept",
]

_MODULES = {
    "artifact": ("Concept", "export_concept", "load_concept"),
    "base_models.catalog": ("Catalog",),
    "base_models.presets": ("resolve_settings",),
    "config": ("GenerationSettings",),
    "diffusion.generation": ("generate",),
    "diffusion.loading": ("load_bundle",),
    "engine": ("Engine",),
    "errors": ("ZoodipError",),
    "images": ("read_images",),
    "personalization.concept_conversion": ("concept_vectors", "to_concept"),
    "personalization.personalize": ("Personalization",),
    "personalization.run": ("run_search",),
    "personalization.subject": ("Subject",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

SPIN_TURNS = "5000"
"""How often a waiting OpenMP thread of torch on Linux spins before it yields its core."""

if "OMP_WAIT_POLICY" not in os.environ:
    # Set before torch loads. OpenMP's default of 300,000 turns slows a search on cores that it shares
    # (docs/decisions/0024-openmp-spin-count.md; python -m benchmarks.engine.waiting).
    os.environ.setdefault("GOMP_SPINCOUNT", SPIN_TURNS)


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'zoodip_core' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"zoodip_core.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, including those that are not loaded yet."""
    return sorted({*globals(), *__all__})
