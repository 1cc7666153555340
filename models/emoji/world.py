"""The small world: things, tints, patterns, grounds, looks, and what of it is held out.

The lists are files (`lists/*.toml`), read and checked here: a name that the world does not have, or a
held-out item in a training list, is an error that says where and what.
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
PLAIN = ""  # no tint, no pattern, no look


@dataclass(frozen=True)
class Scene:
    """What one picture shows."""

    thing: str
    tint: str
    pattern: str
    ground: str
    style: Style = (PLAIN, PLAIN)

    @property
    def attributes(self) -> tuple[str, ...]:
        """Thing, tint, pattern, ground, colour look, form look."""
        return (self.thing, self.tint, self.pattern, self.ground, *self.style)


@dataclass(frozen=True)
class HeldOut:
    """What no training may see."""

    subjects: tuple[tuple[str, str, str], ...]
    shapes: tuple[str, ...]
    styles: tuple[Style, ...]

    @property
    def tinted_things(self) -> frozenset[tuple[str, str]]:
        """The (thing, tint) pairs that never occur, in any pattern."""
        return frozenset((thing, tint) for thing, tint, _ in self.subjects)

    def check(self, scene: Scene) -> None:
        """Pass if the scene may be trained on.

        Raises:
            LeakError: the scene holds a held-out shape, subject or style.
        """
        if scene.thing in self.shapes:
            raise LeakError(f"the shape {scene.thing!r} is held out of all training, but occurs in {scene}")
        if (scene.thing, scene.tint) in self.tinted_things:
            raise LeakError(
                f"'{scene.tint} {scene.thing}' is held out of all training, but occurs in {scene}"
            )
        if scene.style in self.styles:
            raise LeakError(f"the style {scene.style} is held out of all training, but occurs in {scene}")


@dataclass(frozen=True)
class World:
    """Everything a picture can hold, and the names for it."""

    sprites: dict[str, str]  # thing -> code point of its sprite
    tints: dict[str, Color]
    plain_grounds: dict[str, Color]  # every tint is one, too
    patterns: tuple[str, ...]
    scenes: tuple[str, ...]
    colour_looks: tuple[str, ...]
    form_looks: tuple[str, ...]
    individuals: dict[str, tuple[str, str, str]]  # invented word -> thing, tint, pattern
    named_styles: dict[str, Style]  # invented word -> pair of looks
    held_out: HeldOut

    @property
    def things(self) -> tuple[str, ...]:
        """Every thing, held-out shapes included."""
        return tuple(self.sprites)

    @property
    def trained_things(self) -> tuple[str, ...]:
        """The things that may be trained on."""
        return tuple(thing for thing in self.sprites if thing not in self.held_out.shapes)

    @property
    def grounds(self) -> tuple[str, ...]:
        """Every ground as its words: "on red", ..., "in the snow", ...."""
        return tuple(f"on {colour}" for colour in self.plain_grounds) + self.scenes

    @property
    def styles(self) -> tuple[Style, ...]:
        """Every style with at least one look, held-out pairs included."""
        looks = [
            (colour, form) for colour in (PLAIN, *self.colour_looks) for form in (PLAIN, *self.form_looks)
        ]
        return tuple(looks[1:])

    @property
    def trained_styles(self) -> tuple[Style, ...]:
        """The styles that may be trained on."""
        return tuple(style for style in self.styles if style not in self.held_out.styles)

    @property
    def words(self) -> tuple[str, ...]:
        """Every word that a caption can hold, sorted."""
        phrases = ["a photo of a", "style", *self.grounds]
        words = {word for phrase in phrases for word in phrase.split()}
        words.update(self.sprites, self.tints, self.patterns, self.colour_looks, self.form_looks)
        words.update(self.individuals, self.named_styles)
        return tuple(sorted(words))


def _read(path: Path) -> dict[str, Any]:
    """The table in a TOML file.

    Raises:
        WorldError: there is no such file, or it cannot be read, or it is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as missing:
        raise WorldError(f"there is no world file {path}") from missing
    except OSError as unreadable:
        raise WorldError(f"the world file {path} cannot be read: {unreadable.strerror}") from unreadable
    except ValueError as broken:
        raise WorldError(f"{path} is not TOML: {broken}") from broken


