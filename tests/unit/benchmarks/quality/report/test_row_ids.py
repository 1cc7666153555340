"""Row ids and drawing seeds are fixed by literal values: renaming a class or a field changes none of them."""

from __future__ import annotations

from pathlib import Path

from benchmarks.quality.anchors import _seed_text
from benchmarks.quality.cases.prompts import ID_ATTRIBUTES, Prompt, prompt_facts
from benchmarks.quality.metrics import Instruments
from benchmarks.quality.report.rows import row_id
from benchmarks.quality.run import BenchmarkSetup, Selection
from models.emoji.judge import ATTRIBUTES
from models.emoji.world import Scene
from zoodip_core.base_models.catalog import BaseModelEntry

SCENE = Scene("bee", "orange", "spotted", "on the grass", ("sepia", ""))
PROMPT = Prompt("a photo of a orange {} on the grass", SCENE, 1)
FACTS = {
    "template": "a photo of a orange {} on the grass",
    "thing": "bee",
    "tint": "orange",
    "pattern": "spotted",
    "ground": "on the grass",
    "style": ["sepia", ""],
    "changed": "tint",
}


def test_a_prompt_gives_these_facts_and_this_id() -> None:
    """A golden id: if it changes, every published row is lost."""
    assert prompt_facts(PROMPT) == FACTS
    assert row_id(prompt_facts(PROMPT)) == "d5eea3d80bb948b3dc4ba8ca"


def test_the_order_of_facts_does_not_matter() -> None:
    """The id hashes sorted JSON."""
    assert row_id(dict(reversed(FACTS.items()))) == row_id(FACTS)


def test_every_column_of_the_judge_has_a_fixed_name() -> None:
    """A new column needs a name in row ids."""
    assert len(ID_ATTRIBUTES) == len(ATTRIBUTES)


def test_a_case_gives_these_facts(entry: BaseModelEntry, tools: Instruments, tmp_path: Path) -> None:
    """The keys and values that a row id takes from the selection."""
    stage = BenchmarkSetup(
        entry, Selection(tmp_path, subjects=1, prompts=1, pictures=2), tools, lambda _: None
    )
    vae = stage.bundles.drawing["vae"]
    assert stage.facts(0) == {
        "kind": "subjects",
        "case": "spotted teal bee",
        "prompts": [
            {
                "template": "a photo of a {} in the snow",
                "thing": "bee",
                "tint": "teal",
                "pattern": "spotted",
                "ground": "in the snow",
                "style": ["", ""],
                "changed": None,
            }
        ],
        "pictures": 2,
        "drawing": {"steps": 2, "guidance_scale": 1.5, "vae": vae},
        "instruments": "stand-ins",
    }


def test_composed_pictures_keep_their_seeds() -> None:
    """The text that seeds a composed picture is the one that the published figures were measured with."""
    expected = (
        "Scene(thing='bee', tint='orange', pattern='spotted', ground='on the grass', style=('sepia', ''))"
    )
    assert _seed_text(SCENE) == expected
