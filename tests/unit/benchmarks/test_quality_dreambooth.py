"""The paper's protocol on photos: stand-ins of the real kinds, resumed rows, and mistakes told before any work."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from benchmarks.quality import dreambooth, sources, words
from benchmarks.quality.photos import PROMPTS, known_subjects, phrases, read_subjects
from tests.tooling.encoders import build_clip, build_dino
from tests.tooling.models import WORDS
from tests.tooling.tokenizers import write_real_tokenizer
from tests.unit.benchmarks.conftest import LosePictures
from zoodip_core.base_models.vocabulary import check_initializer, vocabulary

SUBJECTS = ("dog6", "rc_car")
PHOTOS = 3

Run = Callable[[dict[str, str]], None]


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory, family_folder: dict[str, Path]) -> Path:
    """A folder with all that a run is given: photos of two subjects, a CLIP pair, DINOv2 and a catalogue."""
    place = tmp_path_factory.mktemp("given")
    random = np.random.default_rng(0)
    for name in SUBJECTS:
        (place / "dataset" / name).mkdir(parents=True)
        for number in range(PHOTOS):
            pixels = random.integers(0, 256, (70, 90, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(place / "dataset" / name / f"{number:02}.jpg")
    build_clip(place / "clip", WORDS)
    build_dino(place / "dino")
    model = f'name = "narrow"\npath = "{family_folder["sd1"]}"\nprecision = "int8"\nsteps = 2\n'
    (place / "models.toml").write_text(f"[[base_models]]\n{model}")
    return place


@pytest.fixture
def arguments(given: Path, tmp_path: Path) -> dict[str, str]:
    """The options of a small run."""
    return {
        "--catalog": str(given / "models.toml"),
        "--base-model": "narrow",
        "--dataset": str(given / "dataset"),
        "--clip": str(given / "clip"),
        "--dino": str(given / "dino"),
        "--subjects": ",".join(SUBJECTS),
        "--methods": "initializer,paper",
        "--forwards": "3,6",
        "--prompts": "2",
        "--pictures": "2",
        "--set": "fixed_rows=2",
        "--device": "cpu",
        "--out": str(tmp_path / "out"),
    }


@pytest.fixture
def run() -> Run:
    """Runs the command with options."""
    return lambda options: dreambooth.main([part for option in options.items() for part in option])


def test_a_finished_run_is_not_measured_again(
    run: Run,
    arguments: dict[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two methods give their rows, a grid each and the table; the same command draws and searches nothing again."""
    run(arguments)
    text = capsys.readouterr().out
    assert text.startswith("2 subjects of DreamBooth on narrow (int8), 2 prompts × 2 pictures, fixed_rows=2;")
    starts = [line.split(" | ")[:2] for line in text.splitlines()[4:]]
    assert starts == [["| initializer", "0"], ["| paper", "3"], ["| paper", "6"]]
    out = tmp_path / "out"
    rows = [json.loads(line) for line in (out / "dreambooth.jsonl").read_text().splitlines()]
    assert [(row["method"], row["forwards"], row["subject"]) for row in rows] == [
        *(("initializer", 0, name) for name in SUBJECTS),
        *(("paper", count, name) for name in SUBJECTS for count in (3, 6)),
    ]
    assert all(
        -1 <= row["figures"][name] <= 1 for row in rows for name in ("clip_t", "clip_i", "dino", "alike")
    )
    assert (out / "dreambooth-narrow.md").read_text() == text
    assert {path.name for path in out.glob("*.png")} == {
        f"dreambooth-narrow-{method}.png" for method in ("initializer", "paper")
    }

    def forbidden(*_: object) -> None:
        raise AssertionError

    for module, name in ((words, "draw"), (sources, "draw"), (sources, "search")):
        monkeypatch.setattr(module, name, forbidden)
    run(arguments)
    assert capsys.readouterr().out == text


