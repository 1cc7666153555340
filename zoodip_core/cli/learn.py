"""Run a personalization and save its concept file; shared by `zoodip personalize` and `zoodip demo`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from zoodip_core.artifact import save_concept
from zoodip_core.cli.console import interruption, say, search_progress
from zoodip_core.config import PersonalizationSettings
from zoodip_core.diffusion.device import peak_memory_mb
from zoodip_core.diffusion.loading import Bundle
from zoodip_core.errors import InterruptedSearchError, InvalidInputError
from zoodip_core.personalization.checkpoint import identity, load_checkpoint, save_checkpoint
from zoodip_core.personalization.concept_conversion import to_concept
from zoodip_core.personalization.personalize import Personalization
from zoodip_core.personalization.run import Outcome, Progress, run_search
from zoodip_core.personalization.subject import Subject


@dataclass(frozen=True)
class Learned:
    """Finished personalization and its concept file."""

    personalization: Personalization
    artifact: Path
    outcome: Outcome

    def figures(self) -> Mapping[str, Any]:
        """Return the values that `--json` prints."""
        outcome = self.outcome
        return {
            "artifact": str(self.artifact),
            "steps": outcome.steps,
            "forwards": outcome.forwards,
            "seconds": round(outcome.seconds, 3),
            "it_per_s": round(outcome.it_per_s, 3),
            "fixed_loss_start": outcome.fixed_loss_start,
            "fixed_loss_end": outcome.fixed_loss_end,
            "stopped_early": outcome.stopped_early,
            "peak_memory_mb": round(peak_memory_mb(self.personalization.bundle.device), 1),
        }


def learn(
    bundle: Bundle,
    subject: Subject,
    images: list[Image.Image],
    settings: PersonalizationSettings,
    *,
    out: Path,
    resume: bool = False,
) -> Learned:
    """Run the search, save the concept file and delete the checkpoint.

    Args:
        bundle: loaded base model.
        subject: token, initializer, kind and captions.
        images: reference images, 1 to 16.
        settings: settings of the search.
        out: path of the concept file; the checkpoint is stored in the same folder.
        resume: continue from the checkpoint.

    Raises:
        ZoodipError: the search fails; `out` is not written.
        InterruptedSearchError: Ctrl-C or SIGTERM; the checkpoint is saved for `resume`.
    """
    checkpoint = checkpoint_path(out)
    job = identity(subject, settings, bundle.fingerprint, images)
    state = load_checkpoint(checkpoint, identity=job) if resume else None
    personalization = Personalization.begin(bundle, subject, images, settings, state)
    if resume:
        say(f"resuming at step {personalization.step} of {settings.steps}")
    with interruption() as stop, search_progress(settings.steps) as bar:

        def on_progress(p: Progress) -> None:
            bar.update(p.step, it_per_s=p.it_per_s, eta_s=p.eta_s, fixed_loss=p.fixed_loss)

        outcome = run_search(
            personalization,
            on_progress=on_progress,
            save=lambda p: save_checkpoint(p.state(), checkpoint, identity=job),
            should_stop=stop,
        )
    if not outcome.finished:
        raise InterruptedSearchError(
            f"interrupted at step {outcome.steps} of {settings.steps}; "
            f"run the same command with --resume to continue from {checkpoint}"
        )
    save_concept(to_concept(personalization, outcome.fixed_loss_end), out)
    checkpoint.unlink(missing_ok=True)
    return Learned(personalization, out, outcome)


def checkpoint_path(out: Path) -> Path:
    """Return the path of the checkpoint that belongs to the concept file `out`."""
    return out.with_name(f"{out.stem}.checkpoint.safetensors")


def check_writable(out: Path) -> None:
    """Validate that the concept file can be written, before the search starts.

    Raises:
        InvalidInputError: `out` is a folder, or its folder is missing or not writable.
    """
    folder = out.parent
    if out.is_dir():
        raise InvalidInputError.mismatch("out", got=f"the folder {out}", expected="a file name")
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise InvalidInputError.mismatch(
            "out",
            got=f"{out}, whose folder is missing or not writable",
            expected="a file in an existing, writable folder",
        )
