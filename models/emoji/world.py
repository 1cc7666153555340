"""The world of the emoji pictures: every object, color, pattern, background and filter, and the held-out items.

The lists are the TOML files in `lists/`.
"""

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from models.emoji.errors import LeakError, WorldError
from models.emoji.painters import Color, Style, read_colors, read_paintable_lists

LISTS = Path(__file__).parent / "lists"
PLAIN = ""  # no color, no pattern, no filter


@dataclass(frozen=True)
class Scene:
    """The content of one picture: object, color, pattern, background and style."""

    object: str
    color: str
    pattern: str
    background: str
    style: Style = (PLAIN, PLAIN)

    @property
    def attributes(self) -> tuple[str, ...]:
        """The attributes as one tuple: object, color, pattern, background, color filter, form filter."""
        return (self.object, self.color, self.pattern, self.background, *self.style)


@dataclass(frozen=True)
class HeldOut:
    """Items that are held out of all training.

    Attributes:
        subjects: object, color and pattern; the color never occurs with the object, in any pattern.
        shapes: objects that never occur.
        styles: pairs of filters that never occur together.
    """

    subjects: tuple[tuple[str, str, str], ...]
    shapes: tuple[str, ...]
    styles: tuple[Style, ...]

    @property
    def colored_objects(self) -> frozenset[tuple[str, str]]:
        """The pairs of object and color that never occur, in any pattern."""
        return frozenset((name, color) for name, color, _ in self.subjects)

    def check(self, scene: Scene) -> None:
        """Validate that the scene may be used in training.

        Raises:
            LeakError: the scene contains a held-out shape, subject or style.
        """
        if scene.object in self.shapes:
            raise LeakError(f"{scene}: the shape {scene.object!r} is held out of all training")
        if (scene.object, scene.color) in self.colored_objects:
            raise LeakError(f"{scene}: '{scene.color} {scene.object}' is held out of all training")
        if scene.style in self.styles:
            raise LeakError(f"{scene}: the style {scene.style} is held out of all training")


@dataclass(frozen=True)
class World:
    """Every value that a scene can have."""

    sprites: dict[str, str]  # object -> code point of its sprite
    colors: dict[str, Color]
    plain_backgrounds: dict[str, Color]  # includes every color of an object
    patterns: tuple[str, ...]
    painted_backgrounds: tuple[str, ...]
    color_filters: tuple[str, ...]
    form_filters: tuple[str, ...]
    named_instances: dict[str, tuple[str, str, str]]  # invented word -> object, color, pattern
    named_styles: dict[str, Style]  # invented word -> pair of filters
    held_out: HeldOut

    @property
    def objects(self) -> tuple[str, ...]:
        """Every object, including held-out shapes."""
        return tuple(self.sprites)

    @property
    def trained_objects(self) -> tuple[str, ...]:
        """The objects that may be used in training."""
        return tuple(name for name in self.sprites if name not in self.held_out.shapes)

    @property
    def backgrounds(self) -> tuple[str, ...]:
        """Every background in words, such as "on red" and "in the snow"."""
        return tuple(f"on {color}" for color in self.plain_backgrounds) + self.painted_backgrounds

    @property
    def styles(self) -> tuple[Style, ...]:
        """Every style with at least one filter, including held-out pairs."""
        pairs = [
            (color, form) for color in (PLAIN, *self.color_filters) for form in (PLAIN, *self.form_filters)
        ]
        return tuple(pairs[1:])

    @property
    def trained_styles(self) -> tuple[Style, ...]:
        """The styles that may be used in training."""
        return tuple(style for style in self.styles if style not in self.held_out.styles)

    @property
    def words(self) -> tuple[str, ...]:
        """Every word that a caption can contain, sorted."""
        phrases = ["a photo of a", "style", *self.backgrounds]
        words = {word for phrase in phrases for word in phrase.split()}
        words.update(self.sprites, self.colors, self.patterns, self.color_filters, self.form_filters)
        words.update(self.named_instances, self.named_styles)
        return tuple(sorted(words))


