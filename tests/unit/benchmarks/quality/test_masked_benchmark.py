"""The benchmark of the masked loss: references that differ only in background and mask, and its table."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.quality.cases.subjects import make_cases
from benchmarks.quality.cli import embedded_model
from benchmarks.quality.masked import Arm, Options, references, run
from benchmarks.quality.metrics import Instruments
from models.emoji.world import shipped_world


def test_the_arms_differ_only_in_background_and_mask() -> None:
    """The object is at the same place in all arms; a cutout is white around it; the mask is its opacity."""
    world = shipped_world()
    (case,) = make_cases(world, "subjects", "validation", 1)
    plain, masked, faint, cutout = (
        references(case, 0, world, Arm(source, outside))
        for source, outside in (
            ("photos", None),
            ("photos", 0.0),
            ("photos", 0.1),
            ("cutouts on white", None),
        )
    )
    for photo, with_mask, with_floor, on_white in zip(plain, masked, faint, cutout, strict=True):
        opacity = np.asarray(with_mask.getchannel("A"))
        assert with_mask.convert("RGB") == photo == with_floor.convert("RGB")
        assert (opacity.min(), opacity.max()) == (0, 255)
        assert np.asarray(with_floor.getchannel("A")).min() == 26
        inside, outside = opacity == 255, opacity == 0
        assert (np.asarray(photo)[inside] == np.asarray(on_white)[inside]).all()
        assert (np.asarray(on_white)[outside] == 255).all()
        assert not (np.asarray(photo)[outside] == 255).all()


@pytest.mark.slow
def test_a_line_for_each_arm(tools: Instruments) -> None:
    """Photos and cutouts, each without a mask and with each weight; the rows without a mask have no difference."""
    entry = embedded_model().model_copy(update={"steps": 1})
    options = Options(subjects=1, seeds=1, forwards=5, prompts=1, pictures=1, outside=(0,))
    lines = run(entry, tools, options, "cpu").splitlines()[2:]
    assert [line.split(" | ")[:2] for line in lines] == [
        ["| photos", "all pixels"],
        ["| photos", "masked, 0 outside"],
        ["| cutouts on white", "all pixels"],
        ["| cutouts on white", "masked, 0 outside"],
    ]
    assert [line.split(" | ")[3] == "–" for line in lines] == [True, False, True, False]
