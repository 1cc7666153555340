"""Prompts with the scenes that they should show: lists with a fixed seed."""

import random
from dataclasses import dataclass

from models.emoji.compose import CAPTION_WORDS, caption, scene_caption, style_words
from models.emoji.painters import Style
from models.emoji.world import PLAIN, Scene, World

SEED = 77
SEEN_PROMPTS = 200
NAMED_INSTANCES = 96
BACKGROUNDS_PER_SUBJECT = 4


@dataclass(frozen=True)
class Prompt:
    """A prompt and the scene that it should show."""

    text: str
    scene: Scene


def seen_prompts(world: World) -> list[Prompt]:
    """Return full captions of trained objects and colors."""
    rng = random.Random(SEED)
    found: list[Prompt] = []
    while len(found) < SEEN_PROMPTS:
        color = rng.choice([*world.colors, *[PLAIN] * 4])
        pattern = rng.choice([PLAIN, PLAIN, PLAIN, *world.patterns])
        scene = Scene(rng.choice(world.trained_objects), color, pattern, rng.choice(world.backgrounds))
        if (scene.object, scene.color) not in world.held_out.colored_objects:
            found.append(Prompt(scene_caption(scene), scene))
    return found


def held_out_prompts(world: World) -> list[Prompt]:
    """Return captions of held-out subjects."""
    rng = random.Random(SEED + 1)
    scenes = [
        Scene(*subject, ground)
        for subject in world.held_out.subjects
        for ground in rng.sample(world.backgrounds, BACKGROUNDS_PER_SUBJECT)
    ]
    return [Prompt(scene_caption(scene), scene) for scene in scenes]


def named_instance_prompts(world: World) -> list[Prompt]:
    """Return captions that use the invented names of instances."""
    rng = random.Random(SEED + 2)
    chosen = rng.sample(sorted(world.named_instances), NAMED_INSTANCES)
    grounds = [rng.choice(world.backgrounds) for _ in chosen]
    return [
        Prompt(caption(word, ground), Scene(*world.named_instances[word], ground))
        for word, ground in zip(chosen, grounds, strict=True)
    ]


def _in_style(style: Style, words: str, count: int, rng: random.Random, world: World) -> list[Prompt]:
    """Return captions of plain objects on any background in a style."""
    found: list[Prompt] = []
    while len(found) < count:
        scene = Scene(rng.choice(world.trained_objects), PLAIN, PLAIN, rng.choice(world.backgrounds), style)
        text = caption(scene.object, scene.background, words)
        if len(text.split()) <= CAPTION_WORDS:
            found.append(Prompt(text, scene))
    return found


def style_word_prompts(world: World) -> list[Prompt]:
    """Return captions of each filter by its word, and of each named pair of filters."""
    rng = random.Random(SEED + 3)
    named = {name: (name, PLAIN) for name in world.color_filters} | {
        name: (PLAIN, name) for name in world.form_filters
    }
    named |= world.named_styles
    return [prompt for word, style in named.items() for prompt in _in_style(style, word, 8, rng, world)]


def held_out_style_prompts(world: World) -> list[Prompt]:
    """Return captions of pairs of filters that were never trained together."""
    rng = random.Random(SEED + 4)
    styles = world.held_out.styles
    return [prompt for style in styles for prompt in _in_style(style, style_words(style), 16, rng, world)]


@dataclass(frozen=True)
class PromptLists:
    """All prompt lists."""

    seen: list[Prompt]
    held_out: list[Prompt]
    named_instances: list[Prompt]
    styles: list[Prompt]
    held_out_styles: list[Prompt]

    @classmethod
    def of(cls, world: World, most: int | None) -> "PromptLists":
        """Return the lists of a world, each with at most `most` prompts; None for all."""
        makers = (
            seen_prompts,
            held_out_prompts,
            named_instance_prompts,
            style_word_prompts,
            held_out_style_prompts,
        )
        return cls(*(make(world)[:most] for make in makers))
