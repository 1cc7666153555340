"""What code can paint: the names and colours of a world file, checked against the painters."""

from collections.abc import Collection
from typing import Any

from models.emoji.errors import WorldError
from models.emoji.grounds import SCENES, Colour
from models.emoji.looks import COLOUR_LOOKS, FORM_LOOKS
from models.emoji.patterns import PATTERNS


def colours(field: str, table: dict[str, list[int]]) -> dict[str, Colour]:
    """RGB triples by name.

    Raises:
        WorldError: a level is no byte.
    """
    for name, levels in table.items():
        if len(levels) != 3 or not all(type(level) is int and 0 <= level <= 255 for level in levels):
            raise WorldError(f"{field}.{name} is {levels}; allowed: three whole numbers from 0 to 255")
    return {name: (red, green, blue) for name, (red, green, blue) in table.items()}


def painted_lists(table: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    """The lists of names that pictures are painted by, each name one that can be painted.

    Raises:
        WorldError: a name has no painter, or is no name.
    """
    painters: dict[str, Collection[str]] = {
        "patterns": PATTERNS,
        "scenes": SCENES,
        "colour_looks": COLOUR_LOOKS,
        "form_looks": FORM_LOOKS,
    }
    for field, names in table.items():
        for name in names if isinstance(names, list) else [names]:
            if field in painters and name not in painters[field]:
                known = ", ".join(sorted(painters[field]))
                raise WorldError(f"lists.{field} names the unknown {name!r}; known: {known}")
    return {field: tuple(names) for field, names in table.items()}
