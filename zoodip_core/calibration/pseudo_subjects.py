"""Pseudo-subjects: objects and styles that a base model can draw from its own vocabulary. No torch."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from zoodip_core.base_models.vocabulary import Vocabulary
from zoodip_core.config import ConceptKind
from zoodip_core.errors import InvalidModelError

NOUNS = tuple(
    """
    cat dog rabbit fox bear panda tiger lion cow pig frog monkey penguin owl turtle snail crab octopus
    whale fish bee butterfly elephant unicorn horse sheep duck snake apple lemon banana watermelon
    strawberry grapes pineapple avocado carrot mushroom burger pizza cake car rocket clock house balloon
    guitar drum ghost bell gift teddy snowman chair lamp bottle bag boot hat vase bowl mug candle bicycle
    boat toy backpack
    """.split()  # noqa: SIM905 — one list of short words
)
COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "teal")
PATTERNS = ("", "striped", "spotted")
SCENES = (
    *("in the snow", "on the grass", "on the beach", "in the night", "by a brick wall", "on the wood"),
    *("on white", "on black", "on gray"),
)
STYLES = ("sepia", "negative", "faded", "pixelated", "framed", "watercolor", "cartoon", "sketch")
TONES = ("sepia", "negative", "faded", "blueprint", "watercolor", "cartoon")
FORMS = ("pixelated", "framed", "vignette", "posterised", "sketch")
MOST_PAIRS = 16
"""Most pairs of a tone and a form. A search for a style compares each of them with its initial token."""

START = "photo"
"""Word of the sentence that a style of one word starts from, because it has no noun."""
PICTURES = 4
"""Pictures of each pseudo-subject."""
MIN_NOUNS = 8
STYLE_EVERY = 8
"""One pseudo-subject in eight is a style, while the vocabulary has styles left."""


@dataclass(frozen=True)
class PseudoSubject:
    """Something that the base model draws and then learns.

    Attributes:
        phrase: its description, such as "striped red fox".
        kind: "object" or "style".
        initializer: the word that learning starts from: the bare noun of an object.
        templates: one sentence for each picture, with {} in place of the phrase.
    """

    phrase: str
    kind: ConceptKind
    initializer: str
    templates: tuple[str, ...]


def choose_subjects(
    vocabulary: Vocabulary, count: int, *, seed: int, excluded: Sequence[str] = ()
) -> list[PseudoSubject]:
    """Return different pseudo-subjects, the same ones for the same seed.

    Args:
        vocabulary: the base model's; only its single-token words are used.
        count: number of pseudo-subjects.
        seed: seed of the choice.
        excluded: lowercase phrases that no pseudo-subject may contain; the order of their words does not matter.

    Raises:
        InvalidModelError: the vocabulary has too few single-token nouns, or no colors, or too few scenes.
    """
    allowed = _allowed_by(vocabulary, excluded)
    nouns, scenes = choose_nouns(vocabulary, excluded), _at_least(PICTURES, SCENES, allowed, "scenes")
    rng = random.Random(seed)  # noqa: S311 — reproducible choice, not a secret
    objects = _object_phrases(nouns, allowed)
    rng.shuffle(objects)
    styles = [one for one in STYLES if allowed(one)]
    rng.shuffle(styles)
    wanted_styles = styles[: count // STYLE_EVERY]
    if len(objects) < count - len(wanted_styles):
        raise InvalidModelError.mismatch(
            "subjects",
            got=count,
            expected=f"at most {len(objects) + len(wanted_styles)} for this vocabulary and these exclusions",
        )
    found = [_style(style, START, nouns, scenes, rng) for style in wanted_styles]
    return [_object(phrase, scenes, rng) for phrase in objects[: count - len(found)]] + found


def choose_style_pairs(
    vocabulary: Vocabulary, *, seed: int, excluded: Sequence[str] = ()
) -> list[PseudoSubject]:
    """Return styles of two words, which are learned from their first word; none if the vocabulary has none.

    Args:
        vocabulary: the base model's; only its single-token words are used.
        seed: seed of the choice.
        excluded: lowercase phrases that no style may contain; the order of their words does not matter.

    Raises:
        InvalidModelError: the vocabulary has too few single-token nouns.
    """
    allowed = _allowed_by(vocabulary, excluded)
    nouns, scenes = choose_nouns(vocabulary, excluded), _at_least(PICTURES, SCENES, allowed, "scenes")
    phrases = [phrase for tone in TONES for form in FORMS if allowed(phrase := f"{tone} {form}")]
    rng = random.Random(f"style pairs {seed}")  # noqa: S311 — reproducible choice, not a secret
    rng.shuffle(phrases)
    return [_style(phrase, phrase.split()[0], nouns, scenes, rng) for phrase in phrases[:MOST_PAIRS]]


def weights(subjects: Sequence[PseudoSubject]) -> list[float]:
    """Return the weight of each pseudo-subject in a mean over all; the weights add up to 1.

    Styles weigh as much as one in eight, however few the vocabulary has.
    """
    styles = sum(subject.kind == "style" for subject in subjects)
    share = 1 / STYLE_EVERY if 0 < styles < len(subjects) else styles / len(subjects)
    return [
        share / styles if subject.kind == "style" else (1 - share) / (len(subjects) - styles)
        for subject in subjects
    ]


def choose_nouns(vocabulary: Vocabulary, excluded: Sequence[str] = ()) -> list[str]:
    """Return the nouns of the calibration's list that are single tokens and not excluded.

    Raises:
        InvalidModelError: there are too few.
    """
    allowed = _allowed_by(vocabulary, excluded)
    return _at_least(MIN_NOUNS, NOUNS, allowed, "single-token nouns")


def _allowed_by(vocabulary: Vocabulary, excluded: Sequence[str]) -> Callable[[str], bool]:
    """Return a test for phrases: only single-token words, and no excluded phrase."""
    banned = [frozenset(phrase.split()) for phrase in excluded]

    def allowed(phrase: str) -> bool:
        words = frozenset(phrase.split())
        return vocabulary.word_ids(phrase) is not None and not any(one <= words for one in banned)

    return allowed


def _at_least(least: int, words: Sequence[str], allowed: Callable[[str], bool], name: str) -> list[str]:
    """Return the allowed words of one of the calibration's lists; `name` says which.

    Raises:
        InvalidModelError: there are fewer than `least`.
    """
    found = [word for word in words if allowed(word)]
    if len(found) < least:
        raise InvalidModelError.mismatch(
            "base_model",
            got=f"a vocabulary with {len(found)} {name} of the calibration's list that are not excluded",
            expected=f"at least {least}",
        )
    return found


def _object_phrases(nouns: Sequence[str], allowed: Callable[[str], bool]) -> list[str]:
    """Return the allowed phrases of pattern, color and noun.

    Raises:
        InvalidModelError: there is no color.
    """
    colors = _at_least(1, COLORS, allowed, "colors")
    patterns = [one for one in PATTERNS if not one or allowed(one)]
    phrases = [
        f"{pattern} {color} {noun}".strip() for pattern in patterns for color in colors for noun in nouns
    ]
    return [phrase for phrase in phrases if allowed(phrase)]


def _object(phrase: str, scenes: Sequence[str], rng: random.Random) -> PseudoSubject:
    templates = tuple(f"a photo of a {{}} {scene}" for scene in rng.sample(scenes, PICTURES))
    return PseudoSubject(phrase, "object", phrase.split()[-1], templates)


def _style(
    style: str, initializer: str, nouns: Sequence[str], scenes: Sequence[str], rng: random.Random
) -> PseudoSubject:
    pairs = zip(rng.sample(nouns, PICTURES), rng.sample(scenes, PICTURES), strict=True)
    templates = tuple(f"a photo of a {noun} {scene} in {{}} style" for noun, scene in pairs)
    return PseudoSubject(style, "style", initializer, templates)
