"""Facts that decide the bits of a run, and the comparison of a resumed run with its checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from zoodip_core.artifact import Concept
from zoodip_core.config import PersonalizationSettings
from zoodip_core.diffusion.loading import Bundle
from zoodip_core.images import image_digest
from zoodip_core.personalization.subject import Subject

_CHANGEABLE = {"steps", "stop", "checkpoint_every"}
"""Settings that leave the completed steps as they are; `_length_differences` restricts the first two."""
_MAX_SHOWN = 100
"""Characters of a value that a message repeats."""


@dataclass(frozen=True)
class RunFacts:
    """Everything that decides the bits of a run.

    Attributes:
        token: placeholder token.
        initializer: word of the vocabulary that the search starts from.
        kind: "object" or "style".
        captions: one sentence for each image; None uses templates.
        base_model: fingerprint of the base model.
        precision: precision of the base model.
        images: SHA-256 of the size and the pixels of each image.
        settings: settings of the personalization.
    """

    token: str
    initializer: str
    kind: str
    captions: tuple[str, ...] | None
    base_model: str
    precision: str
    images: tuple[str, ...]
    settings: PersonalizationSettings

    @classmethod
    def of(
        cls,
        bundle: Bundle,
        subject: Subject,
        images: Sequence[Image.Image],
        settings: PersonalizationSettings,
    ) -> RunFacts:
        """Return the facts of a run from its inputs."""
        return cls(
            subject.token,
            subject.initializer,
            subject.kind,
            subject.captions,
            bundle.fingerprint,
            bundle.precision,
            tuple(map(image_digest, images)),
            settings,
        )

    def differences(self, saved: RunFacts, completed: int) -> list[str]:
        """Return what forbids this run to continue from a checkpoint, one clause for each fact.

        Args:
            saved: facts of the run that wrote the checkpoint.
            completed: completed steps of the checkpoint.

        Returns:
            Clauses such as "learning_rate: got 0.01; the checkpoint has 0.02"; empty if the run can continue.
        """
        return [
            *_differing(self._fixed(), saved._fixed()),
            *_image_differences(self.images, saved.images),
            *_length_differences(self.settings, saved.settings, completed),
        ]

    def describes(self, concept: Concept) -> bool:
        """Return whether `concept` is a result of this run, perhaps of fewer steps."""
        origin = concept.provenance
        if origin is None or concept.fingerprint != self.base_model:
            return False
        learned = (concept.token, concept.kind, origin.initializer, origin.precision, origin.images)
        if learned != (self.token, self.kind, self.initializer, self.precision, len(self.images)):
            return False
        return _fixed_settings(origin.settings) == _fixed_settings(self.settings.model_dump())

    def _fixed(self) -> dict[str, Any]:
        """Return name → value of the facts that must be equal, except the images."""
        return {
            "token": self.token,
            "initializer": self.initializer,
            "kind": self.kind,
            **{f"captions[{index}]": text for index, text in enumerate(self.captions or ())},
            "base_model": self.base_model,
            "precision": self.precision,
            **_fixed_settings(self.settings.model_dump()),
        }


def _fixed_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that decide the bits, with those that files of earlier versions lack."""
    known = {"search_space": "full", "masked_loss": False} | settings
    return {name: value for name, value in known.items() if name not in _CHANGEABLE}


def _differing(given: dict[str, Any], saved: dict[str, Any]) -> list[str]:
    names = dict.fromkeys([*given, *saved])
    pairs = {name: (given.get(name), saved.get(name)) for name in names}
    return [
        f"{name}: got {_shown(value)}; the checkpoint has {_shown(old)}"
        for name, (value, old) in pairs.items()
        if value != old
    ]


def _shown(value: object) -> str:
    if value is None:
        return "none"
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


def _image_differences(given: Sequence[str], saved: Sequence[str]) -> list[str]:
    if len(given) != len(saved):
        return [f"images: got {len(given)}; the checkpoint has {len(saved)}"]
    if given != saved and sorted(given) == sorted(saved):
        return ["images: got the images of the checkpoint in another order"]
    pairs = enumerate(zip(given, saved, strict=True))
    return [
        f"images[{index}]: got another image than the checkpoint" for index, (new, old) in pairs if new != old
    ]


def _length_differences(
    given: PersonalizationSettings, saved: PersonalizationSettings, completed: int
) -> list[str]:
    """Return what forbids the number of steps or the early stop.

    The steps of a search are the first steps of a longer one if the learning rate is constant. Early stopping looks
    at the share of completed steps: in a shorter search it could have stopped before the checkpoint.
    """
    if given.stop == "auto" and saved.stop == "steps":
        return ["stop: got 'auto'; the checkpoint has 'steps', and an earlier stop was never considered"]
    if given.steps == saved.steps:
        return []
    if given.learning_rate_schedule != "constant":
        rule = f"{saved.steps}, because the learning rate of {given.learning_rate_schedule!r} depends on it"
    elif given.stop == "auto" and given.steps < saved.steps:
        rule = f"at least {saved.steps}, because stop='auto' depends on it"
    elif given.steps < completed:
        rule = f"at least {completed}, the completed steps of the checkpoint"
    else:
        return []
    return [f"steps: got {given.steps}; expected {rule}"]
