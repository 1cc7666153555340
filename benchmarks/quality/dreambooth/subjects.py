"""DreamBooth's subjects: folders of photos, and the prompts of their category."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image

from benchmarks.quality.cases.protocols import TOKEN, PromptTemplate
from benchmarks.quality.errors import BenchmarkError
from zoodip_core.images import fit_square, read_images
from zoodip_core.personalization.subject import Subject

Category = Literal["object", "live"]

PROTOCOL = Path(__file__).with_name("dreambooth.toml")
PROMPTS = 25
KEPT_PX = 1024  # SDXL's side; no base model needs more, and complete photos would fill the memory


@dataclass(frozen=True)
class ProtocolSubject:
    """A subject of the protocol."""

    name: str
    category: Category
    initializer: str


@dataclass(frozen=True, eq=False)
class PhotoSubject:
    """One subject to learn from its photos."""

    known: ProtocolSubject
    references: Sequence[Image.Image]  # center squares

    @property
    def name(self) -> str:
        """Return the name of its folder."""
        return self.known.name

    @property
    def initializer(self) -> str:
        """Return the class word, or the nearest word of a single token."""
        return self.known.initializer

    @property
    def subject(self) -> Subject:
        """Return the personalization request, without captions: the product's templates are used."""
        return Subject(TOKEN, self.initializer)


def known_subjects() -> dict[str, ProtocolSubject]:
    """Return the 30 subjects by name, in alphabetical order."""
    found: dict[str, ProtocolSubject] = {}
    categories: tuple[Category, ...] = ("object", "live")
    for category in categories:
        starts = _protocol()["subjects"][category]
        found |= {name: ProtocolSubject(name, category, start) for name, start in starts.items()}
    return dict(sorted(found.items()))


def read_prompts(category: Category, count: int = PROMPTS) -> list[PromptTemplate]:
    """Return the first `count` prompts of a category.

    Raises:
        BenchmarkError: the count is out of range.
    """
    if not 1 <= count <= PROMPTS:
        raise BenchmarkError.mismatch("--prompts", got=count, expected=f"1 to {PROMPTS}")
    lists = _protocol()["prompts"]
    return [PromptTemplate(text) for text in (*lists["all"], *lists[category], *lists["change"])][:count]


def read_subjects(dataset: Path, names: Sequence[str] | None = None) -> list[PhotoSubject]:
    """Read the subjects with these names, in order without duplicates; all 30 for None.

    Args:
        dataset: folder with one folder of photos for each subject.
        names: names of subjects; None for all.

    Raises:
        BenchmarkError: the folder is missing, a name is unknown, or a subject has no folder.
        ImageCountError: a subject has no photos, or more than 16.
        InvalidInputError: a photo cannot be used.
    """
    known = known_subjects()
    if not dataset.is_dir():
        raise BenchmarkError.mismatch("--dataset", got=dataset, expected="an existing folder")
    for name in names or ():
        if name not in known:
            raise BenchmarkError.mismatch("--subjects", got=name, expected=", ".join(known))
    return [_read(dataset, known[name]) for name in dict.fromkeys(names or known)]


def _read(dataset: Path, known: ProtocolSubject) -> PhotoSubject:
    folder = dataset / known.name
    if not folder.is_dir():
        expected = f"a folder that contains {known.name}/"
        raise BenchmarkError.mismatch("--dataset", got=dataset, expected=expected)
    squares = [fit_square(photo, min(KEPT_PX, *photo.size)) for photo in read_images([folder])]
    return PhotoSubject(known, squares)


def _protocol() -> dict[str, dict[str, dict[str, str]]]:
    return tomllib.loads(PROTOCOL.read_text(encoding="utf-8"))
