"""`python -m benchmarks.model`: every figure of the embedded model's bar beside its threshold, and grids."""

import argparse
import json
import sys
from pathlib import Path

import torch

from benchmarks.model import figures
from benchmarks.model.drawing import draw, read_pipeline
from benchmarks.model.figures import Figure
from benchmarks.model.prompts import (
    Prompt,
    held_out_prompts,
    held_out_style_prompts,
    individual_prompts,
    seen_prompts,
    style_word_prompts,
)
from models.emoji.errors import EmojiModelError
from models.emoji.judge import Judge, read_judge
from models.emoji.train.folder import SHIPPED
from models.emoji.train.sampling import write_grid
from models.emoji.world import World, shipped_world

ALL_THREE, GROUND, STYLE = "thing, tint and pattern", "ground", "style"


def drawn_figures(folder: Path, judge: Judge, world: World, seeds: int, out: Path) -> list[Figure]:
    """The figures of what the model draws; the grid of 64 goes to `out`."""
    pipeline = read_pipeline(folder)
    seen, held, named = seen_prompts(world), held_out_prompts(world), individual_prompts(world)
    lists: list[tuple[str, list[Prompt], int, dict[str, float]]] = [
        ("seen things", seen, seeds, {ALL_THREE: 0.97, GROUND: 0.99}),
        ("held-out pairs in words", held, max(1, seeds // 2), {ALL_THREE: 0.97}),
        ("individuals by name", named, max(1, seeds // 2), {ALL_THREE: 0.97}),
        ("style words", style_word_prompts(world), 1, {STYLE: 0.95}),
        ("held-out styles in words", held_out_style_prompts(world), 1, {STYLE: 0.0}),
    ]
    found: list[Figure] = []
    for name, prompts, repeats, bars in lists:
        measured, pictures = figures.judged(name, pipeline, judge, prompts, repeats, bars)
        found += [Figure(one.name, one.value, one.bar or None) for one in measured]
        if name in ("seen things", "held-out pairs in words"):
            share = figures.chosen_by_clip(folder, pictures, prompts, world)
            found.append(Figure(f"{name}: CLIP pair prefers the thing to 9 others", share))
    styles = style_word_prompts(world)[::20]
    grid = [*seen[:28], *held[::6][:16], *named[:12], *styles[:8]]
    write_grid(draw(pipeline, [prompt.text for prompt in grid], seed=5), out / "grid.png", columns=8)
    (out / "grid.txt").write_text(
        "\n".join(f"{index}: {prompt.text}" for index, prompt in enumerate(grid)) + "\n"
    )
    return found


def measure(folder: Path, out: Path, seeds: int, with_inversion: bool) -> list[Figure]:
    """Every figure of the bar."""
    world, judge = shipped_world(), read_judge()
    pipeline = read_pipeline(folder)
    found = [figures.weight(folder), figures.largest_file(folder), figures.drawing_time(pipeline)]
    found += [figures.reconstruction(pipeline), *figures.judge_on_real(judge)]
    found += drawn_figures(folder, judge, world, seeds, out)
    if with_inversion:
        for name, shapes in (("subjects", False), ("shapes", True)):
            figure, pictures = figures.inversion(pipeline, judge, world, shapes)
            found.append(figure)
            columns = len(figures.INVERSION_GROUNDS)
            write_grid(pictures, out / f"inversion-{name}.png", columns=columns)
    return found


def table(found: list[Figure]) -> str:
    """The figures as a markdown table."""
    rows = ["| figure | measured | bar | met |", "|---|---|---|---|"]
    for one in found:
        number = f"{one.value:.1f} {one.unit}" if one.unit else f"{one.value:.3f}"
        bar = "–" if one.bar is None else f"{'≤' if one.at_most else '≥'} {one.bar:g} {one.unit}".strip()
        rows.append(f"| {one.name} | {number} | {bar} | {({True: 'yes', False: 'NO', None: ''})[one.met]} |")
    return "\n".join(rows)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.model", description=__doc__)
    parser.add_argument("--model", type=Path, default=SHIPPED, help="the model folder")
    parser.add_argument("--out", type=Path, default=Path("model-output"), help="folder of table and grids")
    parser.add_argument("--seeds", type=int, default=4, help="pictures a prompt of seen things")
    parser.add_argument("--no-inversion", action="store_true", help="leave Textual Inversion out")
    options = parser.parse_args()
    torch.manual_seed(0)
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        found = measure(options.model, options.out, options.seeds, not options.no_inversion)
    except EmojiModelError as error:
        sys.exit(f"error: {error}")
    text = table(found)
    (options.out / "table.md").write_text(text + "\n")
    (options.out / "figures.json").write_text(json.dumps({one.name: one.value for one in found}, indent=2))
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()
