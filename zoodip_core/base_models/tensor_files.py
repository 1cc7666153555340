"""The tensors of one network: where each is stored, under which key, and in which view."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from zoodip_core.base_models.safetensors_header import TensorInfo, read_header
from zoodip_core.errors import InvalidModelError

View = Literal["whole", "first_third", "second_third", "last_third", "transposed", "matrix"]
"""How a tensor of a network lies in the file: as it is, as a third of the rows of a fused tensor, transposed, or as
a 1×1 convolution kernel."""

THIRDS: tuple[View, View, View] = ("first_third", "second_third", "last_third")
MAP_NAME = "checkpoint.json"
"""File in the folder of a network that lists its tensors in a checkpoint that holds several networks."""


@dataclass(frozen=True)
class Place:
    """Key of a stored tensor, and the view of it that the network uses."""

    key: str
    view: View = "whole"


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a network in a safetensors file.

    Attributes:
        path: the file.
        name: name in the network.
        place: key in the file, and the view.
        stored: shape, data type and position of the stored tensor.
    """

    path: Path
    name: str
    place: Place
    stored: TensorInfo

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the view."""
        shape = self.stored.shape
        if self.place.view in THIRDS:
            return (shape[0] // 3, *shape[1:])
        if self.place.view == "transposed":
            return shape[::-1]
        return shape[:2] if self.place.view == "matrix" else shape

    @property
    def rows(self) -> slice:
        """Rows of the stored tensor that the view covers."""
        if self.place.view not in THIRDS:
            return slice(None)
        start = THIRDS.index(self.place.view) * self.shape[0]
        return slice(start, start + self.shape[0])


def stored_tensors(file: Path) -> list[StoredTensor]:
    """Return the tensors of a network in one of its files, in file order.

    Args:
        file: a .safetensors file that holds nothing else, or a map that `write_map` wrote.

    Raises:
        InvalidModelError: the file or the checkpoint is missing or damaged, or the checkpoint lacks a tensor.
    """
    if file.name != MAP_NAME:
        header = read_header(file)
        return [StoredTensor(file, key, Place(key), info) for key, info in header.tensors.items()]
    checkpoint, places = _read_map(file)
    tensors = read_header(checkpoint).tensors
    missing = next((place.key for place in places.values() if place.key not in tensors), None)
    if missing is not None:
        raise InvalidModelError(f"base_model: {checkpoint} lacks {missing}, which {file} lists")
    listed = [StoredTensor(checkpoint, name, place, tensors[place.key]) for name, place in places.items()]
    for tensor in listed:
        _check_view(tensor)
    return sorted(listed, key=lambda tensor: tensor.stored.start)


def data_file(file: Path) -> Path:
    """Return the safetensors file that holds the data: `file`, or the checkpoint of a map.

    Raises:
        InvalidModelError: the map is missing or damaged.
    """
    return _read_map(file)[0] if file.name == MAP_NAME else file


def parameter_count(file: Path) -> int:
    """Return the number of parameters of a network in one of its files.

    Raises:
        InvalidModelError: as `stored_tensors`.
    """
    return sum(math.prod(tensor.shape) for tensor in stored_tensors(file))


def write_map(folder: Path, checkpoint: str, places: Mapping[str, Place]) -> None:
    """Write the map of a network's tensors in a checkpoint.

    Args:
        folder: folder of the network; exists.
        checkpoint: path of the checkpoint; a relative path is relative to `folder`.
        places: name in the network → place in the checkpoint.
    """
    tensors = {name: [place.key, place.view] for name, place in places.items()}
    content = {"checkpoint": checkpoint, "tensors": tensors}
    (folder / MAP_NAME).write_text(json.dumps(content, indent=1), encoding="utf-8")


def _read_map(file: Path) -> tuple[Path, dict[str, Place]]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        checkpoint = Path(os.path.normpath(file.parent / content["checkpoint"]))
        places = {name: Place(key, view) for name, (key, view) in content["tensors"].items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise InvalidModelError(f"base_model: {file} is not a map of tensors: {error!r}") from error
    if any(place.view not in get_args(View) for place in places.values()):
        raise InvalidModelError(f"base_model: {file} is not a map of tensors: it has an unknown view")
    return checkpoint, places


def _check_view(tensor: StoredTensor) -> None:
    """Validate that the stored shape allows the view."""
    shape, view = tensor.stored.shape, tensor.place.view
    fits = {
        "transposed": len(shape) == 2,
        "matrix": len(shape) >= 2 and all(side == 1 for side in shape[2:]),
        **dict.fromkeys(THIRDS, len(shape) > 0 and shape[0] % 3 == 0),
    }
    if not fits.get(view, True):
        raise InvalidModelError.mismatch(
            "base_model",
            got=f"{tensor.place.key} of shape {shape} in {tensor.path}",
            expected=f"a shape that can be read as {view.replace('_', ' ')}",
        )
