"""A prompt with a place for the learned word."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Phrase:
    """A prompt with `{}` for the learned word."""

    template: str

    def with_noun(self, noun: str) -> str:
        """The prompt with a token or a word in its place; without it for an empty noun."""
        return " ".join(self.template.replace("{}", noun).split())
