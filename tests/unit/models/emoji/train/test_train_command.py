"""The command line of the training on narrow networks: stopped, resumed, begun anew, and refused in one line."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from models.emoji.settings import read_settings
from models.emoji.train.__main__ import main
from models.emoji.train.checkpoint import read_checkpoint
from models.emoji.train.components import COMPONENTS_FILE, read_components
from models.emoji.train.networks import SHIPPED, load_trained_networks
from models.emoji.train.work_folder import mark_fresh_start
from models.emoji.world import shipped_world
from tests.unit.models.emoji.conftest import new_work

ROOT = Path(__file__).parents[5]


def the_checkpoint(work: Path, part: str = "diffusion") -> dict[str, object]:
    """A part's whole checkpoint, flat, by the names of what it holds."""
    state = read_checkpoint(work / f"{part}.pt", part)
    assert state is not None
    flat: dict[str, object] = {}

    def walk(prefix: str, value: object) -> None:
        pairs = (
            value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        )
        for key, inner in pairs:
            walk(f"{prefix}.{key}", inner)
        if not isinstance(value, dict | list):
            flat[prefix] = value

    walk("", state)
    return flat


def assert_same(first: dict[str, object], second: dict[str, object]) -> None:
    """Every tensor and number of two checkpoints is the same, bit for bit."""
    assert first.keys() == second.keys()
    for name, value in first.items():
        other = second[name]
        if isinstance(value, torch.Tensor):
            assert isinstance(other, torch.Tensor)
            assert torch.equal(value, other), name
        else:
            assert value == other, name


def refusal(*arguments: str | Path) -> str:
    """The one line that the command ends with."""
    with pytest.raises(SystemExit) as ended:
        main([str(one) for one in arguments])
    message = str(ended.value.code)
    assert message.startswith("error: ")
    assert "\n" not in message
    return message


def train(part: str, work: Path, settings: Path, *more: str) -> None:
    """Run the command in this process."""
    main([part, "--work", str(work), "--settings", str(settings), *more])


def longer(settings: Path, pictures: int, samples_every: int) -> Path:
    """The settings with another length of the diffusion training."""
    text = settings.read_text().replace("pictures = 40", f"pictures = {pictures}", 1)
    path = settings.with_name(f"{pictures}-{samples_every}.toml")
    path.write_text(text.replace("samples_every = 16", f"samples_every = {samples_every}", 1))
    return path


@pytest.mark.slow
def test_a_stopped_and_resumed_command_ends_on_the_bits_of_an_undisturbed_one(
    tmp_path: Path, training_set: Path, tiny_settings: Path
) -> None:
    """SIGTERM in the middle of a real training saves; resumed, it ends with the weights of one never stopped."""
    shown, unseen = longer(tiny_settings, 160, 40), longer(tiny_settings, 160, 10_000)
    parts, whole = (new_work(tmp_path / name, training_set) for name in ("parts", "whole"))
    command = [sys.executable, "-m", "models.emoji.train", "diffusion", "--settings", str(shown), "--work"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [*command, str(parts), "--anew"], stdout=subprocess.PIPE, text=True, env=environment, cwd=tmp_path
    ) as run:
        assert run.stdout is not None
        lines = []
        for line in run.stdout:
            lines.append(line)
            if "samples of step 10" in line:
                run.send_signal(signal.SIGTERM)
    assert run.returncode == 128 + signal.SIGTERM
    assert "stopped at step" in lines[-1]
    stopped = the_checkpoint(parts)[".step"]
    assert isinstance(stopped, int)
    assert 10 <= stopped < 40
    train("diffusion", parts, unseen)
    train("diffusion", whole, unseen, "--anew")
    assert_same(the_checkpoint(parts), the_checkpoint(whole))


