"""Calibrate a base model: learn pseudo-subjects in batches, and continue after an interruption."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from zoodip_core.base_models.presets import CALIBRATED
from zoodip_core.base_models.vocabulary import vocabulary
from zoodip_core.calibration.backpropagation import BATCH, RATE, draw_and_learn
from zoodip_core.calibration.curvature import mean_curvature
from zoodip_core.calibration.forward_only import draw_and_search
from zoodip_core.calibration.noun_displacements import noun_displacements
from zoodip_core.calibration.options import CalibrationOptions
from zoodip_core.calibration.pseudo_subjects import PseudoSubject, choose_nouns, choose_subjects
from zoodip_core.calibration.vocabulary_prior import vocabulary_calibration
from zoodip_core.calibration_file import DIRECTIONS, Calibration, principal_directions
from zoodip_core.diffusion.loading import Bundle
from zoodip_core.personalization.checkpoint import load_checkpoint, save_checkpoint


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

    With `forward_only` the space of its searches is kept in `<out>.prior` until the end.

    Args:
        bundle: the base model; in fp32 for backpropagation.
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
    words = vocabulary(bundle.folder)
    subjects = choose_subjects(words, options.subjects, seed=options.seed, excluded=options.excluded)
    nouns = choose_nouns(words, options.excluded)
    part, prior = out.with_suffix(".part"), out.with_suffix(".prior")
    identity = json.dumps([bundle.weights_fingerprint, asdict(options)])
    moves: list[Tensor] = [load_checkpoint(part, identity=identity)["moves"]] if part.is_file() else []
    if options.forward_only and not (moves and prior.is_file()):
        vocabulary_calibration(bundle, subjects, nouns, options, generation).save(prior)
    learn = functools.partial(draw_and_search, prior=prior) if options.forward_only else draw_and_learn
    while (done := sum(len(one) for one in moves)) < len(subjects):
        if should_stop():
            return False
        batch = subjects[done : done + options.together]
        learned = learn(bundle, batch, steps=options.steps, seed=options.seed + done, generation=generation)
        moves.append(learned.cpu())
        save_checkpoint({"moves": torch.cat(moves)}, part, identity=identity)
        on_progress(done + len(batch))
    _finish(bundle, subjects, nouns, torch.cat(moves), options, generation).save(out)
    for file in (part, prior):
        file.unlink(missing_ok=True)
    return True


def _finish(
    bundle: Bundle,
    subjects: Sequence[PseudoSubject],
    nouns: Sequence[str],
    moves: Float[Tensor, "subjects flat"],
    options: CalibrationOptions,
    generation: Mapping[str, int | float],
) -> Calibration:
    """Return the calibration of learned moves and nouns, with the curvature along its directions."""
    between = noun_displacements(bundle, nouns, moves)
    basis, scales = principal_directions(torch.cat([moves / len(moves) ** 0.5, between]), DIRECTIONS)
    curvature = mean_curvature(bundle, subjects, scales[:, None] * basis, options, generation)
    how = (
        {"method": "forward_only", "precision": bundle.precision, **CALIBRATED}
        if options.forward_only
        else {"method": "backpropagation", "batch": BATCH, "learning_rate": RATE}
    )
    provenance = {
        **how,
        "subjects": [subject.phrase for subject in subjects],
        "nouns": list(nouns),
        "steps": options.steps,
        "samples": options.samples,
        "seed": options.seed,
    }
    return Calibration(basis, scales, curvature, bundle.weights_fingerprint, provenance)
