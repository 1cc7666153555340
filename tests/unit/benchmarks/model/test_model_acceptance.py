"""Acceptance of the embedded model: thresholds, table, grid, and error messages of one line."""

import dataclasses
import json
import random
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from benchmarks.model import __main__ as command
from benchmarks.model import figures
from benchmarks.model.drawing import read_pipeline
from benchmarks.model.figures import Figure, seams, with_other_objects, with_other_styles
from benchmarks.model.measuring import Scale, drawn_lists, grid_prompts, measure, table
from benchmarks.model.prompts import PromptLists
from models.emoji.judge import read_judge
from models.emoji.train.networks import SHIPPED
from models.emoji.world import Scene, shipped_world

pytestmark = pytest.mark.slow

AT_LEAST = {
    "seen objects: object, color and pattern": 0.97,
    "seen objects: background": 0.99,
    "held-out pairs in words: object, color and pattern": 0.97,
    "named instances: object, color and pattern": 0.97,
    "style words: style": 0.95,
    "reconstruction": 28,
    **{
        f"judge on real images: {name}": 0.95
        for name in ("object", "color", "pattern", "background", "color filter", "form filter")
    },
}
AT_MOST = {"folder": 40, "largest file": 16, "20 steps for 4 images": 6}
SMALL = Scale(seeds=1, prompts=2, reconstructed=4, judged=20, inverted=0)