def test_sample_grids_appear_during_the_training_and_change_nothing(
    tmp_path: Path, training_set: Path, tiny_settings: Path
) -> None:
    """A training that draws grids ends on the bits of one that draws none, and leaves the global generator alike."""
    with_grids, without = (new_work(tmp_path / name, training_set) for name in ("with", "without"))
    train("diffusion", with_grids, longer(tiny_settings, 40, 20), "--anew")
    state = torch.random.get_rng_state()
    train("diffusion", without, longer(tiny_settings, 40, 10_000), "--anew")
    assert torch.equal(state, torch.random.get_rng_state())
    assert_same(the_checkpoint(with_grids), the_checkpoint(without))
    assert sorted(path.name for path in with_grids.glob("*.png")) == [
        f"diffusion-{step:06d}.png" for step in (5, 10)
    ]
    assert [path.name for path in without.glob("*.png")] == ["diffusion-000010.png"]
    with Image.open(with_grids / "diffusion-000005.png") as grid:
        assert grid.size == (8 * 66 * 2, 8 * 66 * 2)


def test_a_step_takes_as_many_pictures_as_asked(work: Path, tiny_settings: Path) -> None:
    """--batch 8 sees sixteen pictures in two steps instead of four; a batch of none is refused by its name."""
    arguments = ("diffusion", "--work", work, "--settings", tiny_settings, "--anew", "--pictures", "16")
    assert "batch is 0; allowed: whole numbers from 1 on" in refusal(*arguments, "--batch", "0")
    train("diffusion", work, tiny_settings, "--anew", "--pictures", "16", "--batch", "8")
    assert the_checkpoint(work)[".step"] == 2
    message = refusal("diffusion", "--work", work, "--settings", tiny_settings, "--pictures", "32")
    assert f"diffusion.batch is 4 in the settings, but {work / 'diffusion.pt'} has 8" in message
    assert the_checkpoint(work)[".step"] == 2


def test_anew_refuses_a_folder_that_was_trained_in(work: Path, tiny_settings: Path) -> None:
    """--anew never goes on from a checkpoint: it says which one is there, and leaves it as it is."""
    train("diffusion", work, tiny_settings, "--anew", "--pictures", "8")
    before = (work / "diffusion.pt").read_bytes()
    message = refusal("diffusion", "--work", work, "--settings", tiny_settings, "--anew")
    assert "diffusion.pt is there: leave --anew out to go on from it" in message
    assert (work / "diffusion.pt").read_bytes() == before
    train("diffusion", work, tiny_settings, "--pictures", "16")
    assert the_checkpoint(work)[".step"] == 4


def test_anew_refuses_components_that_were_fitted(work: Path, tiny_settings: Path) -> None:
    """What was fitted in a folder is no fresh beginning, either; it stays as it is."""
    train("components", work, tiny_settings)
    before = (work / COMPONENTS_FILE.name).read_bytes()
    for part in ("components", "all"):
        message = refusal(part, "--work", work, "--settings", tiny_settings, "--anew")
        assert f"{COMPONENTS_FILE.name} is there: remove it, or name another --work" in message
    assert (work / COMPONENTS_FILE.name).read_bytes() == before


