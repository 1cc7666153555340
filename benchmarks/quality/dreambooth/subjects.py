"""DreamBooth's subjects: folders of photos, with the prompts of their sort."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image

from benchmarks.quality.cases.protocols import TOKEN, Phrase
from benchmarks.quality.errors import BenchmarkError
from zoodip_core.images import fit_square, read_images
from zoodip_core.personalization.personalize import Subject

Sort = Literal["object", "live"]

PROTOCOL = Path(__file__).with_name("dreambooth.toml")
PROMPTS = 25
KEPT_PX = 1024  # SDXL's side: no model here looks at more, and whole photos would fill the memory


@dataclass(frozen=True)
class Known:
    """A subject of the protocol."""

    name: str
    sort: Sort
    initializer: str


@dataclass(frozen=True, eq=False)
class Photographed:
    """One subject to learn from its photos."""

    known: Known
    references: Sequence[Image.Image]  # centre squares

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.known.name

    @property
    def initializer(self) -> str:
        """The class word, or the nearest of a single token."""
        return self.known.initializer

    @property
    def subject(self) -> Subject:
        """The request without captions: the templates are learned in."""
        return Subject(TOKEN, self.initializer)


def known_subjects() -> dict[str, Known]:
    """The 30 subjects by name, in alphabetical order."""
    found: dict[str, Known] = {}
    sorts: tuple[Sort, ...] = ("object", "live")
    for sort in sorts:
        starts = _protocol()["subjects"][sort]
        found |= {name: Known(name, sort, start) for name, start in starts.items()}
    return dict(sorted(found.items()))


def phrases(sort: Sort, count: int = PROMPTS) -> list[Phrase]:
    """The first `count` prompts of a sort of subject.

    Raises:
        BenchmarkError: more or fewer prompts than there are.
    """
    if not 1 <= count <= PROMPTS:
        raise BenchmarkError(f"--prompts {count}: allowed: 1 to {PROMPTS}", field="prompts")
    lists = _protocol()["prompts"]
    return [Phrase(text) for text in (*lists["all"], *lists[sort], *lists["change"])][:count]


def read_subjects(dataset: Path, names: Sequence[str] | None = None) -> list[Photographed]:
    """The subjects of those names, in order, each once; all 30 for None.

    Args:
        dataset: the folder that holds one folder of photos for each subject.
        names: of subjects; None for all.

    Raises:
        BenchmarkError: no such folder, an unknown name, or a subject without a folder.
        ImageCountError: a subject has no photos, or more than 16.
        InvalidInputError: a photo cannot be used.
    """
    known = known_subjects()
    if not dataset.is_dir():
        raise BenchmarkError(f"--dataset {dataset}: there is no such folder", field="dataset")
    for name in names or ():
        if name not in known:
            raise BenchmarkError(f"--subjects {name}: allowed: {', '.join(known)}", field="subjects")
    return [_read(dataset, known[name]) for name in dict.fromkeys(names or known)]


def _read(dataset: Path, known: Known) -> Photographed:
    folder = dataset / known.name
    if not folder.is_dir():
        raise BenchmarkError(f"--dataset {dataset}: {known.name} has no folder there", field="dataset")
    squares = [fit_square(photo, min(KEPT_PX, *photo.size)) for photo in read_images([folder])]
    return Photographed(known, squares)


def _protocol() -> dict[str, dict[str, dict[str, str]]]:
    return tomllib.loads(PROTOCOL.read_text(encoding="utf-8"))
