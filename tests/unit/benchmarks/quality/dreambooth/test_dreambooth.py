"""The paper's protocol on photos: small stand-ins for the real models, resumed rows, early error messages."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from benchmarks.quality import anchors, sources
from benchmarks.quality.dreambooth import __main__ as dreambooth
from benchmarks.quality.dreambooth.subjects import PROMPTS, known_subjects, read_prompts, read_subjects
from tests.tooling.encoders import build_clip, build_dino
from tests.tooling.models import WORDS
from tests.tooling.tokenizers import write_real_tokenizer
from tests.unit.benchmarks.quality.conftest import LosePictures
from zoodip_core.base_models.vocabulary import check_initializer, vocabulary

SUBJECTS = ("dog6", "rc_car")
PHOTOS = 3
NAMES = ("clip_t", "clip_i", "dino", "intra_prompt_similarity")

Run = Callable[[dict[str, str]], None]


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory, family_folder: dict[str, Path]) -> Path:
    """Return a folder with the inputs of a run: photos of two subjects, a CLIP pair, DINOv2 and a catalog."""
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
    """Return the options of a small run."""
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
    """Return a function that runs the command with options."""
    return lambda options: dreambooth.main([part for option in options.items() for part in option])


@pytest.mark.slow
def test_a_finished_run_is_not_measured_again(
    run: Run,
    arguments: dict[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two methods give rows, grids and the table; the same command then draws and searches nothing."""
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
        -1 <= row["figures"][name] <= 1
        for row in rows
        for name in ("clip_t", "clip_i", "dino", "intra_prompt_similarity")
    )
    assert (out / "dreambooth-narrow.md").read_text() == text
    assert {path.name for path in out.glob("*.png")} == {
        f"dreambooth-narrow-{method}.png" for method in ("initializer", "paper")
    }

    def forbidden(*_: object) -> None:
        raise AssertionError

    for module, name in ((anchors, "draw"), (sources, "draw"), (sources, "search")):
        monkeypatch.setattr(module, name, forbidden)
    run(arguments)
    assert capsys.readouterr().out == text


@pytest.mark.slow
def test_missing_pictures_leave_the_grid_unchanged(
    run: Run,
    arguments: dict[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    lose_pictures: LosePictures,
) -> None:
    """Rows whose pictures are missing give the table and leave an existing grid unchanged."""
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


@pytest.mark.slow
def test_another_subject_repeats_no_search(run: Run, arguments: dict[str, str], tmp_path: Path) -> None:
    """Each subject has its own search: a longer list keeps the rows of the shorter one."""
    run(arguments | {"--subjects": "dog6", "--methods": "paper"})
    lines = (tmp_path / "out" / "dreambooth.jsonl").read_text().splitlines()
    run(arguments | {"--methods": "paper"})
    assert (tmp_path / "out" / "dreambooth.jsonl").read_text().splitlines()[: len(lines)] == lines
    assert len(list((tmp_path / "out" / "searches").iterdir())) == len(SUBJECTS)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--dataset", "nowhere", r"--dataset: got nowhere; expected an existing folder"),
        ("--subjects", "dog6,dog66", r"--subjects: got dog66; expected backpack, .*wolf_plushie"),
        ("--subjects", "vase", r"--dataset: got .*; expected a folder that contains vase/"),
        ("--clip", "nowhere", r"--clip: got nowhere; expected an existing folder"),
        ("--base-model", "sd9", r"base_model: .*'sd9'.* emoji, narrow"),
        (
            "--methods",
            "caption",
            r"--methods: got caption; expected initializer, calibrated, full, gf-ti, paper",
        ),
        ("--forwards", "2", r"--forwards: got 2; expected 3 or more, one step of paper"),
        ("--set", "steps=50", r"settings\.steps: got 50; expected another setting"),
        ("--prompts", "26", r"--prompts: got 26; expected 1 to 25"),
        ("--max-rows", "0", r"--max-rows: got 0; expected 1 or more"),
    ],
)
def test_bad_options_give_one_message(
    option: str, value: str, message: str, run: Run, arguments: dict[str, str], tmp_path: Path
) -> None:
    """The message has the value and what is expected; nothing is measured or written."""
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
        ("--clip", "dino", None, r"--clip: got .* with a model of type 'dinov2'; expected 'clip'"),
        ("--dino", "clip", None, r"--dino: got .* with a model of type 'clip'; expected 'dinov2'"),
        ("--clip", "clip", _without("vocab.json"), r"--clip: got .*; expected a folder with vocab\.json"),
        ("--clip", "clip", _torn, r"model\.safetensors has [\d,]+ bytes, but its header describes"),
        ("--dino", "dino", _without("config.json"), r"--dino: got an unreadable .*config\.json"),
        (
            "--dino",
            "dino",
            _without("preprocessor_config.json"),
            r"--dino: got .*; expected a folder with preprocessor_config\.json",
        ),
        ("--dino", "dino", _without("model.safetensors"), r"--dino: .*no weights"),
        ("--dino", "dino", _torn, r"dino cannot be loaded: .*"),
        ("--dino", "dino", _lacking, r"dino: layernorm\.weight is missing \(1 tensors in all\)"),
        ("--dino", "dino", _of_other_shape, r"dino cannot be loaded: .*"),
        ("--dataset", "dataset", _without_photos, r"images: .*dog6.* 1 to 16"),
        ("--dataset", "dataset", _with_a_broken_photo, r"'00\.jpg' \(a truncated or damaged JPEG file\)"),
    ],
)
def test_bad_folders_give_one_message(
    option: str,
    folder: str,
    spoil: Callable[[Path], None] | None,
    message: str,
    run: Run,
    arguments: dict[str, str],
    given: Path,
    tmp_path: Path,
) -> None:
    """A folder that is incomplete, damaged or of another kind is refused before anything is measured."""
    place = shutil.copytree(given / folder, tmp_path / folder)
    if spoil is not None:
        spoil(place)
    _refused(run, arguments | {option: str(place)}, message)
    assert not (tmp_path / "out").exists()


def _refused(run: Run, options: dict[str, str], message: str) -> None:
    with pytest.raises(SystemExit, match=message) as refused:
        run(options)
    assert str(refused.value).startswith("error: ")
    assert "\n" not in str(refused.value)


def test_photos_become_squares(given: Path) -> None:
    """Each photo becomes its center square, in the order of the names; a repeated name is one subject."""
    found = read_subjects(given / "dataset", ["rc_car", "rc_car"])
    assert [subject.name for subject in found] == ["rc_car"]
    assert [photo.size for photo in found[0].references] == [(70, 70)] * PHOTOS


def test_the_protocol_is_complete(tmp_path: Path) -> None:
    """30 subjects, nine of them animals; 25 prompts of each category; initializers are one token of the real CLIP."""
    known = known_subjects()
    assert len(known) == 30
    assert sum(one.category == "live" for one in known.values()) == 9
    for category in ("object", "live"):
        asked = read_prompts(category)
        assert len({prompt.template for prompt in asked}) == PROMPTS
        assert all(prompt.template.count("{}") == 1 for prompt in asked)
    assert len({prompt.template for prompt in (*read_prompts("object"), *read_prompts("live"))}) == 35
    write_real_tokenizer(tmp_path / "tokenizer")
    vocabulary_of_clip = vocabulary(tmp_path)
    for one in known.values():
        check_initializer(one.initializer, vocabulary_of_clip, 1)
