"""A calibration file: in which directions, and how far, the tokens of a base model move when they are learned."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from zoodip_core.displacement_map import NAMES, DisplacementMap
from zoodip_core.errors import InvalidModelError
from zoodip_core.files import write_atomically

_FINGERPRINT = "zoodip.weights_fingerprint"
_PROVENANCE = "zoodip.provenance"
_NAMES = {"basis", "scales", "curvature"}
_MAP = "map."
_STYLES = "styles"
_TOLERANCE = 1e-3
"""Largest error of a basis that counts as orthonormal, and relative one of a curvature that counts as symmetric."""
DIRECTIONS = 64
"""Most principal directions that a calibration keeps."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """Principal directions of displacements: learned ones, and those from noun to noun.

    Attributes:
        basis: orthonormal rows, the principal directions; the learned displacements are not centered.
        scales: standard deviation of the displacements along each row, largest first; above 0.
        curvature: mean curvature of the loss along `scales * basis`, of trace 1.
        weights_fingerprint: of the base model.
        provenance: how the file was made.
        displacement_map: predicts where a search for an object starts. None: at the initial token.
        style_displacements: those of pseudo-styles, with which a search for a style compares its initial token.
            None: it compares nothing.
    """

    basis: Float[Tensor, "k d"]
    scales: Float[Tensor, " k"]
    curvature: Float[Tensor, "k k"]
    weights_fingerprint: str
    provenance: Mapping[str, Any]
    displacement_map: DisplacementMap | None = None
    style_displacements: Float[Tensor, "styles d"] | None = None

    def save(self, path: Path) -> None:
        """Write the file atomically.

        Raises:
            StorageError: the disk is full or the folder cannot be written.
        """
        header = {_FINGERPRINT: self.weights_fingerprint, _PROVENANCE: json.dumps(self.provenance)}
        tensors = {"basis": self.basis, "scales": self.scales, "curvature": self.curvature}
        if self.displacement_map is not None:
            tensors |= {_MAP + name: one for name, one in self.displacement_map.tensors().items()}
        if self.style_displacements is not None:
            tensors[_STYLES] = self.style_displacements
        write_atomically(path, save(tensors, metadata=header))

    @classmethod
    def load(cls, path: Path, *, weights_fingerprint: str, dimensions: int, statistics: int) -> Calibration:
        """Read a calibration file of a base model.

        Args:
            path: the file.
            weights_fingerprint: of the base model.
            dimensions: d, the length of one token vector over all text encoders.
            statistics: number of statistics of the latents, two for each channel.

        Raises:
            InvalidModelError: the file is missing, damaged, or belongs to another base model.
        """
        try:
            with safe_open(path, framework="pt") as file:
                # Clones are aligned, so sums over them do not depend on the layout of the file.
                tensors = {name: file.get_tensor(name).clone() for name in file.offset_keys()}
                header = file.metadata() or {}
            provenance = json.loads(header.get(_PROVENANCE, "{}"))
        except (SafetensorError, OSError, ValueError) as error:
            reason = str(error).removesuffix(f": {path}")
            raise _mismatch(f"{path}, which cannot be read ({reason})") from error
        if header.get(_FINGERPRINT) != weights_fingerprint:
            raise _unusable(path, "a calibration of another base model")
        mapped = {name: tensors.pop(_MAP + name) for name in NAMES if _MAP + name in tensors}
        styles = tensors.pop(_STYLES, None)
        _check_tensors(path, tensors, dimensions)
        _check_map(path, mapped, dimensions, statistics)
        _check_styles(path, styles, dimensions)
        return cls(
            **tensors,
            weights_fingerprint=weights_fingerprint,
            provenance=provenance,
            displacement_map=DisplacementMap(**mapped) if mapped else None,
            style_displacements=styles,
        )


def _check_tensors(path: Path, tensors: Mapping[str, Tensor], dimensions: int) -> None:
    """Validate names, shapes and values.

    Raises:
        InvalidModelError: one is not as `Calibration` requires.
    """
    _check_names(path, tensors, _NAMES, "other tensors than float32 basis, scales and curvature")
    count = min(max(1, len(tensors["scales"].flatten())), dimensions)  # more rows cannot be orthogonal
    shapes = {"basis": (count, dimensions), "scales": (count,), "curvature": (count, count)}
    _check_values(path, tensors, shapes, f"tensors that do not fit vectors of {dimensions} dimensions")
    basis, curvature = tensors["basis"].double(), tensors["curvature"].double()
    if (basis @ basis.T - torch.eye(count)).abs().max() > _TOLERANCE:
        raise _unusable(path, "a basis that is not orthonormal")
    if not (tensors["scales"] > 0).all():
        raise _unusable(path, "a scale that is not above 0")
    if (curvature - curvature.T).abs().max() > _TOLERANCE * curvature.abs().max():
        raise _unusable(path, "a curvature that is not symmetric")
    if not (torch.linalg.eigvalsh(curvature) >= -1e-6).all():
        raise _unusable(path, "a curvature that is negative along a direction")
    if curvature.trace() <= 0:
        raise _unusable(path, "a curvature that is 0 along all directions")


def _check_map(path: Path, tensors: Mapping[str, Tensor], dimensions: int, statistics: int) -> None:
    """Validate names, shapes and values of the map, if there is one.

    Raises:
        InvalidModelError: one is not as `DisplacementMap` requires.
    """
    if not tensors:
        return
    _check_names(path, tensors, set(NAMES), f"other tensors of the map than float32 {', '.join(NAMES)}")
    shapes = DisplacementMap.shapes(tensors, dimensions, statistics)
    misfit = f"a map that does not fit {statistics} statistics and {dimensions} dimensions"
    _check_values(path, tensors, shapes, misfit)


def _check_styles(path: Path, styles: Tensor | None, dimensions: int) -> None:
    """Validate the displacements of pseudo-styles, if there are some.

    Raises:
        InvalidModelError: they are not as `Calibration` requires.
    """
    if styles is None:
        return
    found = {_STYLES: styles}
    _check_names(path, found, {_STYLES}, "displacements of styles that are not float32")
    shapes = {_STYLES: (*styles.shape[:1], dimensions)}
    _check_values(path, found, shapes, f"displacements of styles that do not have {dimensions} dimensions")


def _check_names(path: Path, tensors: Mapping[str, Tensor], names: set[str], others: str) -> None:
    """Validate names and dtypes. `others` says what an unusable file has.

    Raises:
        InvalidModelError: a tensor is missing, unknown or not in float32.
    """
    if tensors.keys() != names or any(one.dtype != torch.float32 for one in tensors.values()):
        raise _unusable(path, others)


def _check_values(
    path: Path, tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]], misfit: str
) -> None:
    """Validate shapes, and that all values are finite. `misfit` says what a file with other shapes has.

    Raises:
        InvalidModelError: a tensor has another shape, or a value that is NaN or infinite.
    """
    if any(tuple(tensors[name].shape) != shape for name, shape in shapes.items()):
        raise _unusable(path, misfit)
    if not all(one.isfinite().all() for one in tensors.values()):
        raise _unusable(path, "a value that is NaN or infinite")


def principal_directions(
    rows: Float[Tensor, "rows d"], most: int
) -> tuple[Float[Tensor, "k d"], Float[Tensor, " k"]]:
    """Return basis and scales of rows whose outer products add up to a covariance.

    There are at most `most` directions, and none of numerically zero variance.
    """
    _, values, found = torch.linalg.svd(rows.double(), full_matrices=False)
    count = min(most, int((values > 1e-6 * values[0]).sum()))
    return found[:count].float().contiguous(), values[:count].float()


def _unusable(path: Path, got: str) -> InvalidModelError:
    return _mismatch(f"{got} in {path}")


def _mismatch(got: str) -> InvalidModelError:
    expected = "a file that `zoodip calibrate` wrote for this base model"
    return InvalidModelError.mismatch("calibration", got=got, expected=expected)
