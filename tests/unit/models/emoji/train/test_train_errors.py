"""Error messages of the training command: sizes, components, folders and settings that do not match."""

from pathlib import Path

import pytest

from tests.unit.models.emoji.conftest import run_training, training_error


def test_other_sizes_than_those_of_the_shipped_weights_are_refused(work: Path, tiny_settings: Path) -> None:
    """Settings of other sizes are refused with the setting and both values."""
    for part, message in (
        ("diffusion", "diffusion.channels: got [32, 32]; expected [64, 128] as in"),
        ("autoencoder", "diffusion.channels: got [32, 32]; expected [64, 128] as in"),
        ("clip", "clip.width: got 48; expected 128 as in"),
        ("judge", "judge.channels: got [8, 8, 8, 8]; expected [24, 48, 96, 160] as in"),
    ):
        assert message in training_error(part, "--work", work, "--settings", tiny_settings)
    assert not list(work.glob("*.pt"))


@pytest.mark.slow
def test_a_checkpoint_of_other_sizes_is_refused(work: Path, tiny_settings: Path) -> None:
    """The message for a checkpoint of other sizes has both values."""
    run_training("diffusion", work, tiny_settings, "--from-scratch", "--pictures", "8")
    wider = tiny_settings.with_name("wider.toml")
    wider.write_text(tiny_settings.read_text().replace("text_width = 48", "text_width = 96"))
    message = training_error("diffusion", "--work", work, "--settings", wider)
    assert f"diffusion.text_width: got 96; expected 48 as in {work / 'diffusion.pt'}" in message


def test_shipped_weights_are_not_trained_on_other_components(work: Path, tiny_settings: Path) -> None:
    """The shipped weights are refused with components fitted in the work folder, which change the latent space."""
    run_training("components", work, tiny_settings)
    message = training_error("diffusion", "--work", work)
    assert "trained on other principal components" in message


def test_a_missing_start_folder_is_named(work: Path) -> None:
    """A missing `--start` folder raises an error instead of a training from new weights."""
    message = training_error("diffusion", "--work", work, "--start", work / "none")
    assert str(work / "none") in message


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("batch = 4", "batch = 0", "diffusion.batch: got 0; expected a whole number of at least 1"),
        ("rate = 2.0e-3", "rate = -1.0", "diffusion.rate: got -1.0; expected a number above 0"),
        ("average = 0.9", "average = 2", "diffusion.average: got 2; expected a number from 0 to 1"),
        ("channels = [32, 32]", 'channels = "32"', "diffusion.channels: got '32'; expected a list"),
        ("channels = [32, 32]", "channels = [32, 33]", "channels: got [32, 33]; expected multiples of 16"),
        ("[12, 16, 32, 64]", "[8, 16, 32, 64]", "autoencoder.channels: got [8, 16, 32, 64]; expected four"),
        ("patch_px = 16", "patch_px = 15", "clip.patch_px: got 15; expected 4, 8, 16 or 32"),
    ],
)
def test_a_setting_out_of_range_is_named(
    work: Path, tiny_settings: Path, old: str, new: str, message: str
) -> None:
    """The message for an invalid setting has its name, its value and the expected values."""
    tiny_settings.write_text(tiny_settings.read_text().replace(old, new, 1))
    assert message in training_error("diffusion", "--work", work, "--settings", tiny_settings)
