"""Calibrate a base model: learn pseudo-subjects in batches, and continue after an interruption."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from zoodip_core.base_models.vocabulary import vocabulary
from zoodip_core.calibration.backpropagation import BATCH, RATE, draw_and_learn
from zoodip_core.calibration.curvature import mean_curvature
from zoodip_core.calibration.noun_displacements import noun_displacements
from zoodip_core.calibration.pseudo_subjects import PseudoSubject, choose_nouns, choose_subjects
from zoodip_core.calibration_file import Calibration, principal_directions
from zoodip_core.diffusion.loading import Bundle
from zoodip_core.personalization.checkpoint import load_checkpoint, save_checkpoint

TOGETHER = 8
"""Pseudo-subjects that are learned in one batch; the file of an interrupted calibration holds whole batches."""

DIRECTIONS = 64
"""Most principal directions that a calibration keeps."""


@dataclass(frozen=True)
class CalibrationOptions:
    """Options of a calibration.

    Attributes:
        subjects: number of pseudo-subjects.
        steps: steps of backpropagation for each.
        seed: seed of all random numbers.
        excluded: phrases that no pseudo-subject may contain.
    """

    subjects: int = 32
    steps: int = 150
    seed: int = 0
    excluded: tuple[str, ...] = ()


def calibrate(
    bundle: Bundle,
    options: CalibrationOptions,
    out: Path,
    *,
    generation: Mapping[str, int | float],
    on_progress: Callable[[int], None],
    should_stop: Callable[[], bool],
) -> bool:
    """Write a calibration file. The partial result is kept in `<out>.part` until the end.

    Args:
        bundle: the base model in fp32.
        options: size and seed; a partial result of other options is refused.
        out: the file to write.
        generation: steps and guidance scale of the pictures.
        on_progress: called with the number of learned pseudo-subjects.
        should_stop: called between batches.

    Returns:
        Whether the calibration is complete; if not, a repeated call continues.

    Raises:
        InvalidModelError: the vocabulary has too few single-token nouns.
        InvalidCheckpointError: the partial result is damaged, or has other options or another base model.
        LossNotFiniteError: a loss is NaN or infinite.
    """
    subjects = choose_subjects(
        vocabulary(bundle.folder), options.subjects, seed=options.seed, excluded=options.excluded
    )
    part = out.with_suffix(".part")
    identity = json.dumps([bundle.weights_fingerprint, asdict(options)])
    moves: list[Tensor] = [load_checkpoint(part, identity=identity)["moves"]] if part.is_file() else []
    done = sum(len(one) for one in moves)
    while done < len(subjects):
        if should_stop():
            return False
        batch = subjects[done : done + TOGETHER]
        learned = draw_and_learn(
            bundle, batch, steps=options.steps, seed=options.seed + done, generation=generation
        )
        moves.append(learned.cpu())
        done += len(batch)
        save_checkpoint({"moves": torch.cat(moves)}, part, identity=identity)
        on_progress(done)
    _finish(bundle, subjects, torch.cat(moves), options, generation).save(out)
    part.unlink(missing_ok=True)
    return True


def _finish(
    bundle: Bundle,
    subjects: Sequence[PseudoSubject],
    moves: Tensor,
    options: CalibrationOptions,
    generation: Mapping[str, int | float],
) -> Calibration:
    """Return the calibration of learned moves and nouns, with the curvature along its directions."""
    nouns = choose_nouns(vocabulary(bundle.folder), options.excluded)
    between = noun_displacements(bundle, nouns, moves)
    basis, scales = principal_directions(torch.cat([moves / len(moves) ** 0.5, between]), DIRECTIONS)
    curvature = mean_curvature(
        bundle, subjects, scales[:, None] * basis, seed=options.seed, generation=generation
    )
    provenance = {
        "subjects": [subject.phrase for subject in subjects],
        "nouns": nouns,
        "steps": options.steps,
        "seed": options.seed,
        "batch": BATCH,
        "learning_rate": RATE,
    }
    return Calibration(basis, scales, curvature, bundle.weights_fingerprint, provenance)
