"""What is drawn and how it should look: lists fixed by seed, before any result."""

import random
from dataclasses import dataclass

from models.emoji.compose import CAPTION_WORDS, caption, scene_caption, style_words
from models.emoji.painters import Style
from models.emoji.world import PLAIN, Scene, World

SEED = 77
SEEN_PROMPTS = 200
INDIVIDUALS = 96
GROUNDS_A_SUBJECT = 4


@dataclass(frozen=True)
class Prompt:
    """A prompt and the scene that it asks for."""

    text: str
    scene: Scene


def seen_prompts(world: World) -> list[Prompt]:
    """Full captions of things and tints that were trained on."""
    rng = random.Random(SEED)
    found: list[Prompt] = []
    while len(found) < SEEN_PROMPTS:
        tint = rng.choice([*world.colors, *[PLAIN] * 4])
        pattern = rng.choice([PLAIN, PLAIN, PLAIN, *world.patterns])
        scene = Scene(rng.choice(world.trained_objects), tint, pattern, rng.choice(world.backgrounds))
        if (scene.object, scene.color) not in world.held_out.colored_objects:
            found.append(Prompt(scene_caption(scene), scene))
    return found


def held_out_prompts(world: World) -> list[Prompt]:
    """Held-out subjects in words."""
    rng = random.Random(SEED + 1)
    scenes = [
        Scene(*subject, ground)
        for subject in world.held_out.subjects
        for ground in rng.sample(world.backgrounds, GROUNDS_A_SUBJECT)
    ]
    return [Prompt(scene_caption(scene), scene) for scene in scenes]


def individual_prompts(world: World) -> list[Prompt]:
    """Individuals by their invented names."""
    rng = random.Random(SEED + 2)
    chosen = rng.sample(sorted(world.named_instances), INDIVIDUALS)
    grounds = [rng.choice(world.backgrounds) for _ in chosen]
    return [
        Prompt(caption(word, ground), Scene(*world.named_instances[word], ground))
        for word, ground in zip(chosen, grounds, strict=True)
    ]


def _in_style(style: Style, words: str, count: int, rng: random.Random, world: World) -> list[Prompt]:
    """Untinted things on any ground in a style."""
    found: list[Prompt] = []
    while len(found) < count:
        scene = Scene(rng.choice(world.trained_objects), PLAIN, PLAIN, rng.choice(world.backgrounds), style)
        text = caption(scene.object, scene.background, words)
        if len(text.split()) <= CAPTION_WORDS:
            found.append(Prompt(text, scene))
    return found


def style_word_prompts(world: World) -> list[Prompt]:
    """Each look by its word, and each pair of looks by its invented word."""
    rng = random.Random(SEED + 3)
    named = {look: (look, PLAIN) for look in world.color_filters} | {
        look: (PLAIN, look) for look in world.form_filters
    }
    named |= world.named_styles
    return [prompt for word, style in named.items() for prompt in _in_style(style, word, 8, rng, world)]


def held_out_style_prompts(world: World) -> list[Prompt]:
    """Pairs of looks that were never seen together, in words."""
    rng = random.Random(SEED + 4)
    styles = world.held_out.styles
    return [prompt for style in styles for prompt in _in_style(style, style_words(style), 16, rng, world)]


@dataclass(frozen=True)
class PromptLists:
    """All lists of the bar."""

    seen: list[Prompt]
    held_out: list[Prompt]
    individuals: list[Prompt]
    styles: list[Prompt]
    held_out_styles: list[Prompt]

    @classmethod
    def of(cls, world: World, most: int | None) -> "PromptLists":
        """The lists of a world, each cut to at most so many prompts; None for whole ones."""
        makers = (
            seen_prompts,
            held_out_prompts,
            individual_prompts,
            style_word_prompts,
            held_out_style_prompts,
        )
        return cls(*(make(world)[:most] for make in makers))
