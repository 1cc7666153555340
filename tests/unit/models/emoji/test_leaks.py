"""Training captions and pictures contain no held-out item: an exhaustive walk over the sampler's choices."""

import dataclasses
import random
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest

from models.emoji.compose import sample_scene
from models.emoji.errors import LeakError
from models.emoji.train.clip import sample_claim
from models.emoji.world import HeldOut, Scene, World, shipped_world

pytestmark = pytest.mark.slow

BELOW, ABOVE = 0.0, 1 - 2**-53  # both outcomes of `random() < share` for every share between 0 and 1


class ResampledError(Exception):
    """The sampler rejected an object and samples again, which another path covers."""


class Path(random.Random):
    """Random source that follows a path of branch numbers and takes the first branch after its end."""

    def __init__(self, world: World, taken: list[int]) -> None:
        super().__init__(0)
        self.world, self.taken, self.widths, self.objects = world, taken, [], 0

    def _branch(self, width: int) -> int:
        self.widths.append(width)
        if len(self.widths) > len(self.taken):
            self.taken.append(0)
        return self.taken[len(self.widths) - 1]

    def random(self) -> float:
        """Return a number below or above every share."""
        return (BELOW, ABOVE)[self._branch(2)]

    def choice(self, seq: Any) -> Any:
        """Return the item of the path's branch."""
        self.objects += tuple(seq) == self.world.trained_objects
        if self.objects > 1:
            raise ResampledError
        return seq[self._branch(len(seq))]


def every_draw(world: World) -> Iterator[tuple[Scene, str]]:
    """Yield the scene and caption of every path through the sampler."""
    taken: list[int] = []
    while True:
        path = Path(world, taken)
        with suppress(ResampledError):
            yield sample_scene(path, world)
        while taken and taken[-1] + 1 == path.widths[len(taken) - 1]:
            taken.pop()
        if not taken:
            return
        taken[-1] += 1


def named(text: str, held: HeldOut) -> list[str]:
    """Return the held-out items that a caption names."""
    words = text.split()
    found = [shape for shape in held.shapes if shape in words]
    following = set(pairwise(words))
    found += [f"{color} {name}" for name, color in held.colored_objects if (color, name) in following]
    return found + [f"{color} {form}" for color, form in held.styles if color in words and form in words]


def shown(scene: Scene, held: HeldOut) -> bool:
    """Return whether a picture shows a held-out shape, pair of object and color, or pair of filters."""
    colored = any((scene.object, scene.color) == (name, color) for name, color, _ in held.subjects)
    return scene.object in held.shapes or colored or scene.style in held.styles


@pytest.fixture(scope="module")
def world() -> World:
    """Return the shipped world with two backgrounds (one of them the longest) and one pattern.

    Backgrounds and patterns are never held out, so fewer of them keep the walk complete.
    """
    whole = shipped_world()
    return dataclasses.replace(
        whole,
        plain_backgrounds={"red": whole.colors["red"]},
        painted_backgrounds=("by a brick wall",),
        patterns=whole.patterns[:1],
    )


@pytest.fixture(scope="module")
def draws(world: World) -> set[tuple[Scene, str]]:
    """Return everything that the sampler can produce with two backgrounds."""
    return set(every_draw(world))


def test_the_walk_covers_the_training_world(world: World, draws: set[tuple[Scene, str]]) -> None:
    """The paths cover every allowed object, color, pattern and style, and every named instance."""
    subjects = {(scene.object, scene.color, scene.pattern) for scene, _ in draws}
    allowed = {
        (name, color, pattern)
        for name in world.trained_objects
        for color in ("", *world.colors)
        for pattern in ("", *world.patterns)
        if (name, color) not in world.held_out.colored_objects
    }
    assert subjects == allowed | set(world.named_instances.values())
    assert {scene.style for scene, _ in draws} == {("", ""), *world.trained_styles}
    words = {word for _, text in draws for word in text.split()}
    assert words >= {*world.named_instances, *world.named_styles}


def test_no_path_contains_a_held_out_item(world: World, draws: set[tuple[Scene, str]]) -> None:
    """No scene and no caption of any path has a held-out item."""
    held = world.held_out
    assert not [scene for scene, _ in draws if shown(scene, held)]
    assert not [(text, found) for text in {text for _, text in draws} if (found := named(text, held))]


def test_no_caption_of_the_clip_pair_names_a_held_out_item(
    world: World, draws: set[tuple[Scene, str]]
) -> None:
    """The captions that the CLIP pair is trained on name no held-out item, for every kind of caption."""
    scenes = {scene for scene, _ in draws if scene.background == "on red"}
    some = [one for one in scenes if one.style == ("", "") or (one.object, one.color) == ("cat", "teal")]

    class Kind(random.Random):
        """Random source that selects one kind of claim."""

        def __init__(self, value: float) -> None:
            super().__init__(0)
            self.value = value

        def random(self) -> float:
            """Return the number of the kind."""
            return self.value

    for scene in some:
        for kind in (0.0, 0.35, 0.5, 0.7, 0.95):
            assert not named(sample_claim(scene, world, Kind(kind)).text, world.held_out)


def test_backgrounds_have_no_held_out_word() -> None:
    """No background has a word of an object, pattern or filter, so two backgrounds are enough for the walk."""
    world = shipped_world()
    others = {
        *world.patterns,
        *world.held_out.shapes,
        *world.objects,
        *world.color_filters,
        *world.form_filters,
    }
    for background in world.backgrounds:
        assert not others & set(background.split())


def test_the_walk_finds_a_leak(world: World) -> None:
    """The walk finds a shape that was removed from the held-out list."""
    held = world.held_out
    leaky = dataclasses.replace(world, held_out=dataclasses.replace(held, shapes=held.shapes[1:]))
    paths = every_draw(leaky)
    assert any(named(text, held) and shown(scene, held) for scene, text in paths)


def test_the_sampler_refuses_a_held_out_scene(world: World) -> None:
    """A held-out named instance raises an error when its scene is sampled."""
    subject = world.held_out.subjects[0]
    leaky = dataclasses.replace(world, named_instances={"bamu": subject})
    with pytest.raises(LeakError, match="held out of all training"):
        list(every_draw(leaky))
