"""Run a personalization with progress, checkpoints and interruption; for `zoodip personalize` and `zoodip demo`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from zoodip_core.artifact import load_concept, save_concept
from zoodip_core.cli.console import interruption, say
from zoodip_core.cli.output_files import RunFiles
from zoodip_core.cli.progress import show_progress, speed_and_eta
from zoodip_core.config import PersonalizationSettings
from zoodip_core.diffusion.device import peak_memory_mb
from zoodip_core.diffusion.loading import Bundle
from zoodip_core.errors import InterruptedSearchError, InvalidInputError
from zoodip_core.personalization.concept_conversion import to_concept
from zoodip_core.personalization.personalize import Personalization
from zoodip_core.personalization.run import Outcome, Progress, run_search
from zoodip_core.personalization.run_checkpoint import RunCheckpoint
from zoodip_core.personalization.run_facts import RunFacts
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
    files: RunFiles,
    resume: bool,
    replace: bool,
) -> Learned:
    """Run the search, then save the concept file and the checkpoint of its end.

    Args:
        bundle: loaded base model.
        subject: token, initializer, kind and captions.
        images: reference images, 1 to 16.
        settings: settings of the search.
        files: where to write the concept and the checkpoint.
        resume: continue from the checkpoint.
        replace: overwrite a concept file of another run.

    Raises:
        ZoodipError: the search fails, or the checkpoint belongs to another run; the concept file is not written.
        InterruptedSearchError: Ctrl-C or SIGTERM; the checkpoint is saved for `resume`.
    """
    checkpoint = RunCheckpoint(files.checkpoint, bundle, subject, images, settings)
    state = checkpoint.load() if resume else None
    if not replace:
        _check_own_result(files.concept, checkpoint.facts)
    personalization = Personalization.begin(bundle, subject, images, settings, state)
    personalization.on_recovery = lambda recovery: say(f"warning: {recovery.message}")
    if resume:
        complete = ": the search is complete" if personalization.done else ""
        say(f"resuming at step {personalization.step} of {settings.steps}{complete}")
    outcome = run_with_progress(personalization, save=lambda p: checkpoint.save(p.state()))
    if not outcome.finished:
        raise InterruptedSearchError(
            f"interrupted at step {outcome.steps} of {settings.steps}; "
            f"run the same command with --resume to continue from {files.checkpoint}"
        )
    save_concept(to_concept(personalization, outcome.fixed_loss_end), files.concept)
    checkpoint.save(personalization.state(), finished=True)
    return Learned(personalization, files.concept, outcome)


def run_with_progress(
    personalization: Personalization, *, save: Callable[[Personalization], None]
) -> Outcome:
    """Run the search until it ends or the first Ctrl-C or SIGTERM, and show its progress.

    Args:
        personalization: the search; advanced in place.
        save: saves a checkpoint.

    Raises:
        ZoodipError: the search fails.
    """
    with interruption() as stop, show_progress("learning", personalization.settings.steps) as show:

        def on_progress(p: Progress) -> None:
            show(p.step, f"{speed_and_eta(p.it_per_s, p.eta_s)}, validation loss {p.fixed_loss:.4f}")

        return run_search(personalization, on_progress=on_progress, save=save, should_stop=stop)


def _check_own_result(path: Path, facts: RunFacts) -> None:
    """Validate that an existing concept file is an earlier result of this run.

    Raises:
        InvalidInputError: it is another file.
    """
    if not path.exists():
        return
    try:
        own = facts.describes(load_concept(path))
    except InvalidInputError:
        own = False
    if not own:
        raise InvalidInputError.mismatch(
            "out",
            got=f"{path}, which this run did not write",
            expected="another file, or --replace to overwrite it",
        )