def test_a_checkpoint_that_does_not_fit_is_told_before_anything_is_composed(
    work: Path, tiny_settings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The judge composes its own pictures for minutes: not before its checkpoint is read."""
    many = tiny_settings.with_name("many.toml")
    many.write_text(tiny_settings.read_text().replace("composed = 40", "composed = 10_000"))
    mark_fresh_start(work, ["judge"])
    (work / "judge.pt").write_bytes(b"cut")
    assert "cannot be read (truncated?)" in refusal("judge", "--work", work, "--settings", many)
    assert "composed" not in capsys.readouterr().out


@pytest.mark.slow
def test_all_parts_anew_build_on_each_other(
    work: Path, tiny_settings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`all --anew` trains every part from fresh weights in its order: the decoder hears the U-Net just trained."""
    train("all", work, tiny_settings, "--anew")
    said = capsys.readouterr().out
    starts = [line.split()[1] for line in said.splitlines() if line.endswith("starts from fresh weights")]
    assert starts == ["diffusion", "autoencoder", "clip", "judge"]
    assert "autoencoder latents: encoded and predicted by the U-Net\n" in said
    digest = read_components(work / COMPONENTS_FILE.name).digest
    assert digest != read_components().digest
    for part in ("diffusion", "autoencoder"):
        assert the_checkpoint(work, part)[".made_for.components"] == digest


def test_a_training_begun_anew_stays_anew_when_it_is_cut(
    work: Path, tiny_settings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Cut before its first checkpoint, or between two parts, it never goes on from the shipped weights instead."""
    mark_fresh_start(work, ["diffusion", "clip"])
    train("clip", work, tiny_settings, "--pictures", "8")
    assert "clip starts from fresh weights" in capsys.readouterr().out


def test_the_decoder_hears_the_unet_of_the_work_folder(work: Path, tiny_settings: Path) -> None:
    """The U-Net whose word the decoder hears has the work folder's averaged weights, not the model folder's."""
    train("diffusion", work, tiny_settings, "--anew", "--pictures", "8")
    settings, world = read_settings(tiny_settings).diffusion, shipped_world()
    nets = load_trained_networks(settings, world, read_components(), work, SHIPPED)
    assert nets is not None
    saved = the_checkpoint(work)
    for name, param in nets.named_parameters().items():
        assert torch.equal(param, saved[f".optimiser.average.{name}"]), name  # type: ignore[arg-type]
    assert load_trained_networks(settings, world, read_components(), work / "none", None) is None


def test_a_decoder_alone_and_anew_says_that_no_unet_helps(
    work: Path, tiny_settings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without any trained U-Net the decoder learns from the pictures' own latents, and the log says so."""
    train("autoencoder", work, tiny_settings, "--anew")
    assert "autoencoder latents: encoded\n" in capsys.readouterr().out


def test_other_sizes_than_those_of_the_shipped_weights_are_refused(work: Path, tiny_settings: Path) -> None:
    """Settings of other sizes never train the shipped sizes: each part says which setting differs and how."""
    for part, name in (
        ("diffusion", "diffusion.channels is [32, 32]"),
        ("autoencoder", "diffusion.channels is [32, 32]"),
        ("clip", "clip.width is 48"),
        ("judge", "judge.channels is [8, 8, 8, 8]"),
    ):
        assert f"{name} in the settings, but" in refusal(part, "--work", work, "--settings", tiny_settings)
    assert not list(work.glob("*.pt"))


def test_a_checkpoint_of_other_sizes_is_refused(work: Path, tiny_settings: Path) -> None:
    """A checkpoint that was trained with other sizes gives one line with both."""
    train("diffusion", work, tiny_settings, "--anew", "--pictures", "8")
    wider = tiny_settings.with_name("wider.toml")
    wider.write_text(tiny_settings.read_text().replace("text_width = 48", "text_width = 96"))
    message = refusal("diffusion", "--work", work, "--settings", wider)
    assert "diffusion.text_width is 96 in the settings, but" in message
    assert "diffusion.pt has 48" in message


def test_shipped_weights_are_not_trained_on_other_components(work: Path, tiny_settings: Path) -> None:
    """Components fitted in the work folder are another latent space than the shipped weights': refused."""
    train("components", work, tiny_settings)
    message = refusal("diffusion", "--work", work)
    assert "was trained on other principal components" in message


def test_a_missing_folder_to_start_from_is_named(work: Path) -> None:
    """--start with a folder that is not there never means fresh weights."""
    message = refusal("diffusion", "--work", work, "--start", work / "none")
    assert str(work / "none") in message


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("batch = 4", "batch = 0", "diffusion.batch is 0; allowed: whole numbers from 1 on"),
        ("rate = 2.0e-3", "rate = -1.0", "diffusion.rate is -1.0; allowed: numbers above 0"),
        ("average = 0.9", "average = 2", "diffusion.average is 2; allowed: numbers from 0 to 1"),
        ("channels = [32, 32]", 'channels = "32"', "diffusion.channels is '32'; allowed: a list"),
        ("channels = [32, 32]", "channels = [32, 33]", "channels is [32, 33]; allowed: multiples of 16"),
        ("[12, 16, 32, 64]", "[8, 16, 32, 64]", "autoencoder.channels is [8, 16, 32, 64]; allowed: four"),
        ("patch_px = 16", "patch_px = 15", "clip.patch_px is 15; allowed: 4, 8, 16 or 32"),
    ],
)
def test_a_setting_out_of_range_is_named(
    work: Path, tiny_settings: Path, old: str, new: str, message: str
) -> None:
    """A setting that no training can have is refused with its name, its value and what is allowed."""
    tiny_settings.write_text(tiny_settings.read_text().replace(old, new, 1))
    assert message in refusal("diffusion", "--work", work, "--settings", tiny_settings)
