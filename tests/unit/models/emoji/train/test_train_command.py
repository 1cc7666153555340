"""The training command on narrow networks: interruption, resume, training from scratch and error messages."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from models.emoji.settings import read_settings
from models.emoji.train.checkpoint import read_checkpoint
from models.emoji.train.components import COMPONENTS_FILE, read_components
from models.emoji.train.networks import SHIPPED, load_trained_networks
from models.emoji.train.work_folder import mark_fresh_start
from models.emoji.world import shipped_world
from tests.unit.models.emoji.conftest import new_work, run_training, training_error

ROOT = Path(__file__).parents[5]


def the_checkpoint(work: Path, part: str = "diffusion") -> dict[str, object]:
    """Return a part's checkpoint as a flat dictionary."""
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
    """Assert that two checkpoints are bit-identical."""
    assert first.keys() == second.keys()
    for name, value in first.items():
        other = second[name]
        if isinstance(value, torch.Tensor):
            assert isinstance(other, torch.Tensor)
            assert torch.equal(value, other), name
        else:
            assert value == other, name


def longer(settings: Path, pictures: int, samples_every: int) -> Path:
    """Return settings with another length of the diffusion training."""
    text = settings.read_text().replace("pictures = 40", f"pictures = {pictures}", 1)
    path = settings.with_name(f"{pictures}-{samples_every}.toml")
    path.write_text(text.replace("samples_every = 16", f"samples_every = {samples_every}", 1))
    return path


