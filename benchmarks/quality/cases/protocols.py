"""What a search needs to know of the thing that it learns, whatever world that comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from PIL import Image

from zoodip_core.personalization.personalize import Subject

TOKEN = "<bench>"  # noqa: S105 — a placeholder in captions


class Learnable(Protocol):
    """One thing or style to learn, with all that every method is given."""

    @property
    def name(self) -> str:
        """What rows and messages call it."""

    @property
    def initializer(self) -> str:
        """The word that every search starts from."""

    @property
    def references(self) -> Sequence[Image.Image]:
        """Pictures of it."""

    @property
    def subject(self) -> Subject:
        """The request as a person would make it, for `TOKEN`."""


@dataclass(frozen=True)
class Phrase:
    """A prompt with `{}` for the learned word."""

    template: str

    def with_noun(self, noun: str) -> str:
        """The prompt with a token or a word in its place; without it for an empty noun."""
        return " ".join(self.template.replace("{}", noun).split())
