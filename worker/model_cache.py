"""Base models in memory: loaded when first asked for; idle ones go, the longest unused first, when room is short."""

from __future__ import annotations

import gc
from collections import OrderedDict
from collections.abc import Callable, Collection

import torch

from zoodip_core.base_models.catalog import BaseModelEntry, Catalog
from zoodip_core.base_models.footprint import weights_mb
from zoodip_core.diffusion.loading import Bundle, locate


class ModelCache:
    """Loaded base models by name, within a budget.

    Args:
        catalog: where they are.
        budget_mb: of all that are kept, the one being loaded included. Those in use stay even beyond it: a
            search that lost its model would only load it again.
        load: how one is loaded.
    """

    def __init__(self, catalog: Catalog, budget_mb: float, load: Callable[[BaseModelEntry], Bundle]) -> None:
        self._catalog = catalog
        self._budget_mb = budget_mb
        self._load = load
        self._kept: OrderedDict[str, Bundle] = OrderedDict()

    def get(self, name: str, in_use: Collection[str]) -> Bundle:
        """The base model of that name; it counts as just used.

        Args:
            name: in the catalogue.
            in_use: names of base models that searches run on.

        Raises:
            ZoodipError: there is none of that name, or it cannot be loaded.
        """
        if name not in self._kept:
            entry = self._catalog.get(name)
            self._make_room(weights_mb(locate(entry), entry.precision), in_use)
            self._kept[name] = self._load(entry)
        self._kept.move_to_end(name)
        return self._kept[name]

    def trim(self, in_use: Collection[str]) -> None:
        """Let idle ones go that are beyond the budget beside those in use; a single one stays at any size."""
        if len(self._kept) > 1:
            self._make_room(0.0, in_use)

    def sizes_mb(self) -> dict[str, float]:
        """What each takes now. Another thread may ask while this one loads."""
        return {name: _megabytes(bundle) for name, bundle in list(self._kept.items())}

    def _make_room(self, wanted_mb: float, in_use: Collection[str]) -> None:
        sizes = self.sizes_mb()
        for name in [name for name in self._kept if name not in in_use]:
            if sum(sizes.values()) + wanted_mb <= self._budget_mb:
                return
            del self._kept[name], sizes[name]
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


def _megabytes(bundle: Bundle) -> float:
    tensors = [t for module in bundle.modules for t in (*module.parameters(), *module.buffers())]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors) / 1e6
