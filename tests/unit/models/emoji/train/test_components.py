"""The principal components: reproducible fit and validation of the file."""

from pathlib import Path

import pytest
import torch

from models.emoji.errors import CheckpointError
from models.emoji.train.__main__ import main
from models.emoji.train.autoencoder import psnr_db
from models.emoji.train.checkpoint import write_weights
from models.emoji.train.components import COMPONENTS, COMPONENTS_FILE, fit_components, read_components
from models.emoji.train.data import compose_set

LEADING = 7  # axes with clearly separated variances, which do not depend on the choice of pictures


def test_the_command_fits_an_orthonormal_basis_and_keeps_it(work: Path, tiny_settings: Path) -> None:
    """`train components` fits the same map each time and does not overwrite an existing map."""
    arguments = ["components", "--work", str(work), "--settings", str(tiny_settings)]
    main(arguments)
    path = work / "components.safetensors"
    fitted, first = read_components(path), path.read_bytes()
    assert torch.allclose(fitted.axes @ fitted.axes.T, torch.eye(COMPONENTS), atol=1e-4)
    path.unlink()
    main(arguments)
    assert path.read_bytes() == first
    path.write_bytes(COMPONENTS_FILE.read_bytes())
    main(arguments)
    assert path.read_bytes() == COMPONENTS_FILE.read_bytes()


def test_signs_are_deterministic() -> None:
    """The largest entry of every axis is positive, regardless of the eigenvectors' signs."""
    axes = fit_components(compose_set(50, 40).batch(range(40))).axes
    assert bool((axes.gather(1, axes.abs().argmax(1, keepdim=True)) > 0).all())


@pytest.mark.slow
def test_the_committed_map_agrees_with_a_new_fit() -> None:
    """A new fit has the same leading axes and scales and reconstructs pictures equally well.

    The other axes differ, because the committed map was fitted on 12,000 pictures of the prototype without styles.
    """
    pictures = compose_set(0, 600).batch(range(600))
    fitted, committed = fit_components(pictures), read_components()
    along = (fitted.axes[:LEADING] @ committed.axes[:LEADING].T).square().sum(1)
    assert along.min() > 0.9
    assert torch.allclose(committed.scale, fitted.scale, rtol=0.1)
    assert torch.allclose(committed.axes @ committed.axes.T, torch.eye(COMPONENTS), atol=1e-4)
    held_back = compose_set(10_000_000, 50).batch(range(50))
    both = [psnr_db(one.decode(one.encode(held_back)), held_back).mean() for one in (fitted, committed)]
    assert abs(both[0] - both[1]) < 0.5


def test_a_file_with_other_tensors_is_refused(tmp_path: Path) -> None:
    """The message for a file with other tensors has its path."""
    write_weights(tmp_path / "other.safetensors", {"mean": torch.zeros(3)})
    with pytest.raises(CheckpointError, match=r"other\.safetensors: got tensors .*; expected 16 components"):
        read_components(tmp_path / "other.safetensors")
