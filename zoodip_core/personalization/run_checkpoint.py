"""Checkpoint of one run: its state, and the facts that decide which runs can continue from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PIL import Image
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from zoodip_core.config import PersonalizationSettings
from zoodip_core.diffusion.loading import Bundle
from zoodip_core.errors import InvalidCheckpointError
from zoodip_core.personalization.checkpoint import IDENTITY, identity, read_state, write_state
from zoodip_core.personalization.run_facts import RunFacts
from zoodip_core.personalization.subject import Subject

_FACTS, _FINISHED = "zoodip.run", "zoodip.finished"
_RUN_FACTS = TypeAdapter(RunFacts)


@dataclass(frozen=True)
class SavedRun:
    """Content of a checkpoint file.

    Attributes:
        state: tensors of the search.
        facts: facts of the run; None in a file of a version that stored only `identity`.
        identity: `checkpoint.identity` of the run; None if the file has facts.
        finished: whether the concept of this state is saved.
    """

    state: dict[str, Tensor]
    facts: RunFacts | None
    identity: str | None
    finished: bool

    @classmethod
    def read(cls, path: Path) -> SavedRun:
        """Read a checkpoint file.

        Raises:
            InvalidCheckpointError: the file is missing or damaged.
        """
        state, header = read_state(path)
        try:
            facts = _RUN_FACTS.validate_json(header[_FACTS]) if _FACTS in header else None
        except ValidationError as error:
            raise InvalidCheckpointError(
                f"checkpoint: {path} is damaged or of another version: its header is invalid"
            ) from error
        if state.keys().isdisjoint({"step"}) or state["step"].numel() != 1:
            raise InvalidCheckpointError(f"checkpoint: {path} is damaged: it has no step")
        return cls(state, facts, header.get(IDENTITY), header.get(_FINISHED) == "true")

    @property
    def progress(self) -> str:
        """Completed steps, such as "step 120 of 400"."""
        step = int(self.state["step"])
        return f"step {step}" if self.facts is None else f"step {step} of {self.facts.settings.steps}"


def write_run(state: dict[str, Tensor], path: Path, facts: RunFacts, *, finished: bool) -> None:
    """Write the content of a `SavedRun` atomically.

    Raises:
        StorageError: the file could not be written.
    """
    header = {_FACTS: _RUN_FACTS.dump_json(facts).decode(), _FINISHED: str(finished).lower()}
    write_state(state, path, header)


class RunCheckpoint:
    """The checkpoint file of a run that is about to start or to resume.

    Args:
        path: the file.
        bundle: loaded base model.
        subject: token, initializer, kind and captions.
        images: reference images.
        settings: settings of the run.
    """

    def __init__(
        self,
        path: Path,
        bundle: Bundle,
        subject: Subject,
        images: Sequence[Image.Image],
        settings: PersonalizationSettings,
    ) -> None:
        self.path = path
        self.facts = RunFacts.of(bundle, subject, images, settings)
        self._identity = partial(identity, subject, settings, bundle.fingerprint, images)

    def save(self, state: dict[str, Tensor], *, finished: bool = False) -> None:
        """Write the state and the facts atomically.

        Args:
            state: tensors of the search.
            finished: whether the concept of this state is saved.

        Raises:
            StorageError: the file could not be written.
        """
        write_run(state, self.path, self.facts, finished=finished)

    def load(self) -> dict[str, Tensor]:
        """Read the state, after checking that this run can continue from it.

        Raises:
            InvalidCheckpointError: the file is missing or damaged, or belongs to another run; the message names
                each fact that differs.
        """
        saved = SavedRun.read(self.path)
        if saved.facts is None:
            self._check_identity(saved)
            return saved.state
        self._check_facts(saved, saved.facts)
        return saved.state

    def _check_facts(self, saved: SavedRun, facts: RunFacts) -> None:
        differences = self.facts.differences(facts, int(saved.state["step"]))
        if differences:
            raise InvalidCheckpointError(
                f"checkpoint: {self.path} ({saved.progress}) cannot be resumed with these values. "
                f"{'. '.join(differences)}. Resume with the values of the checkpoint, or start a new run",
                field=differences[0].partition(":")[0].partition("[")[0],
            )

    def _check_identity(self, saved: SavedRun) -> None:
        if saved.identity != self._identity():
            raise InvalidCheckpointError(
                f"checkpoint: {self.path} ({saved.progress}) belongs to other images, other settings or another "
                "base model. It was written by an earlier version, which did not store them. Resume with the same "
                "ones, or start a new run"
            )
