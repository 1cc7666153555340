"""LRU cache of base models: loads on first use and evicts idle models to stay within a memory budget."""

from __future__ import annotations

import gc
from collections import OrderedDict
from collections.abc import Callable, Collection

from zoodip_core.base_models.catalog import BaseModelEntry, Catalog
from zoodip_core.base_models.footprint import weights_mb
from zoodip_core.base_models.model_folder import find_model_folder
from zoodip_core.diffusion.device import empty_cache
from zoodip_core.diffusion.loading import Bundle


class ModelCache:
    """Loaded base models by name, within a memory budget.

    Args:
        catalog: lists the base models.
        budget_mb: limit in megabytes for all cached models, the one being loaded included. Models in use stay
            even above the limit, because a search whose model is evicted would load it again.
        load: loads a base model.
        safety_checker: whether `load` also loads the safety checker of a base model.
        dequantized_budget_mb: budget of `load` for dequantized weights.
    """

    def __init__(
        self,
        catalog: Catalog,
        budget_mb: float,
        load: Callable[[BaseModelEntry], Bundle],
        *,
        safety_checker: bool = False,
        dequantized_budget_mb: int = 0,
    ) -> None:
        self._catalog = catalog
        self._budget_mb = budget_mb
        self._load = load
        self._safety_checker = safety_checker
        self._dequantized_budget_mb = dequantized_budget_mb
        self._loaded: OrderedDict[str, Bundle] = OrderedDict()

    def get(self, name: str, in_use: Collection[str]) -> Bundle:
        """Return a base model, loading it if necessary, and mark it as the most recently used.

        Args:
            name: name in the catalog.
            in_use: names of base models that running searches use.

        Raises:
            ZoodipError: the name is unknown, or the model cannot be loaded.
        """
        if name not in self._loaded:
            entry = self._catalog.get(name)
            self._make_room(self._needed_mb(entry), in_use)
            self._loaded[name] = self._load(entry)
        self._loaded.move_to_end(name)
        return self._loaded[name]

    def trim(self, in_use: Collection[str]) -> None:
        """Evict idle models until the budget holds. The only cached model stays, whatever its size."""
        if len(self._loaded) > 1:
            self._make_room(0.0, in_use)

    def sizes_mb(self) -> dict[str, float]:
        """Return the memory of each model in megabytes. Safe to call from another thread during a load."""
        return {name: _megabytes(bundle) for name, bundle in list(self._loaded.items())}

    def compiled_rows(self) -> int:
        """Return how many rows the loaded models evaluated with compiled programs. Safe like `sizes_mb`."""
        programs = [bundle.denoiser.compiled for bundle in list(self._loaded.values())]
        return sum(compiled.compiled_rows for compiled in programs if compiled is not None)

    def _needed_mb(self, entry: BaseModelEntry) -> float:
        folder = find_model_folder(entry, safety_checker=self._safety_checker)
        return weights_mb(
            folder,
            entry.precisions,
            safety_checker=self._safety_checker,
            dequantized_budget_mb=self._dequantized_budget_mb,
        )

    def _make_room(self, needed_mb: float, in_use: Collection[str]) -> None:
        sizes = self.sizes_mb()
        for name in [name for name in self._loaded if name not in in_use]:
            if sum(sizes.values()) + needed_mb <= self._budget_mb:
                return
            device = self._loaded.pop(name).device
            del sizes[name]
            gc.collect()
            empty_cache(device)


def _megabytes(bundle: Bundle) -> float:
    tensors = [t for module in bundle.modules for t in (*module.parameters(), *module.buffers())]
    return (sum(tensor.numel() * tensor.element_size() for tensor in tensors) + bundle.graph_bytes) / 1e6