@pytest.mark.slow
def test_a_resumed_command_equals_an_uninterrupted_one(
    tmp_path: Path, training_set: Path, tiny_settings: Path
) -> None:
    """A command that is stopped by SIGTERM and resumed ends with the same bits as an uninterrupted one."""
    shown, unseen = longer(tiny_settings, 160, 40), longer(tiny_settings, 160, 10_000)
    parts, whole = (new_work(tmp_path / name, training_set) for name in ("parts", "whole"))
    command = [sys.executable, "-m", "models.emoji.train", "diffusion", "--settings", str(shown), "--work"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [*command, str(parts), "--from-scratch"],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=tmp_path,
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
    run_training("diffusion", parts, unseen)
    run_training("diffusion", whole, unseen, "--from-scratch")
    assert_same(the_checkpoint(parts), the_checkpoint(whole))


@pytest.mark.slow
def test_sample_grids_do_not_change_the_training(
    tmp_path: Path, training_set: Path, tiny_settings: Path
) -> None:
    """Trainings with and without sample grids end with the same bits and global random state."""
    with_grids, without = (new_work(tmp_path / name, training_set) for name in ("with", "without"))
    run_training("diffusion", with_grids, longer(tiny_settings, 40, 20), "--from-scratch")
    state = torch.random.get_rng_state()
    run_training("diffusion", without, longer(tiny_settings, 40, 10_000), "--from-scratch")
    assert torch.equal(state, torch.random.get_rng_state())
    assert_same(the_checkpoint(with_grids), the_checkpoint(without))
    assert sorted(path.name for path in with_grids.glob("*.png")) == [
        f"diffusion-{step:06d}.png" for step in (5, 10)
    ]
    assert [path.name for path in without.glob("*.png")] == ["diffusion-000010.png"]
    with Image.open(with_grids / "diffusion-000005.png") as grid:
        assert grid.size == (8 * 66 * 2, 8 * 66 * 2)


@pytest.mark.slow
def test_the_batch_option_sets_the_pictures_per_step(work: Path, tiny_settings: Path) -> None:
    """`--batch 8` sees 16 pictures in 2 steps; a batch of 0 and another batch on resume are refused."""
    arguments = (
        "diffusion",
        "--work",
        work,
        "--settings",
        tiny_settings,
        "--from-scratch",
        "--pictures",
        "16",
    )
    assert "batch: got 0; expected a whole number of at least 1" in training_error(*arguments, "--batch", "0")
    run_training("diffusion", work, tiny_settings, "--from-scratch", "--pictures", "16", "--batch", "8")
    assert the_checkpoint(work)[".step"] == 2
    message = training_error("diffusion", "--work", work, "--settings", tiny_settings, "--pictures", "32")
    assert f"diffusion.batch: got 4; expected 8 as in {work / 'diffusion.pt'}" in message
    assert the_checkpoint(work)[".step"] == 2


@pytest.mark.slow
def test_from_scratch_refuses_an_existing_checkpoint(work: Path, tiny_settings: Path) -> None:
    """`--from-scratch` names the existing checkpoint and leaves it unchanged."""
    run_training("diffusion", work, tiny_settings, "--from-scratch", "--pictures", "8")
    before = (work / "diffusion.pt").read_bytes()
    message = training_error("diffusion", "--work", work, "--settings", tiny_settings, "--from-scratch")
    assert "diffusion.pt exists; omit --from-scratch to resume from it" in message
    assert (work / "diffusion.pt").read_bytes() == before
    run_training("diffusion", work, tiny_settings, "--pictures", "16")
    assert the_checkpoint(work)[".step"] == 4


def test_from_scratch_refuses_fitted_components(work: Path, tiny_settings: Path) -> None:
    """`--from-scratch` names the existing components and leaves them unchanged."""
    run_training("components", work, tiny_settings)
    before = (work / COMPONENTS_FILE.name).read_bytes()
    for part in ("components", "all"):
        message = training_error(part, "--work", work, "--settings", tiny_settings, "--from-scratch")
        assert f"{COMPONENTS_FILE.name} exists; remove it, or choose another --work" in message
    assert (work / COMPONENTS_FILE.name).read_bytes() == before


def test_the_judge_reads_its_checkpoint_before_composing(
    work: Path, tiny_settings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A truncated checkpoint is refused before the pictures are composed, which takes minutes."""
    many = tiny_settings.with_name("many.toml")
    many.write_text(tiny_settings.read_text().replace("composed = 40", "composed = 10_000"))
    mark_fresh_start(work, ["judge"])
    (work / "judge.pt").write_bytes(b"cut")
    assert "cannot read the checkpoint" in training_error("judge", "--work", work, "--settings", many)
    assert "composed" not in capsys.readouterr().out


@pytest.mark.slow
def test_all_parts_train_from_scratch_in_order(
    work: Path, tiny_settings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`all --from-scratch` trains every part from new weights, and the decoder uses the new U-Net."""
    run_training("all", work, tiny_settings, "--from-scratch")
    output = capsys.readouterr().out
    starts = [line.split()[1] for line in output.splitlines() if line.endswith("starts from new weights")]
    assert starts == ["diffusion", "autoencoder", "clip", "judge"]
    assert "autoencoder latents: encoded and predicted by the U-Net\n" in output
    digest = read_components(work / COMPONENTS_FILE.name).digest
    assert digest != read_components().digest
    for part in ("diffusion", "autoencoder"):
        assert the_checkpoint(work, part)[".made_for.components"] == digest


@pytest.mark.slow
def test_an_interrupted_training_from_scratch_restarts_from_new_weights(
    work: Path, tiny_settings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A training from scratch that ends before its first checkpoint does not restart from the shipped weights."""
    mark_fresh_start(work, ["diffusion", "clip"])
    run_training("clip", work, tiny_settings, "--pictures", "8")
    assert "clip starts from new weights" in capsys.readouterr().out


@pytest.mark.slow
def test_the_decoder_uses_the_unet_of_the_work_folder(work: Path, tiny_settings: Path) -> None:
    """The U-Net that predicts latents has the averaged weights of the work folder, not the shipped weights."""
    run_training("diffusion", work, tiny_settings, "--from-scratch", "--pictures", "8")
    settings, world = read_settings(tiny_settings).diffusion, shipped_world()
    nets = load_trained_networks(settings, world, read_components(), work, SHIPPED)
    assert nets is not None
    saved = the_checkpoint(work)
    for name, param in nets.named_parameters().items():
        assert torch.equal(param, saved[f".optimiser.average.{name}"]), name  # type: ignore[arg-type]
    assert load_trained_networks(settings, world, read_components(), work / "none", None) is None


@pytest.mark.slow
def test_a_decoder_without_a_unet_uses_encoded_latents(
    work: Path, tiny_settings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a trained U-Net the decoder is trained on encoded latents only, and the log has a line for it."""
    run_training("autoencoder", work, tiny_settings, "--from-scratch")
    assert "autoencoder latents: encoded\n" in capsys.readouterr().out