def _read(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        WorldError: the file is missing, unreadable or not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as missing:
        raise WorldError(f"{path}: file not found") from missing
    except OSError as unreadable:
        raise WorldError(f"{path}: cannot read: {unreadable.strerror}") from unreadable
    except ValueError as broken:
        raise WorldError(f"{path}: not TOML: {broken}") from broken


def _check_words(world: World) -> None:
    """Validate that every name is a single word and that no word has two meanings.

    Raises:
        WorldError: a name is not a single word, or occurs in two lists.
    """
    kinds: dict[str, Iterable[str]] = {
        "objects": world.sprites,
        "colors": world.colors,
        "patterns": world.patterns,
        "color filters": world.color_filters,
        "form filters": world.form_filters,
        "named instances": world.named_instances,
        "named styles": world.named_styles,
    }
    meaning: dict[str, str] = {}
    for kind, names in kinds.items():
        for name in names:
            if not re.fullmatch("[a-z]+", name):
                raise WorldError(f"{kind}: got {name!r}; expected one word of the letters a to z")
            if name in meaning:
                raise WorldError(
                    f"{kind}: got {name!r}, which is also in {meaning[name]}; expected one meaning per word"
                )
            meaning[name] = kind


def _check_names(world: World) -> None:
    """Validate the names in named instances, named styles and held-out items.

    Raises:
        WorldError: an object, color, pattern or filter is unknown.
    """
    known = {
        "object": set(world.objects),
        "color": {PLAIN, *world.colors},
        "pattern": {PLAIN, *world.patterns},
        "color filter": {PLAIN, *world.color_filters},
        "form filter": {PLAIN, *world.form_filters},
    }
    named = [(f"named instance {word!r}", subject) for word, subject in world.named_instances.items()]
    named += [("held-out subject", subject) for subject in world.held_out.subjects]
    entries = [
        (where, list(zip(("object", "color", "pattern"), subject, strict=True))) for where, subject in named
    ]
    entries += [("held-out shapes", [("object", shape)]) for shape in world.held_out.shapes]
    styles = [(f"style {word!r}", style) for word, style in world.named_styles.items()]
    styles += [("held-out style", style) for style in world.held_out.styles]
    entries += [
        (where, list(zip(("color filter", "form filter"), style, strict=True))) for where, style in styles
    ]
    for where, pairs in entries:
        for kind, name in pairs:
            if name not in known[kind]:
                allowed = ", ".join(sorted(known[kind] - {PLAIN}))
                raise WorldError(f"{where}: got the {kind} {name!r}; expected one of {allowed}")


def read_world(folder: Path = LISTS) -> World:
    """Read and validate the world files of a folder.

    Raises:
        WorldError: a file is missing or malformed, or a list has an unknown name.
        LeakError: a named instance or named style is held out.
    """
    table, held, invented = (
        _read(folder / f"{name}.toml") for name in ("world", "held_out", "named_instances")
    )
    try:
        colors = read_colors("colors", table["colors"])
        held_out = HeldOut(
            subjects=tuple((name, color, pattern) for name, color, pattern in held["subjects"]),
            shapes=tuple(held["shapes"]),
            styles=tuple((color, form) for color, form in held["styles"]),
        )
        world = World(
            sprites=dict(table["objects"]),
            colors=colors,
            plain_backgrounds=colors | read_colors("plain_backgrounds", table["plain_backgrounds"]),
            named_instances={word: (a, b, c) for word, (a, b, c) in invented["instances"].items()},
            named_styles={word: (color, form) for word, (color, form) in invented["styles"].items()},
            held_out=held_out,
            **read_paintable_lists(table["lists"]),
        )
    except (KeyError, TypeError, ValueError) as broken:
        raise WorldError(f"{folder}: an entry is missing or malformed: {broken!r}") from broken
    _check_words(world)
    _check_names(world)
    for subject in world.named_instances.values():
        held_out.check(Scene(*subject, world.backgrounds[0]))
    for style in world.named_styles.values():
        held_out.check(Scene(world.trained_objects[0], PLAIN, PLAIN, world.backgrounds[0], style))
    return world


@cache
def shipped_world() -> World:
    """Return the world that the shipped model was trained on."""
    return read_world()
