"""Measure all figures of a model folder, and draw its grids."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.model import figures
from benchmarks.model.drawing import draw, read_pipeline
from benchmarks.model.figures import ALL_THREE, BACKGROUND, STYLE, Figure, Scorer
from benchmarks.model.inversion import STEPS_TRAINED
from benchmarks.model.prompts import Prompt, PromptLists
from models.emoji.judge import Judge, read_judge
from models.emoji.train.sampling import write_grid
from models.emoji.world import World, shipped_world


@dataclass(frozen=True)
class Scale:
    """The size of the measurement; published figures use the defaults.

    Attributes:
        seeds: pictures for each prompt of seen objects; half as many for held-out pairs and named instances.
        prompts: maximum number of prompts of each list; None for all.
        reconstructed: validation pictures for the autoencoder.
        judged: real pictures for the judge.
        inverted: steps of Textual Inversion; 0 skips it.
    """

    seeds: int = 4
    prompts: int | None = None
    reconstructed: int = 200
    judged: int = 1000
    inverted: int = STEPS_TRAINED


@dataclass(frozen=True)
class DrawnList:
    """A list of prompts with its number of seeds and its acceptance thresholds."""

    name: str
    prompts: list[Prompt]
    seeds: int
    thresholds: Mapping[str, float | None]


def drawn_lists(lists: PromptLists, seeds: int) -> list[DrawnList]:
    """Return the lists to draw and judge."""
    half = max(1, seeds // 2)
    return [
        DrawnList("seen objects", lists.seen, seeds, {ALL_THREE: 0.97, BACKGROUND: 0.99}),
        DrawnList("held-out pairs in words", lists.held_out, half, {ALL_THREE: 0.97}),
        DrawnList("named instances", lists.named_instances, half, {ALL_THREE: 0.97}),
        DrawnList("style words", lists.styles, 1, {STYLE: 0.95}),
        DrawnList("held-out styles in words", lists.held_out_styles, 1, {STYLE: None}),
    ]


def drawn_figures(
    pipeline: Any, scorer: Scorer, judge: Judge, world: World, lists: list[DrawnList]
) -> list[Figure]:
    """Return the figures of drawn pictures."""
    found: list[Figure] = []
    for one in lists:
        measured, pictures = figures.judged(one.name, pipeline, judge, one.prompts, one.seeds, one.thresholds)
        found += measured
        scenes = [prompt.scene for prompt in one.prompts]
        asked, others = (
            ("style", figures.with_other_styles)
            if STYLE in one.thresholds
            else ("object", figures.with_other_objects)
        )
        for kind, shown in (("", pictures), (" (composed images)", figures.composed(scenes, world))):
            share = figures.chosen_by_clip(scorer, shown, scenes, others, world)
            found.append(Figure(f"{one.name}: CLIP pair prefers the {asked} to 9 others{kind}", share))
    return found


def grid_prompts(lists: PromptLists) -> list[Prompt]:
    """Return the 64 prompts of the grid for VLM recognition."""
    styles = lists.styles[::20]
    return [*lists.seen[:28], *lists.held_out[::6][:16], *lists.named_instances[:12], *styles[:8]]


def draw_grid(pipeline: Any, lists: PromptLists, out: Path) -> None:
    """Write the grid for VLM recognition, and its prompts."""
    grid = grid_prompts(lists)
    write_grid(draw(pipeline, [prompt.text for prompt in grid], seed=5), out / "grid.png", columns=8)
    lines = [f"{index}: {prompt.text}\n" for index, prompt in enumerate(grid)]
    (out / "grid.txt").write_text("".join(lines))


def measure(folder: Path, out: Path, scale: Scale) -> list[Figure]:
    """Return all figures; write the grids to `out`.

    Raises:
        EmojiModelError: the model folder or the judge is missing or damaged.
    """
    world, judge = shipped_world(), read_judge()
    pipeline, scorer = read_pipeline(folder), Scorer(folder)
    lists = PromptLists.of(world, scale.prompts)
    found = [figures.weight(folder), figures.largest_file(folder), figures.drawing_time(pipeline)]
    found += figures.reconstruction(pipeline, scale.reconstructed)
    found += figures.judge_on_real(judge, scale.judged)
    found += drawn_figures(pipeline, scorer, judge, world, drawn_lists(lists, scale.seeds))
    draw_grid(pipeline, lists, out)
    for name, shapes in (("subjects", False), ("shapes", True)) if scale.inverted else ():
        figure, pictures = figures.inversion(pipeline, judge, world, shapes, scale.inverted)
        found.append(figure)
        write_grid(pictures, out / f"inversion-{name}.png", columns=len(figures.INVERSION_BACKGROUNDS))
    return found


def table(found: list[Figure]) -> str:
    """Return the figures as a Markdown table."""
    rows = ["| figure | measured | threshold | met |", "|---|---|---|---|"]
    for one in found:
        number = f"{one.value:.1f} {one.unit}" if one.unit else f"{one.value:.3f}"
        threshold = (
            "–"
            if one.threshold is None
            else f"{'≤' if one.at_most else '≥'} {one.threshold:g} {one.unit}".strip()
        )
        rows.append(
            f"| {one.name} | {number} | {threshold} | {({True: 'yes', False: 'NO', None: ''})[one.met]} |"
        )
    return "\n".join(rows)