@pytest.fixture(autouse=True)
def _quiet_libraries() -> Iterator[None]:
    """Ignore warnings of diffusers and transformers about packages that are not needed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Figure], Path]:
    """Return the figures of the shipped folder for two prompts of each list, and the folder of the grids."""
    out = tmp_path_factory.mktemp("out")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return measure(SHIPPED, out, SMALL), out


def test_the_thresholds_are_the_published_ones(measured: tuple[list[Figure], Path]) -> None:
    """Each figure with a threshold is measured, and no other figure has one."""
    found, _ = measured
    assert {
        one.name: one.threshold for one in found if one.threshold is not None and not one.at_most
    } == AT_LEAST
    assert {one.name: one.threshold for one in found if one.at_most} == AT_MOST


def test_the_lists_have_their_full_size() -> None:
    """200 prompts of seen objects with 4 seeds, all held-out pairs, 96 named instances, every filter."""
    world = shipped_world()
    seen, held, named, styles, pairs = drawn_lists(PromptLists.of(world, None), Scale().seeds)
    assert (len(seen.prompts), seen.seeds) == (200, 4)
    assert {(one.scene.object, one.scene.color) for one in held.prompts} == world.held_out.colored_objects
    assert len({one.text.split()[4] for one in named.prompts}) == 96
    assert {one.scene.style for one in styles.prompts} >= set(world.named_styles.values())
    assert {one.scene.style for one in pairs.prompts} == set(world.held_out.styles)


def test_the_recognition_grid_is_drawn(measured: tuple[list[Figure], Path]) -> None:
    """The grid shows every listed prompt; grid.txt has the prompts."""
    _, out = measured
    count = len((out / "grid.txt").read_text().splitlines())
    assert count == 2 + 1 + 2 + 1
    with Image.open(out / "grid.png") as grid:
        assert grid.size == (8 * 66 * 2, 66 * 2)
        assert len(set(grid.convert("L").getdata())) > 50


def test_full_lists_give_a_grid_of_64() -> None:
    """The grid repeats no prompt."""
    grid = grid_prompts(PromptLists.of(shipped_world(), None))
    assert len({prompt.text for prompt in grid}) == len(grid) == 64


def test_seams_are_steps_at_the_borders_of_patches() -> None:
    """Even steps give 1; border steps twice as large as inner steps give 2, at any contrast."""
    ramp = torch.arange(64.0).expand(1, 3, 64, 64)
    even = ramp + ramp.mT
    assert seams(even) == pytest.approx(1)
    patches = even + (ramp // 8) + (ramp // 8).mT
    assert seams(patches) == pytest.approx(2)
    assert seams(patches.flip(1) * 3) == pytest.approx(2)


def test_the_clip_pair_chooses_among_ten(measured: tuple[list[Figure], Path]) -> None:
    """The nine alternatives differ from the scene; each list has two verdicts."""
    world, rng = shipped_world(), random.Random(0)
    scene = Scene("crab", "teal", "", "in the snow", ("sepia", ""))
    objects = with_other_objects(scene, world, rng)
    assert len({one.object for one in objects} - {"crab"}) == 9
    assert {replace(one, object="crab") for one in objects} == {scene}
    styles = with_other_styles(scene, world, rng)
    assert len({one.style for one in styles} - {("sepia", "")}) == 9
    assert {replace(one, style=("sepia", "")) for one in styles} == {scene}
    found, _ = measured
    verdicts = [one.name.split(": CLIP pair prefers the ") for one in found if "CLIP pair" in one.name]
    drawn = ["object", "object", "object", "style", "style"]
    assert [text for _, text in verdicts[::2]] == [f"{one} to 9 others" for one in drawn]
    assert [text for _, text in verdicts[1::2]] == [f"{one} to 9 others (composed images)" for one in drawn]


def test_the_table_has_every_figure_and_whether_it_is_met(
    measured: tuple[list[Figure], Path],
) -> None:
    """One row for each figure; yes and NO follow the direction of the threshold."""
    found, _ = measured
    rows = table(found).splitlines()[2:]
    assert [row.split(" | ")[0].removeprefix("| ") for row in rows] == [one.name for one in found]
    made = [
        Figure("a", 0.97, 0.97),
        Figure("b", 0.9699, 0.97),
        Figure("c", 16.1, 16.0, at_most=True, unit="MB"),
        Figure("d", 16.0, 16.0, at_most=True, unit="MB"),
        Figure("e", 0.5),
    ]
    assert table(made).splitlines()[2:] == [
        "| a | 0.970 | ≥ 0.97 | yes |",
        "| b | 0.970 | ≥ 0.97 | NO |",
        "| c | 16.1 MB | ≤ 16 MB | NO |",
        "| d | 16.0 MB | ≤ 16 MB | yes |",
        "| e | 0.500 | – |  |",
    ]


def test_textual_inversion_has_a_threshold_on_subjects_only() -> None:
    """Held-out subjects have a threshold of 0.85; held-out shapes have none. Both are drawn on each background."""
    world, pipeline, judge = shipped_world(), read_pipeline(SHIPPED), read_judge()
    held = dataclasses.replace(
        world.held_out, subjects=world.held_out.subjects[:1], shapes=world.held_out.shapes[:1]
    )
    small = dataclasses.replace(world, held_out=held)
    for shapes, threshold in ((False, 0.85), (True, None)):
        figure, pictures = figures.inversion(pipeline, judge, small, shapes, steps=1)
        assert figure.threshold == threshold
        assert 0 <= figure.value <= 1
        assert pictures.shape == (len(figures.INVERSION_BACKGROUNDS), 3, 64, 64)


def test_the_command_prints_the_table_and_keeps_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The printed table is stored in `table.md`; `figures.json` has the numbers."""
    monkeypatch.setattr(command, "Scale", lambda *_, **__: SMALL)
    command.main(["--out", str(tmp_path / "out"), "--no-inversion"])
    printed = capsys.readouterr().out
    assert (tmp_path / "out" / "table.md").read_text() == printed
    values = json.loads((tmp_path / "out" / "figures.json").read_text())
    assert values.keys() >= AT_LEAST.keys() | AT_MOST.keys()


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return the one-line error of the command, which exits with 1."""
    with pytest.raises(SystemExit) as ended:
        command.main(list(arguments))
    message = ended.value.code
    assert isinstance(message, str)  # which Python prints, and exits with 1
    assert message.startswith("error: ")
    assert "\n" not in message
    assert not capsys.readouterr().out
    return message


def test_a_missing_model_folder_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing --model folder is reported, and no table is written."""
    out = tmp_path / "out"
    message = refusal(capsys, "--model", str(tmp_path / "missing"), "--out", str(out))
    assert (
        message
        == f"error: --model: got {tmp_path / 'missing'}; expected a model folder with model_index.json"
    )
    assert not list(out.glob("*"))


@pytest.mark.parametrize("part", ["unet/diffusion_pytorch_model", "scorer/model"])
def test_a_truncated_model_folder_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], part: str
) -> None:
    """A part with truncated weights is reported before anything is measured."""
    folder = tmp_path / "model"
    shutil.copytree(SHIPPED, folder)
    path = folder / f"{part}.safetensors"
    path.write_bytes(path.read_bytes()[:10_000])
    message = refusal(capsys, "--model", str(folder), "--out", str(tmp_path / "out"))
    assert str(folder) in message


@pytest.mark.parametrize("seeds", ["0", "-3"])
def test_no_seeds_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], seeds: str) -> None:
    """--seeds below one is refused, and no folder is created."""
    message = refusal(capsys, "--seeds", seeds, "--out", str(tmp_path / "out"))
    assert message == f"error: --seeds: got {seeds}; expected 1 or more"
    assert not (tmp_path / "out").exists()


def test_an_output_that_is_a_file_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--out that names a file is refused with its path."""
    (tmp_path / "file").write_text("")
    assert str(tmp_path / "file") in refusal(capsys, "--out", str(tmp_path / "file"))
