"""Every figure of the bar from one model folder, and grids of what it draws."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.model import figures
from benchmarks.model.drawing import draw, read_pipeline
from benchmarks.model.figures import ALL_THREE, GROUND, STYLE, Figure, Scorer
from benchmarks.model.inversion import STEPS_TRAINED
from benchmarks.model.prompts import Prompt, PromptLists
from models.emoji.judge import Judge, read_judge
from models.emoji.train.sampling import write_grid
from models.emoji.world import World, shipped_world


@dataclass(frozen=True)
class Scale:
    """How much is measured; the shipped figures are measured with the defaults.

    Attributes:
        seeds: pictures a prompt of seen things; half as many of held-out pairs and individuals.
        prompts: at most so many of each list; None for all.
        reconstructed: held-back pictures through the autoencoder.
        judged: real pictures for the judge.
        inverted: steps of Textual Inversion; 0 leaves it out.
    """

    seeds: int = 4
    prompts: int | None = None
    reconstructed: int = 200
    judged: int = 1000
    inverted: int = STEPS_TRAINED


@dataclass(frozen=True)
class DrawnList:
    """A list of prompts, pictures a prompt, and what must be right how often."""

    name: str
    prompts: list[Prompt]
    seeds: int
    bars: Mapping[str, float | None]


def drawn_lists(lists: PromptLists, seeds: int) -> list[DrawnList]:
    """What is drawn and judged, with the bar of each."""
    half = max(1, seeds // 2)
    return [
        DrawnList("seen things", lists.seen, seeds, {ALL_THREE: 0.97, GROUND: 0.99}),
        DrawnList("held-out pairs in words", lists.held_out, half, {ALL_THREE: 0.97}),
        DrawnList("individuals by name", lists.individuals, half, {ALL_THREE: 0.97}),
        DrawnList("style words", lists.styles, 1, {STYLE: 0.95}),
        DrawnList("held-out styles in words", lists.held_out_styles, 1, {STYLE: None}),
    ]


def drawn_figures(
    pipeline: Any, scorer: Scorer, judge: Judge, world: World, lists: list[DrawnList]
) -> list[Figure]:
    """The figures of what the model draws."""
    found: list[Figure] = []
    for one in lists:
        measured, pictures = figures.judged(one.name, pipeline, judge, one.prompts, one.seeds, one.bars)
        found += measured
        scenes = [prompt.scene for prompt in one.prompts]
        what, others = (
            ("style", figures.with_other_styles)
            if STYLE in one.bars
            else ("thing", figures.with_other_things)
        )
        for kind, shown in (("", pictures), (" (composed pictures)", figures.composed(scenes, world))):
            share = figures.chosen_by_clip(scorer, shown, scenes, others, world)
            found.append(Figure(f"{one.name}: CLIP pair prefers the {what} to 9 others{kind}", share))
    return found


def grid_prompts(lists: PromptLists) -> list[Prompt]:
    """The prompts of the grid for eyes: 64 of whole lists."""
    styles = lists.styles[::20]
    return [*lists.seen[:28], *lists.held_out[::6][:16], *lists.individuals[:12], *styles[:8]]


def draw_grid(pipeline: Any, lists: PromptLists, out: Path) -> None:
    """A grid of pictures for eyes, and its prompts."""
    grid = grid_prompts(lists)
    write_grid(draw(pipeline, [prompt.text for prompt in grid], seed=5), out / "grid.png", columns=8)
    lines = [f"{index}: {prompt.text}\n" for index, prompt in enumerate(grid)]
    (out / "grid.txt").write_text("".join(lines))


def measure(folder: Path, out: Path, scale: Scale) -> list[Figure]:
    """Every figure of the bar; the grids go to `out`.

    Raises:
        EmojiModelError: the model folder, or the judge, is missing or broken.
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
        write_grid(pictures, out / f"inversion-{name}.png", columns=len(figures.INVERSION_GROUNDS))
    return found


def table(found: list[Figure]) -> str:
    """The figures as a markdown table."""
    rows = ["| figure | measured | bar | met |", "|---|---|---|---|"]
    for one in found:
        number = f"{one.value:.1f} {one.unit}" if one.unit else f"{one.value:.3f}"
        bar = "–" if one.bar is None else f"{'≤' if one.at_most else '≥'} {one.bar:g} {one.unit}".strip()
        rows.append(f"| {one.name} | {number} | {bar} | {({True: 'yes', False: 'NO', None: ''})[one.met]} |")
    return "\n".join(rows)
