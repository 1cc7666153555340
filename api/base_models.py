"""Facts about base models that the API reads from their files without loading weights."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from zoodip_core.base_models.catalog import BaseModelEntry, Catalog
from zoodip_core.base_models.families import Family, detect_family, embedding_widths
from zoodip_core.base_models.fingerprint import fingerprint, weights_fingerprint
from zoodip_core.base_models.footprint import weights_mb
from zoodip_core.base_models.hub import cached_snapshot
from zoodip_core.base_models.image_size import latent_cell_px, native_side_px
from zoodip_core.base_models.text_window import TextWindow, text_windows
from zoodip_core.base_models.vocabulary import Vocabulary, vocabulary
from zoodip_core.errors import ZoodipError


@dataclass(frozen=True)
class BaseModelFacts:
    """Facts about a base model whose files are on this machine."""

    entry: BaseModelEntry
    folder: Path

    @cached_property
    def family(self) -> Family:
        """Architecture family: SD1, SD2 or SDXL."""
        return detect_family(self.folder)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """Vocabulary of its tokenizer."""
        return vocabulary(self.folder)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of its weight files, cached by file name, size and modification time."""
        return fingerprint(self.folder)

    @property
    def weights_fingerprint(self) -> str:
        """SHA-256 of its weights in any file layout and half precision, cached like `fingerprint`."""
        return weights_fingerprint(self.folder)

    @cached_property
    def widths(self) -> tuple[int, ...]:
        """Length of a token embedding in each text encoder."""
        return embedding_widths(self.folder)

    @cached_property
    def side_px(self) -> int:
        """Side in pixels of the square images that it was trained on."""
        return native_side_px(self.folder)

    @cached_property
    def latent_cell_px(self) -> int:
        """Number in pixels of which the sides of its images are multiples."""
        return latent_cell_px(self.folder)

    @cached_property
    def text_windows(self) -> tuple[TextWindow, ...]:
        """Window of each text encoder, with its vocabulary."""
        return text_windows(self.folder)

    @cached_property
    def timesteps(self) -> int:
        """Number of timesteps of its noise schedule."""
        config = json.loads((self.folder / "scheduler/scheduler_config.json").read_text())
        return int(config.get("num_train_timesteps", 1000))

    @property
    def is_complete(self) -> bool:
        """Whether every fact can be read. A download in progress or a damaged file makes this false."""
        try:
            return all((self.text_windows, self.side_px, self.weights_mb, self.widths, self.timesteps))
        except (ZoodipError, OSError, ValueError, LookupError):
            return False

    @cached_property
    def weights_mb(self) -> float:
        """Memory of its weights in MB at the precision of the catalog entry."""
        return weights_mb(self.folder, self.entry.precisions)


class BaseModels:
    """The catalog, with cached facts about each base model."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self._facts: dict[str, BaseModelFacts] = {}

    def facts(self, name: str | None) -> tuple[BaseModelEntry, BaseModelFacts | None]:
        """Return the catalog entry and the facts of a base model.

        The facts are None while only workers have the files. Then the worker validates the request.

        Args:
            name: name in the catalog; None selects the default base model.

        Raises:
            UnknownBaseModelError: The catalog has no such name.
        """
        entry = self.catalog.get(name)
        if entry.name not in self._facts:
            facts = BaseModelFacts(entry, entry.path) if entry.path else _downloaded_facts(entry)
            if facts is None:
                return entry, None
            self._facts[entry.name] = facts
        return entry, self._facts[entry.name]

    def complete_facts(self, name: str) -> BaseModelFacts | None:
        """Return the facts of a base model, or None if any of them cannot be read."""
        _, facts = self.facts(name)
        return facts if facts is not None and facts.is_complete else None


def _downloaded_facts(entry: BaseModelEntry) -> BaseModelFacts | None:
    folder = cached_snapshot(entry.hub_id or "", entry.revision)
    facts = None if folder is None else BaseModelFacts(entry, folder)
    return facts if facts is not None and facts.is_complete else None