def test_lost_pictures_leave_the_grid_as_it_was(
    run: Run,
    arguments: dict[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    lose_pictures: LosePictures,
) -> None:
    """Lines without all their pictures give their table, and write no grid over a whole one."""
    one = arguments | {"--methods": "initializer"}
    run(one)
    text, grid = capsys.readouterr().out, tmp_path / "out" / "dreambooth-narrow-initializer.png"
    whole = grid.read_bytes()
    for _ in lose_pictures(tmp_path / "out"):
        run(one)
        assert capsys.readouterr().out == text
        assert grid.read_bytes() == whole
    grid.unlink()
    run(one)
    assert not grid.exists()


def test_another_subject_repeats_no_search(run: Run, arguments: dict[str, str], tmp_path: Path) -> None:
    """Subjects are searched one by one: a longer list keeps the rows of the shorter one."""
    run(arguments | {"--subjects": "dog6", "--methods": "paper"})
    lines = (tmp_path / "out" / "dreambooth.jsonl").read_text().splitlines()
    run(arguments | {"--methods": "paper"})
    assert (tmp_path / "out" / "dreambooth.jsonl").read_text().splitlines()[: len(lines)] == lines
    assert len(list((tmp_path / "out" / "searches").iterdir())) == len(SUBJECTS)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--dataset", "nowhere", r"--dataset nowhere: there is no such folder"),
        ("--subjects", "dog6,dog66", r"--subjects dog66: allowed: backpack, .*wolf_plushie"),
        ("--subjects", "vase", r"--dataset .*: vase has no folder there"),
        ("--clip", "nowhere", r"--clip nowhere: there is no such folder"),
        ("--base-model", "sd9", r"base_model: 'sd9' came; allowed: emoji, narrow"),
        ("--base-model", "emoji", r"initializer: 'toy' splits into 'to' \+ 'y'"),
        ("--methods", "caption", r"--methods caption: allowed: initializer, default, paper"),
        ("--forwards", "2", r"--forwards 2: one step of paper takes 3"),
        ("--set", "steps=50", r"settings\.steps = 50: the run's own options say it"),
        ("--prompts", "26", r"--prompts 26: allowed: 1 to 25"),
        ("--max-rows", "0", r"--max-rows 0: allowed: 1 or more"),
    ],
)
def test_mistakes_are_one_message(
    option: str, value: str, message: str, run: Run, arguments: dict[str, str], tmp_path: Path
) -> None:
    """What came and what is allowed; nothing is measured, and nothing half-written is left."""
    _refused(run, arguments | {"--methods": "paper", option: value}, message)
    assert not (tmp_path / "out").exists()


def _without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def _torn(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def _lacking(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["layernorm.weight"]
    save_file(tensors, folder / "model.safetensors")


def _of_other_shape(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"image_size": 49}))


def _without_photos(folder: Path) -> None:
    for photo in (folder / "dog6").iterdir():
        photo.unlink()


def _with_a_broken_photo(folder: Path) -> None:
    (folder / "dog6" / "00.jpg").write_bytes(b"\xff\xd8\xff")


@pytest.mark.parametrize(
    ("option", "folder", "spoil", "message"),
    [
        ("--clip", "dino", None, r"--clip .*: it holds a model of type 'dinov2'; allowed: 'clip'"),
        ("--dino", "clip", None, r"--dino .*: it holds a model of type 'clip'; allowed: 'dinov2'"),
        ("--clip", "clip", _without("vocab.json"), r"--clip .*: vocab\.json missing"),
        ("--clip", "clip", _torn, r"cannot be read as safetensors"),
        ("--dino", "dino", _without("config.json"), r"--dino: .*config\.json cannot be read"),
        (
            "--dino",
            "dino",
            _without("preprocessor_config.json"),
            r"--dino .*preprocessor_config\.json missing",
        ),
        ("--dino", "dino", _without("model.safetensors"), r"--dino: .*no weights"),
        ("--dino", "dino", _torn, r"dino cannot be loaded: .*"),
        ("--dino", "dino", _lacking, r"dino: layernorm\.weight is missing \(1 tensors in all\)"),
        ("--dino", "dino", _of_other_shape, r"dino cannot be loaded: .*"),
        ("--dataset", "dataset", _without_photos, r"images: 0 came from .*dog6; allowed: 1 to 16"),
        ("--dataset", "dataset", _with_a_broken_photo, r"'00\.jpg' is a truncated or damaged JPEG"),
    ],
)
def test_spoiled_folders_are_one_message(
    option: str,
    folder: str,
    spoil: Callable[[Path], None] | None,
    message: str,
    run: Run,
    arguments: dict[str, str],
    given: Path,
    tmp_path: Path,
) -> None:
    """A folder of another kind, incomplete or damaged is told before anything is measured."""
    place = shutil.copytree(given / folder, tmp_path / folder)
    if spoil is not None:
        spoil(place)
    _refused(run, arguments | {option: str(place)}, message)
    assert not (tmp_path / "out").exists()


def _refused(run: Run, options: dict[str, str], message: str) -> None:
    with pytest.raises(SystemExit, match=message) as told:
        run(options)
    assert str(told.value).startswith("error: ")
    assert "\n" not in str(told.value)


def test_photos_are_kept_as_squares(given: Path) -> None:
    """The centre square of every photo, in the order of the names; a name given twice is one subject."""
    found = read_subjects(given / "dataset", ["rc_car", "rc_car"])
    assert [subject.name for subject in found] == ["rc_car"]
    assert [photo.size for photo in found[0].references] == [(70, 70)] * PHOTOS


def test_the_protocol_is_whole(tmp_path: Path) -> None:
    """30 subjects, nine of them animals; 25 prompts of each sort; every start is one token of the real CLIP."""
    known = known_subjects()
    assert len(known) == 30
    assert sum(one.sort == "live" for one in known.values()) == 9
    for sort in ("object", "live"):
        asked = phrases(sort)
        assert len({phrase.template for phrase in asked}) == PROMPTS
        assert all(phrase.template.count("{}") == 1 for phrase in asked)
    assert len({phrase.template for phrase in (*phrases("object"), *phrases("live"))}) == 35
    write_real_tokenizer(tmp_path / "tokenizer")
    vocabulary_of_clip = vocabulary(tmp_path)
    for one in known.values():
        check_initializer(one.initializer, vocabulary_of_clip)
