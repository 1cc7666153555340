"""Sizes that clients of other APIs request, fitted to what a base model can draw here."""

from __future__ import annotations

import math

from api.service import Service
from zoodip_core.input_warnings import InputWarning, WarningCode

_DEFAULT_CELL_PX = 8  # Stable Diffusion's
_MAX_SIDE_PX = 4096


def fitted_size(service: Service, base_model: str, width: int, height: int) -> tuple[str, list[InputWarning]]:
    """Return the size to draw, and a warning if it differs from the requested one.

    Many clients have one fixed size, such as 1024x1024. A size above the limit of the service is drawn with the
    native area of the base model and the same aspect ratio. Sides become multiples of the latent cell.

    Args:
        service: limits and base models.
        base_model: name in the catalog.
        width: requested width in pixels.
        height: requested height in pixels.
    """
    facts = service.base_models.complete_facts(base_model)
    scale, cell = 1.0, _DEFAULT_CELL_PX
    if facts is not None:
        cell = facts.latent_cell_px
        if width * height > service.settings.max_generation_area * facts.side_px**2:
            scale = facts.side_px / math.sqrt(width * height)
    sides = [min(max(int(side * scale) // cell, 1) * cell, _MAX_SIDE_PX) for side in (width, height)]
    drawn, requested = f"{sides[0]}x{sides[1]}", f"{width}x{height}"
    if drawn == requested:
        return drawn, []
    message = f"{requested} is drawn as {drawn}, which {base_model} and the limits of this service allow"
    return drawn, [InputWarning(WarningCode.VALUE_ADJUSTED, "size", message)]
