"""Pseudo-subjects: drawn from the vocabulary, reproducible, and without excluded names."""

import pytest

from models.emoji.held_out import held_out_phrases
from models.emoji.world import shipped_world
from zoodip_core.base_models.catalog import Catalog
from zoodip_core.base_models.fingerprint import weights_fingerprint
from zoodip_core.base_models.vocabulary import Vocabulary, vocabulary
from zoodip_core.calibration.pseudo_subjects import (
    COLORS,
    FORMS,
    MOST_PAIRS,
    NOUNS,
    SCENES,
    STYLES,
    TONES,
    choose_style_pairs,
    choose_subjects,
    weights,
)
from zoodip_core.calibration_file import Calibration
from zoodip_core.errors import InvalidModelError


def emoji() -> Vocabulary:
    """Return the vocabulary of the embedded model."""
    folder = Catalog.load().get("emoji").path
    assert folder is not None
    return vocabulary(folder)


def test_subjects_are_reproducible_and_different() -> None:
    """The same seed gives the same subjects; every phrase is new and consists of single tokens."""
    found = choose_subjects(emoji(), 24, seed=3)
    assert found == choose_subjects(emoji(), 24, seed=3) != choose_subjects(emoji(), 24, seed=4)
    assert len({subject.phrase for subject in found}) == 24
    assert {subject.kind for subject in found} == {"object", "style"}
    assert all(emoji().word_ids(subject.phrase) for subject in found)
    assert all(len(set(subject.templates)) == 4 for subject in found)


def test_excluded_words_match_in_any_order_around_other_words() -> None:
    """A phrase is left out if it contains all words of an excluded one."""
    found = choose_subjects(emoji(), 300, seed=0, excluded=["red fox", "bear"])
    words = [set(subject.phrase.split()) for subject in found]
    assert not any({"red", "fox"} <= one or "bear" in one for one in words)
    assert any("fox" in one for one in words)


def test_vocabulary_without_nouns_is_refused() -> None:
    """A tokenizer that splits every word cannot name pseudo-subjects."""
    letters = Vocabulary(emoji().tokenizer, frozenset({*NOUNS}))
    with pytest.raises(InvalidModelError, match=r"a vocabulary with 0 single-token nouns .* not excluded;"):
        choose_subjects(letters, 4, seed=0)


@pytest.mark.parametrize(
    ("excluded", "error"),
    [
        (COLORS, "base_model: got a vocabulary with 0 colors .* that are not excluded; expected at least 1"),
        (
            SCENES[3:],
            "base_model: got a vocabulary with 3 scenes .* that are not excluded; expected at least 4",
        ),
    ],
)
def test_vocabulary_without_colors_or_scenes_is_refused(excluded: tuple[str, ...], error: str) -> None:
    """A pseudo-subject needs a color and four scenes."""
    with pytest.raises(InvalidModelError, match=error):
        choose_subjects(emoji(), 4, seed=0, excluded=excluded)


def test_more_subjects_than_phrases_are_refused() -> None:
    """The error says how many the vocabulary allows."""
    with pytest.raises(InvalidModelError, match=r"got 100000; expected at most .* and these exclusions"):
        choose_subjects(emoji(), 100_000, seed=0)


def is_held_out(phrase: str) -> bool:
    """Return whether a phrase names something that EmojiBooth holds out."""
    held, words = shipped_world().held_out, set(phrase.split())
    pairs = [set(style) for style in held.styles] + [{one, color} for one, color in held.colored_objects]
    return bool(words & set(held.shapes)) or any(pair <= words for pair in pairs)


def test_styles_weigh_one_eighth_however_few_there_are() -> None:
    """The vocabulary has five styles of the list, so a large choice holds a smaller share of them."""
    for count in (6, 32, 128):
        subjects = choose_subjects(emoji(), count, seed=0)
        found = weights(subjects)
        styles = [one for one, subject in zip(found, subjects, strict=True) if subject.kind == "style"]
        assert sum(found) == pytest.approx(1)
        assert sum(styles) == pytest.approx(1 / 8 if styles else 0)
    assert len(styles) == 5
    assert weights(subjects[-2:]) == [0.5, 0.5]


def test_style_pairs_start_from_their_first_word() -> None:
    """They are reproducible, different, and at most as many as a search compares."""
    found = choose_style_pairs(emoji(), seed=0)
    assert found == choose_style_pairs(emoji(), seed=0) != choose_style_pairs(emoji(), seed=1)
    assert len(found) == len({pair.phrase for pair in found}) == MOST_PAIRS
    for pair in found:
        tone, form = pair.phrase.split()
        assert (pair.initializer, tone in TONES, form in FORMS, pair.kind) == (tone, True, True, "style")
        assert len({template.replace("{}", pair.phrase) for template in pair.templates}) == 4
    held = held_out_phrases(shipped_world().held_out)
    kept = choose_style_pairs(emoji(), seed=0, excluded=held)
    assert len(kept) == 12
    assert not [pair.phrase for pair in kept if is_held_out(pair.phrase)]


def test_vocabulary_without_style_words_has_no_pairs() -> None:
    """A base model that knows no such word is calibrated without them."""
    assert choose_style_pairs(emoji(), seed=0, excluded=TONES) == []


def test_word_list_names_no_held_out_shape_or_style() -> None:
    """Held-out shapes are not in the list, and styles are single words."""
    assert not set(NOUNS) & set(shipped_world().held_out.shapes)
    assert all(" " not in style for style in STYLES)


def test_excluding_the_held_out_names_leaves_none() -> None:
    """With EmojiBooth's held-out subjects, shapes and styles excluded, no pseudo-subject contains one of them."""
    excluded = held_out_phrases(shipped_world().held_out)
    assert is_held_out("striped pink tiger")
    assert any(is_held_out(subject.phrase) for subject in choose_subjects(emoji(), 600, seed=0))
    found = choose_subjects(emoji(), 600, seed=0, excluded=excluded)
    assert not [subject.phrase for subject in found if is_held_out(subject.phrase)]


def test_shipped_calibration_belongs_to_the_model_and_names_nothing_held_out() -> None:
    """The catalog finds the file of the embedded model, and EmojiBooth's held-out names are not in its subjects."""
    entry = Catalog.load().get("emoji")
    assert entry.path is not None
    assert entry.calibration is not None
    shipped = Calibration.load(
        entry.calibration, weights_fingerprint=weights_fingerprint(entry.path), dimensions=192, statistics=32
    )
    assert (len(shipped.provenance["subjects"]), len(shipped.scales)) == (128, 64)
    assert shipped.style_displacements is not None
    pairs = shipped.provenance["style_pairs"]
    assert len(shipped.style_displacements) == len(pairs) + 5
    named = [*shipped.provenance["subjects"], *pairs, *shipped.provenance["nouns"]]
    assert not [phrase for phrase in named if is_held_out(phrase)]
