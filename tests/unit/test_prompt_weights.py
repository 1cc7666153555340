"""Weights in prompts: A1111's syntax, on its own examples and on random nested brackets."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoodip_core.prompt_weights import WeightedText, parse_prompt, text_of

WORDS = st.text(alphabet="ab ,1.()[]\\<x>", min_size=1, max_size=6)  # ":1)" would be a weight
TREES = st.recursive(
    WORDS,
    lambda inner: st.tuples(
        st.sampled_from(["()", "[]", 0.5, 1.25]), st.lists(inner, min_size=1, max_size=3)
    ),
    max_leaves=12,
)


def _written(tree: Any) -> str:
    """Write a tree of brackets as a prompt; leaves are plain text with escapes."""
    if isinstance(tree, str):
        return "".join(f"\\{char}" if char in "()[]\\" else char for char in tree)
    kind, children = tree
    inside = "".join(_written(child) for child in children)
    return f"[{inside}]" if kind == "[]" else f"({inside})" if kind == "()" else f"({inside}:{kind})"


def _characters(tree: Any, weight: float = 1.0) -> list[tuple[str, float]]:
    """Return each character with the product of the weights of its brackets."""
    if isinstance(tree, str):
        return [(char, weight) for char in tree]
    kind, children = tree
    factor = {"()": 1.1, "[]": 1 / 1.1}.get(kind, kind)
    return [one for child in children for one in _characters(child, weight * factor)]


@given(st.lists(TREES, max_size=4))
def test_nested_brackets_multiply(trees: list[Any]) -> None:
    """Each character has the product of the weights of all brackets around it."""
    parts = parse_prompt("".join(_written(tree) for tree in trees), "weighted")
    found = [(char, part.weight) for part in parts for char in part.text]
    expected = [one for tree in trees for one in _characters(tree)]
    assert [char for char, _ in found] == [char for char, _ in expected]
    assert [weight for _, weight in found] == pytest.approx([weight for _, weight in expected])


@given(st.text(alphabet="ab ,:1.()[]\\<x>é", max_size=30))
def test_any_text_is_a_prompt(text: str) -> None:
    """Unbalanced brackets raise no error, neighbors differ in weight, and plain syntax changes nothing."""
    parts = parse_prompt(text, "weighted")
    assert parts
    assert all(a.weight != b.weight for a, b in itertools.pairwise(parts))
    assert parse_prompt(text, "plain") == (WeightedText(text, 1.0),)


@pytest.mark.parametrize(
    ("prompt", "parts"),
    [
        ("", [("", 1)]),
        ("normal text", [("normal text", 1)]),
        ("an (important) word", [("an ", 1), ("important", 1.1), (" word", 1)]),
        ("(unbalanced", [("unbalanced", 1.1)]),
        ("a) b] c:1.2)", [("a) b] c:1.2)", 1)]),
        ("\\(literal\\]", [("(literal]", 1)]),
        ("(unnecessary)(parens)", [("unnecessaryparens", 1.1)]),
        ("(a <my-dog>:1.2) [x]", [("a <my-dog>", 1.2), (" ", 1), ("x", 1 / 1.1)]),
        ("(a:1.2.3)", [("a:1.2.3", 1.1)]),
        (
            "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).",
            [
                *[("a ", 1), ("house", 1.573), (" ", 1.1), ("on", 1), (" a ", 1.1), ("hill", 0.55)],
                *[(", sun, ", 1.1), ("sky", 1.4641), (".", 1.1)],
            ],
        ),
    ],
)
def test_documented_examples(prompt: str, parts: list[tuple[str, float]]) -> None:
    """The examples that A1111 documents, and edge cases."""
    found = parse_prompt(prompt, "weighted")
    assert [part.text for part in found] == [text for text, _ in parts]
    assert [part.weight for part in found] == pytest.approx([weight for _, weight in parts])
    assert text_of(found) == " ".join(text for text, _ in parts)
