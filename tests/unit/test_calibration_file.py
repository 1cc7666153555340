"""Calibration files: principal directions, round trip, and one clear error for every unusable file."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from zoodip_core.calibration_file import Calibration, principal_directions
from zoodip_core.displacement_map import DisplacementMap
from zoodip_core.errors import InvalidModelError

OWN, OTHER, D, STATISTICS = "a" * 64, "b" * 64, 6, 4
HEADER = {"zoodip.weights_fingerprint": OWN, "zoodip.provenance": "{}"}


def made(path: Path) -> Calibration:
    """Write the calibration of four displacements."""
    moves = torch.randn(4, D, generator=torch.Generator().manual_seed(0))
    fitted = DisplacementMap.fit(torch.eye(4), torch.eye(4, D), moves)
    directions = principal_directions(moves / 2, 3)
    calibration = Calibration(*directions, torch.eye(3) / 3, OWN, {"seed": 0}, fitted, 2 * moves[:2])
    calibration.save(path)
    return calibration


def load(path: Path, fingerprint: str = OWN) -> Calibration:
    """Read a file for vectors of 6 dimensions."""
    return Calibration.load(path, weights_fingerprint=fingerprint, dimensions=D, statistics=STATISTICS)


def test_file_holds_the_principal_directions_of_the_displacements(tmp_path: Path) -> None:
    """The rows are orthonormal, the scales keep the mean square along them, and the file returns the same."""
    written = made(tmp_path / "c.safetensors")
    read = load(tmp_path / "c.safetensors")
    moves = torch.randn(4, D, generator=torch.Generator().manual_seed(0))
    assert read.basis.equal(written.basis)
    assert read.provenance == {"seed": 0}
    assert read.style_displacements is not None
    assert read.style_displacements.equal(2 * moves[:2])
    point = torch.ones(STATISTICS), torch.ones(D)
    assert written.displacement_map is not None
    assert read.displacement_map is not None
    assert read.displacement_map.predict(*point).equal(written.displacement_map.predict(*point))
    assert torch.allclose(read.basis @ read.basis.T, torch.eye(3), atol=1e-5)
    along = (moves @ read.basis.T).square().mean(dim=0)
    assert torch.allclose(read.scales.square(), along, rtol=1e-4)
    assert along.sum() > 0.9 * moves.square().sum() / 4
    assert (read.scales[:-1] >= read.scales[1:]).all()


def with_nan(tensors: dict[str, Tensor]) -> None:
    """Damage one value."""
    tensors["basis"][0, 0] = float("nan")


def without_scales(tensors: dict[str, Tensor]) -> None:
    """Remove a tensor."""
    del tensors["scales"]


def narrower(tensors: dict[str, Tensor]) -> None:
    """Cut a dimension, as in a file for shorter vectors."""
    tensors["basis"] = tensors["basis"][:, :-1].contiguous()


def with_zero_scale(tensors: dict[str, Tensor]) -> None:
    """Set a scale to 0."""
    tensors["scales"][-1] = 0


def with_negative_curvature(tensors: dict[str, Tensor]) -> None:
    """Turn one direction downward."""
    tensors["curvature"][0, 0] = -1


def with_zero_curvature(tensors: dict[str, Tensor]) -> None:
    """Set the curvature to 0."""
    tensors["curvature"].zero_()


def with_asymmetric_curvature(tensors: dict[str, Tensor]) -> None:
    """Change one of two equal values, above the diagonal."""
    tensors["curvature"][0, 1] = 0.01


def with_zero_basis(tensors: dict[str, Tensor]) -> None:
    """Set the basis to 0."""
    tensors["basis"].zero_()


def with_longer_basis(tensors: dict[str, Tensor]) -> None:
    """Scale the rows of the basis."""
    tensors["basis"] *= 1.01


def with_dependent_basis(tensors: dict[str, Tensor]) -> None:
    """Repeat a row of the basis."""
    tensors["basis"][1] = tensors["basis"][0]


def with_more_rows_than_dimensions(tensors: dict[str, Tensor]) -> None:
    """Add directions beyond the dimensions of a vector."""
    rows = D + 1
    tensors["basis"] = torch.eye(rows, D)
    tensors["scales"], tensors["curvature"] = torch.ones(rows), torch.eye(rows) / rows


def without_offset(tensors: dict[str, Tensor]) -> None:
    """Remove a tensor of the map."""
    del tensors["map.offset"]


def with_unknown_tensor(tensors: dict[str, Tensor]) -> None:
    """Add a tensor that no calibration has."""
    tensors["map.bias"] = torch.zeros(1)


def for_fewer_channels(tensors: dict[str, Tensor]) -> None:
    """Cut two inputs of the map, as in a file for latents with one channel less."""
    for name in ("map.center", "map.inputs"):
        tensors[name] = tensors[name][..., 2:].contiguous()


def with_scalar_inputs(tensors: dict[str, Tensor]) -> None:
    """Replace a matrix of the map by a number."""
    tensors["map.inputs"] = torch.tensor(1.0)


def with_infinite_map(tensors: dict[str, Tensor]) -> None:
    """Damage a value of the map."""
    tensors["map.outputs"][0, 0] = float("inf")


def with_shorter_styles(tensors: dict[str, Tensor]) -> None:
    """Cut a dimension of the styles."""
    tensors["styles"] = tensors["styles"][:, :-1].contiguous()


def with_a_style_without_axes(tensors: dict[str, Tensor]) -> None:
    """Replace the styles by a number."""
    tensors["styles"] = torch.tensor(1.0)


def with_half_precision_styles(tensors: dict[str, Tensor]) -> None:
    """Store the styles in another dtype."""
    tensors["styles"] = tensors["styles"].half()


def with_infinite_style(tensors: dict[str, Tensor]) -> None:
    """Damage a value of the styles."""
    tensors["styles"][0, 0] = float("inf")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (with_nan, "NaN or infinite"),
        (without_scales, "other tensors than"),
        (narrower, "do not fit vectors of 6 dimensions"),
        (with_zero_scale, "a scale that is not above 0"),
        (with_negative_curvature, "a curvature that is negative"),
        (with_zero_curvature, "a curvature that is 0 along all directions"),
        (with_asymmetric_curvature, "a curvature that is not symmetric"),
        (with_zero_basis, "a basis that is not orthonormal"),
        (with_longer_basis, "a basis that is not orthonormal"),
        (with_dependent_basis, "a basis that is not orthonormal"),
        (with_more_rows_than_dimensions, "do not fit vectors of 6 dimensions"),
        (without_offset, "other tensors of the map than"),
        (with_unknown_tensor, "other tensors than"),
        (for_fewer_channels, "a map that does not fit 4 statistics and 6 dimensions"),
        (with_scalar_inputs, "a map that does not fit 4 statistics and 6 dimensions"),
        (with_infinite_map, "NaN or infinite"),
        (with_shorter_styles, "displacements of styles that do not have 6 dimensions"),
        (with_a_style_without_axes, "displacements of styles that do not have 6 dimensions"),
        (with_half_precision_styles, "displacements of styles that are not float32"),
        (with_infinite_style, "NaN or infinite"),
    ],
)
def test_bad_tensors_are_refused(
    tmp_path: Path, damage: Callable[[dict[str, Tensor]], None], message: str
) -> None:
    """The error names the file and what is wrong with it."""
    path = tmp_path / "c.safetensors"
    made(path)
    tensors = load_file(path)
    damage(tensors)
    save_file(tensors, path, metadata=HEADER)
    with pytest.raises(InvalidModelError, match=message) as caught:
        load(path)
    assert str(path) in caught.value.message


def test_map_and_styles_are_optional(tmp_path: Path) -> None:
    """The space of the vocabulary has neither; its searches start at the initial token."""
    written = made(tmp_path / "c.safetensors")
    replace(written, displacement_map=None, style_displacements=None).save(tmp_path / "c.safetensors")
    read = load(tmp_path / "c.safetensors")
    assert (read.displacement_map, read.style_displacements) == (None, None)


def test_missing_truncated_and_foreign_files_are_refused(tmp_path: Path) -> None:
    """A file that is absent, empty, cut off or of another base model is one clear error."""
    path = tmp_path / "c.safetensors"
    unreadable = (
        r"calibration: got .*c\.safetensors, which cannot be read \(.*\); expected a file that `zoodip "
    )
    with pytest.raises(InvalidModelError, match=unreadable):
        load(path)
    path.touch()
    with pytest.raises(InvalidModelError, match=unreadable):
        load(path)
    made(path)
    with pytest.raises(InvalidModelError, match="a calibration of another base model"):
        load(path, OTHER)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InvalidModelError, match=unreadable):
        load(path)
