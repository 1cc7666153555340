"""The interface of a case to learn, and prompts with a placeholder for the learned token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from PIL import Image

from zoodip_core.personalization.subject import Subject

TOKEN = "<bench>"  # noqa: S105 — a placeholder in captions


class Learnable(Protocol):
    """One object or style to learn, with the inputs that every method gets."""

    @property
    def name(self) -> str:
        """Return the name in rows and messages."""

    @property
    def initializer(self) -> str:
        """Return the word that every search starts from."""

    @property
    def references(self) -> Sequence[Image.Image]:
        """Return the reference images."""

    @property
    def subject(self) -> Subject:
        """Return the personalization request for `TOKEN`, as a user would make it."""


@dataclass(frozen=True)
class PromptTemplate:
    """A prompt with `{}` in place of the learned token."""

    template: str

    def with_noun(self, noun: str) -> str:
        """Return the prompt with a token or word in place of `{}`; an empty noun removes it."""
        return " ".join(self.template.replace("{}", noun).split())
