"""`python -m benchmarks.quality.masked`: what a masked loss changes, on photos with one distracting background.

All references of a subject have the same painted background, and no caption names it. Each subject is learned from
these photos and from cutouts on white, each with and without a mask. Each subject has separate random numbers, which
all arms share. With --outside, the background keeps a part of its weight.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from PIL import Image

from benchmarks.quality.cases.prompts import make_prompts
from benchmarks.quality.cases.protocols import TOKEN
from benchmarks.quality.cases.subjects import REFERENCES, Case, make_cases
from benchmarks.quality.cli import at_least, embedded_model, load_instruments, log_progress, print_or_exit
from benchmarks.quality.metrics import Figures, Instruments, interval, measure
from benchmarks.quality.report.tables import markdown
from benchmarks.quality.sources import SEED_STRIDE, draw
from models.emoji.compose import caption, draw_cutout
from models.emoji.painters import PAINTED_BACKGROUNDS, paint_background
from models.emoji.world import World
from zoodip_core.base_models.catalog import BaseModelEntry
from zoodip_core.base_models.presets import resolve_settings
from zoodip_core.diffusion.loading import Bundle, load_bundle
from zoodip_core.engine import Engine
from zoodip_core.images.opacity import with_opacity
from zoodip_core.personalization.personalize import Personalization

HEAD = (
    "references",
    "loss",
    "attribute accuracy",
    "difference to all pixels",
    "background accuracy",
    "CLIP-T",
)


@dataclass(frozen=True)
class Options:
    """Numbers of subjects of the validation split, search seeds, evaluations, prompts and pictures.

    `outside` are weights of the background that is masked, as a share of that of the subject.
    """

    subjects: int
    seeds: int
    forwards: int
    prompts: int
    pictures: int
    outside: tuple[float, ...]


@dataclass(frozen=True)
class Arm:
    """One way to learn a subject: from photos or cutouts, and with which weight of the background."""

    source: str
    outside: float | None  # None: without a mask

    @property
    def loss(self) -> str:
        """Return the kind of loss in words."""
        return "all pixels" if self.outside is None else f"masked, {self.outside:g} outside"


def references(case: Case, number: int, world: World, arm: Arm) -> list[Image.Image]:
    """Return the references of a subject; those of all arms have the object at the same place."""
    rng = random.Random(f"masked loss {case.name}")
    background = [*PAINTED_BACKGROUNDS][number % len(PAINTED_BACKGROUNDS)]
    found = []
    for _ in range(REFERENCES):
        figure = draw_cutout(case.scene, rng, world)
        ground = paint_background(world.plain_backgrounds, background, rng, figure.width)
        if arm.source == "cutouts on white":
            ground = Image.new("RGB", figure.size, "white")
        ground.paste(figure, mask=figure.getchannel("A"))
        found.append(ground if arm.outside is None else _masked(ground, figure, arm.outside))
    return found


def _masked(picture: Image.Image, figure: Image.Image, outside: float) -> Image.Image:
    levels = [round(255 * outside + level * (1 - outside)) for level in range(256)]
    return with_opacity(picture, figure.getchannel("A").point(levels))


def learn(
    bundle: Bundle, entry: BaseModelEntry, cases: Sequence[Case], arm: Arm, world: World, options: Options
) -> list[list[Personalization]]:
    """Return the finished searches of an arm for each seed and subject."""
    values = {"search_space": "full", "fixed_rows": 1, "masked_loss": arm.outside is not None}
    settings = resolve_settings(entry, bundle.family, "default", values)
    steps = options.forwards // settings.evaluations_per_step
    found = []
    for seed in range(options.seeds):
        searches = [
            Personalization.begin(
                bundle,
                case.subject,
                references(case, number, world, arm),
                settings.model_copy(update={"steps": steps, "seed": seed * SEED_STRIDE + number}),
            )
            for number, case in enumerate(cases)
        ]
        while not searches[0].done:
            Engine(bundle).advance(searches)
        log_progress(f"{arm.source}, {arm.loss}, seed {seed}: learned")
        found.append(searches)
    return found


def judge(
    bundle: Bundle,
    entry: BaseModelEntry,
    case: Case,
    search: Personalization,
    tools: Instruments,
    options: Options,
) -> Figures:
    """Return the figures of the pictures of a learned token."""
    prompts = make_prompts(case, tools.world, options.prompts)
    texts = [prompt.with_noun(TOKEN) for prompt in prompts]
    drawn = draw(bundle, entry, texts, options.pictures, search.concept_vectors)
    return measure(case, prompts, drawn, tools.embedder, tools.judge)


def run(entry: BaseModelEntry, tools: Instruments, options: Options, device: str | None) -> str:
    """Learn and draw in all arms, and return the table."""
    bundle = load_bundle(entry, device=device)
    cases = [
        replace(case, captions=(caption(TOKEN, ""),) * REFERENCES)
        for case in make_cases(tools.world, "subjects", "validation", options.subjects)
    ]
    sources = ("photos", "cutouts on white")
    arms = [Arm(source, outside) for source in sources for outside in (None, *options.outside)]
    lines: list[tuple[str, ...]] = []
    unmasked: list[float] = []
    for arm in arms:
        found = [
            [
                judge(bundle, entry, case, search, tools, options)
                for case, search in zip(cases, searches, strict=True)
            ]
            for searches in learn(bundle, entry, cases, arm, tools.world, options)
        ]
        accuracies = [_means([one.attribute_accuracy for one in row]) for row in zip(*found, strict=True)]
        unmasked = accuracies if arm.outside is None else unmasked
        lines.append(_line(arm, found, accuracies, unmasked))
    return markdown([HEAD, *lines]) + "\n"


def _line(
    arm: Arm, found: Sequence[Sequence[Figures]], accuracies: Sequence[float], unmasked: Sequence[float]
) -> tuple[str, ...]:
    """Return one line: accuracies are means over seeds, one for each subject, and intervals are over subjects."""
    differences = [value - other for value, other in zip(accuracies, unmasked, strict=True)]
    everything = [one for row in found for one in row]
    low, high = interval(accuracies)
    least, most = interval(differences)
    return (
        arm.source,
        arm.loss,
        f"{_means(accuracies):.2f} ({low:.2f}–{high:.2f})",
        f"{_means(differences):+.2f} ({least:+.2f} to {most:+.2f})" if arm.outside is not None else "–",
        f"{_means([one.background_accuracy for one in everything]):.2f}",
        f"{_means([one.clip_t for one in everything]):.3f}",
    )


def _means(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return sum(known) / len(known)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality.masked",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--subjects", type=int, default=6, help="number of subjects of the validation split")
    add("--seeds", type=int, default=2, help="number of search seeds")
    add("--forwards", type=int, default=3000, help="U-Net evaluations for each subject")
    add("--prompts", type=int, default=8, help="prompts for each subject")
    add("--pictures", type=int, default=2, help="pictures for each prompt")
    add("--outside", default="0,0.1", help="weights of the masked background, separated by commas")
    add("--device", help="cpu or cuda; CUDA by default if available")
    given = parser.parse_args(arguments)
    print_or_exit(lambda: _run(given))


def _run(given: argparse.Namespace) -> str:
    options = Options(
        at_least(1, given.subjects, "subjects"),
        at_least(1, given.seeds, "seeds"),
        at_least(1, given.forwards, "forwards"),
        at_least(1, given.prompts, "prompts"),
        at_least(1, given.pictures, "pictures"),
        tuple(float(part) for part in given.outside.split(",")),
    )
    entry = embedded_model()
    return run(entry, load_instruments(entry), options, given.device)


if __name__ == "__main__":
    main()