def _check_words(world: World) -> None:
    """Pass if every name is one word that captions can hold, and no word has two meanings.

    Raises:
        WorldError: says which.
    """
    kinds: dict[str, Iterable[str]] = {
        "things": world.sprites,
        "tints": world.tints,
        "patterns": world.patterns,
        "colour looks": world.colour_looks,
        "form looks": world.form_looks,
        "individuals": world.individuals,
        "named styles": world.named_styles,
    }
    meaning: dict[str, str] = {}
    for kind, names in kinds.items():
        for name in names:
            if not re.fullmatch("[a-z]+", name):
                raise WorldError(f"{kind} names {name!r}; allowed: one word of the letters a to z")
            if name in meaning:
                raise WorldError(
                    f"{name!r} is among the {meaning[name]} and among the {kind}; it may mean one thing"
                )
            meaning[name] = kind


def _check_names(world: World) -> None:
    """Pass if every list names only what the world has.

    Raises:
        WorldError: an unknown thing, tint, pattern or look.
    """
    known = {
        "thing": set(world.things),
        "tint": {PLAIN, *world.tints},
        "pattern": {PLAIN, *world.patterns},
        "colour look": {PLAIN, *world.colour_looks},
        "form look": {PLAIN, *world.form_looks},
    }
    named = [(f"individual {word!r}", look) for word, look in world.individuals.items()]
    named += [("held-out subject", subject) for subject in world.held_out.subjects]
    entries = [(where, list(zip(("thing", "tint", "pattern"), look, strict=True))) for where, look in named]
    entries += [("held-out shapes", [("thing", shape)]) for shape in world.held_out.shapes]
    styles = [(f"style {word!r}", style) for word, style in world.named_styles.items()]
    styles += [("held-out style", style) for style in world.held_out.styles]
    entries += [
        (where, list(zip(("colour look", "form look"), style, strict=True))) for where, style in styles
    ]
    for where, pairs in entries:
        for kind, name in pairs:
            if name not in known[kind]:
                allowed = ", ".join(sorted(known[kind] - {PLAIN}))
                raise WorldError(f"{where} names the unknown {kind} {name!r}; known: {allowed}")


def read_world(folder: Path = LISTS) -> World:
    """The world of a folder of lists, checked.

    Raises:
        WorldError: a file is missing or broken, or a list names something unknown.
        LeakError: a training list (the individuals) holds something held out.
    """
    table, held, invented = (_read(folder / f"{name}.toml") for name in ("world", "held_out", "individuals"))
    try:
        tints = read_colors("tints", table["tints"])
        held_out = HeldOut(
            subjects=tuple((thing, tint, pattern) for thing, tint, pattern in held["subjects"]),
            shapes=tuple(held["shapes"]),
            styles=tuple((colour, form) for colour, form in held["styles"]),
        )
        world = World(
            sprites=dict(table["things"]),
            tints=tints,
            plain_grounds=tints | read_colors("plain_grounds", table["plain_grounds"]),
            individuals={word: (a, b, c) for word, (a, b, c) in invented["things"].items()},
            named_styles={word: (colour, form) for word, (colour, form) in invented["styles"].items()},
            held_out=held_out,
            **read_paintable_lists(table["lists"]),
        )
    except (KeyError, TypeError, ValueError) as broken:
        raise WorldError(f"the world files in {folder} lack or misshape an entry: {broken!r}") from broken
    _check_words(world)
    _check_names(world)
    for thing, tint, pattern in world.individuals.values():
        held_out.check(Scene(thing, tint, pattern, world.grounds[0]))
    for style in world.named_styles.values():
        held_out.check(Scene(world.trained_things[0], PLAIN, PLAIN, world.grounds[0], style))
    return world


@cache
def shipped_world() -> World:
    """The world that the shipped model was trained on."""
    return read_world()
