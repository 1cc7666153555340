"""One base model at every precision that methods ask for, each loaded once."""

from __future__ import annotations

from typing import Any

from zoodip_core.base_models.catalog import BaseModelEntry
from zoodip_core.base_models.fingerprint import file_hash
from zoodip_core.base_models.weight_files import weight_files
from zoodip_core.config import Precision
from zoodip_core.diffusion.loading import Bundle, load_bundle, locate


class Bundles:
    """The bundles of one base model by precision."""

    def __init__(
        self, entry: BaseModelEntry, *, device: str | None = None, max_rows: int | None = None
    ) -> None:
        """Load nothing yet; the arguments are those of `load_bundle`."""
        self.entry = entry
        self._device, self._max_rows = device, max_rows
        self._loaded: dict[Precision, Bundle] = {}

    @property
    def drawing(self) -> dict[str, Any]:
        """What pictures depend on beside the bundle's fingerprint: steps and guidance, and the VAE."""
        files = weight_files(locate(self.entry) / "vae")
        return {**self.entry.generation, "vae": [file_hash(file) for file in files]}

    def at(self, precision: Precision | None = None) -> Bundle:
        """The bundle at a precision; the base model's own for None.

        Raises:
            InvalidModelError: the folder is incomplete, of an unsupported kind, or holds no safetensors.
        """
        chosen = precision or self.entry.precision
        if chosen not in self._loaded:
            entry = self.entry.model_copy(update={"precision": chosen})
            self._loaded[chosen] = load_bundle(entry, device=self._device, max_rows=self._max_rows)
        return self._loaded[chosen]
