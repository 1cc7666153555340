"""No training caption or picture holds what is held out: every path through the sampler is walked."""

import dataclasses
import random
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest

from models.emoji.compose import drawn_scene
from models.emoji.errors import LeakError
from models.emoji.train.clip import sampled_claim
from models.emoji.world import HeldOut, Scene, World, shipped_world

BELOW, ABOVE = 0.0, 1 - 2**-53  # the outcomes of `random() < share` for every share between 0 and 1


class DrawnAgainError(Exception):
    """The sampler refused a thing and draws again: all that follows is on another path already."""


class Path(random.Random):
    """Draws that follow a path: at each draw the number of the branch to take, the first one beyond its end."""

    def __init__(self, world: World, taken: list[int]) -> None:
        super().__init__(0)
        self.world, self.taken, self.widths, self.things = world, taken, [], 0

    def _branch(self, width: int) -> int:
        self.widths.append(width)
        if len(self.widths) > len(self.taken):
            self.taken.append(0)
        return self.taken[len(self.widths) - 1]

    def random(self) -> float:
        """Below every share, or above."""
        return (BELOW, ABOVE)[self._branch(2)]

    def choice(self, seq: Any) -> Any:
        """Each of the items."""
        self.things += tuple(seq) == self.world.trained_things
        if self.things > 1:
            raise DrawnAgainError
        return seq[self._branch(len(seq))]


def every_draw(world: World) -> Iterator[tuple[Scene, str]]:
    """What the sampler gives on each of its paths."""
    taken: list[int] = []
    while True:
        path = Path(world, taken)
        with suppress(DrawnAgainError):
            yield drawn_scene(path, world)
        while taken and taken[-1] + 1 == path.widths[len(taken) - 1]:
            taken.pop()
        if not taken:
            return
        taken[-1] += 1


def named(text: str, held: HeldOut) -> list[str]:
    """What of the held-out things a caption names."""
    words = text.split()
    found = [shape for shape in held.shapes if shape in words]
    following = set(pairwise(words))
    found += [f"{tint} {thing}" for thing, tint in held.tinted_things if (tint, thing) in following]
    return found + [f"{colour} {form}" for colour, form in held.styles if colour in words and form in words]


def shown(scene: Scene, held: HeldOut) -> bool:
    """Whether a picture shows a held-out shape, thing × tint or pair of looks."""
    tinted = any((scene.thing, scene.tint) == (thing, tint) for thing, tint, _ in held.subjects)
    return scene.thing in held.shapes or tinted or scene.style in held.styles


@pytest.fixture(scope="module")
def world() -> World:
    """The shipped world on two grounds, the longest among them, with one pattern: those are never held out."""
    whole = shipped_world()
    return dataclasses.replace(
        whole,
        plain_grounds={"red": whole.tints["red"]},
        scenes=("by a brick wall",),
        patterns=whole.patterns[:1],
    )


@pytest.fixture(scope="module")
def draws(world: World) -> set[tuple[Scene, str]]:
    """All that the sampler can give on two grounds."""
    return set(every_draw(world))


def test_the_walk_reaches_all_that_may_be_trained_on(world: World, draws: set[tuple[Scene, str]]) -> None:
    """The paths cover every allowed thing × tint × pattern with every allowed style, and every individual."""
    looks = {(scene.thing, scene.tint, scene.pattern) for scene, _ in draws}
    allowed = {
        (thing, tint, pattern)
        for thing in world.trained_things
        for tint in ("", *world.tints)
        for pattern in ("", *world.patterns)
        if (thing, tint) not in world.held_out.tinted_things
    }
    assert looks == allowed | set(world.individuals.values())
    assert {scene.style for scene, _ in draws} == {("", ""), *world.trained_styles}
    words = {word for _, text in draws for word in text.split()}
    assert words >= {*world.individuals, *world.named_styles}


def test_no_path_of_the_sampler_shows_or_names_what_is_held_out(
    world: World, draws: set[tuple[Scene, str]]
) -> None:
    """Not one of all scenes and captions holds a held-out shape, thing × tint or pair of looks."""
    held = world.held_out
    assert not [scene for scene, _ in draws if shown(scene, held)]
    assert not [(text, found) for text in {text for _, text in draws} if (found := named(text, held))]


def test_no_caption_of_the_scoring_pair_names_what_is_held_out(
    world: World, draws: set[tuple[Scene, str]]
) -> None:
    """The captions that the CLIP pair is trained on, of every kind, name nothing held out either."""
    scenes = {scene for scene, _ in draws if scene.ground == "on red"}
    some = [one for one in scenes if one.style == ("", "") or (one.thing, one.tint) == ("cat", "teal")]

    class Kind(random.Random):
        """A claim of one kind."""

        def __init__(self, value: float) -> None:
            super().__init__(0)
            self.value = value

        def random(self) -> float:
            """The kind."""
            return self.value

    for scene in some:
        for kind in (0.0, 0.35, 0.5, 0.7, 0.95):
            assert not named(sampled_claim(scene, world, Kind(kind)).text, world.held_out)


def test_the_grounds_say_nothing_of_what_is_held_out() -> None:
    """No ground, of all of them, brings a held-out word: so two grounds stand for all in the walk."""
    world = shipped_world()
    others = {*world.patterns, *world.held_out.shapes, *world.things, *world.colour_looks, *world.form_looks}
    for ground in world.grounds:
        assert not others & set(ground.split())


def test_a_leak_in_the_sampler_would_be_found(world: World) -> None:
    """Had the lists lost a held-out shape, the walk would meet it: the proof is not empty."""
    held = world.held_out
    leaky = dataclasses.replace(world, held_out=dataclasses.replace(held, shapes=held.shapes[1:]))
    paths = every_draw(leaky)
    assert any(named(text, held) and shown(scene, held) for scene, text in paths)


def test_a_scene_that_is_held_out_stops_the_sampler(world: World) -> None:
    """An individual that is held out, which the lists' own check missed, stops the composing of its picture."""
    subject = world.held_out.subjects[0]
    leaky = dataclasses.replace(world, individuals={"bamu": subject})
    with pytest.raises(LeakError, match="held out of all training"):
        list(every_draw(leaky))
