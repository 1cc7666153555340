"""Calibrate a base model: learn pseudo-subjects in batches, and continue after an interruption."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from zoodip_core.base_models.vocabulary import vocabulary
from zoodip_core.calibration.backpropagation import Backpropagation
from zoodip_core.calibration.curvature import mean_curvature
from zoodip_core.calibration.forward_only import ForwardOnly
from zoodip_core.calibration.noun_displacements import noun_displacements
from zoodip_core.calibration.options import CalibrationOptions
from zoodip_core.calibration.partial_result import identity, load_partial_result
from zoodip_core.calibration.pseudo_subjects import (
    PseudoSubject,
    choose_nouns,
    choose_style_pairs,
    choose_subjects,
    weights,
)
from zoodip_core.calibration.vocabulary_prior import vocabulary_calibration
from zoodip_core.calibration.watch import Watch
from zoodip_core.calibration_file import DIRECTIONS, Calibration, principal_directions
from zoodip_core.diffusion.loading import Bundle
from zoodip_core.displacement_map import DisplacementMap, latent_statistics
from zoodip_core.personalization.checkpoint import save_checkpoint

_Method = Backpropagation | ForwardOnly


class _Chosen(NamedTuple):
    """Words of the vocabulary that a calibration learns and measures."""

    subjects: list[PseudoSubject]
    pairs: list[PseudoSubject]  # of styles, which change no direction
    nouns: list[str]

    @property
    def learned(self) -> list[PseudoSubject]:
        """All pseudo-subjects, in the order in which they are learned."""
        return [*self.subjects, *self.pairs]


def calibrate(
    bundle: Bundle,
    options: CalibrationOptions,
    out: Path,
    *,
    generation: Mapping[str, int | float],
    watch: Watch,
) -> None:
    """Write a calibration file. The partial result is kept in `<out>.part` until the end.

    With `forward_only` the space of its searches is kept in `<out>.prior` until the end. Without it no such file is
    read, written or deleted. After an interruption a repeated call continues with the batch that had begun, which it
    learns again.

    Args:
        bundle: the base model; in fp32 for backpropagation.
        options: size and seed; a partial result of other options is refused.
        out: the file to write.
        generation: steps and guidance scale of the pictures.
        watch: receives the progress, and may stop the calibration.

    Raises:
        InterruptedSearchError: the watch stopped the calibration.
        InvalidModelError: the vocabulary has too few single-token nouns.
        InvalidCheckpointError: the partial result is damaged, or has other options or another base model.
        LossNotFiniteError: a loss is NaN or infinite.
    """
    chosen = _choose(bundle, options)
    part, prior = (out.with_name(out.name + suffix) for suffix in (".part", ".prior"))
    own = identity(bundle, options, generation)
    learned, began = load_partial_result(part, identity=own), part.is_file()
    if options.forward_only and not began:
        prior.unlink(missing_ok=True)  # of another calibration
    method = _method(bundle, chosen, options, prior, generation, watch)
    if not began:
        save_checkpoint(learned, part, identity=own)
    while (done := len(learned.get("displacements", ()))) < len(chosen.learned):
        found = _learn(method, chosen.learned[done : done + options.together], options.seed + done)
        learned = {name: torch.cat([learned[name], one]) if done else one for name, one in found.items()}
        save_checkpoint(learned, part, identity=own)
        watch.on_progress("learned", len(learned["displacements"]), len(chosen.learned))
    _finish(method, chosen, learned).save(out)
    for file in (part, prior) if options.forward_only else (part,):
        file.unlink(missing_ok=True)


def _choose(bundle: Bundle, options: CalibrationOptions) -> _Chosen:
    words, seed, excluded = vocabulary(bundle.folder), options.seed, options.excluded
    return _Chosen(
        choose_subjects(words, options.subjects, seed=seed, excluded=excluded),
        choose_style_pairs(words, seed=seed, excluded=excluded),
        choose_nouns(words, excluded),
    )


def _method(
    bundle: Bundle,
    chosen: _Chosen,
    options: CalibrationOptions,
    prior: Path,
    generation: Mapping[str, int | float],
    watch: Watch,
) -> _Method:
    """Return how pseudo-subjects are learned; write the space that forward-only searches need, if it is missing."""
    if not options.forward_only:
        return Backpropagation(bundle, options, generation, watch)
    if not prior.is_file():
        found = vocabulary_calibration(bundle, chosen.subjects, chosen.nouns, options, generation, watch)
        found.save(prior)
    return ForwardOnly(replace(bundle, calibration=prior), options, generation, watch)


def _learn(method: _Method, subjects: Sequence[PseudoSubject], seed: int) -> dict[str, Tensor]:
    """Learn a batch. Return statistics of its latents, its initial tokens, and how far they moved."""
    started = [method.begin(subject, number) for number, subject in enumerate(subjects, seed)]
    return {
        "statistics": torch.stack(
            [latent_statistics(one.references.posteriors.mean[:, 0]) for one in started]
        ),
        "tokens": torch.stack([one.search.theta for one in started]),
        "displacements": method.learn(started, seed),
    }


def _finish(method: _Method, chosen: _Chosen, learned: Mapping[str, Tensor]) -> Calibration:
    """Return the calibration of learned displacements and nouns, with the curvature along its directions."""
    bundle, subjects = method.bundle, chosen.subjects
    statistics, tokens, moves = (
        learned[name][: len(subjects)] for name in ("statistics", "tokens", "displacements")
    )
    rows = torch.tensor(weights(subjects)).sqrt()[:, None] * moves
    between = noun_displacements(bundle, chosen.nouns, rows)
    basis, scales = principal_directions(torch.cat([rows, between]), DIRECTIONS)
    curvature = mean_curvature(
        bundle, subjects, scales[:, None] * basis, method.options, method.generation, method.watch
    )
    objects = torch.tensor([subject.kind == "object" for subject in subjects])
    fitted = DisplacementMap.fit(statistics[objects], tokens[objects], moves[objects])
    styles = [index for index, one in enumerate(chosen.learned) if one.kind == "style"]
    return Calibration(
        basis,
        scales,
        curvature,
        bundle.weights_fingerprint,
        _provenance(method, chosen),
        fitted,
        learned["displacements"][styles] if styles else None,
    )


def _provenance(method: _Method, chosen: _Chosen) -> dict[str, Any]:
    """Return how the file was made."""
    options = method.options
    return {
        **method.provenance(),
        "steps": options.steps,
        "samples": options.samples,
        "seed": options.seed,
        "subjects": [subject.phrase for subject in chosen.subjects],
        "style_pairs": [pair.phrase for pair in chosen.pairs],
        "nouns": chosen.nouns,
    }
