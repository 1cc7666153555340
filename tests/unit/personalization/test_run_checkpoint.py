"""Checkpoint of a run: what may differ on resume, what the error says, and extended searches with the same bits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from zoodip_core.config import PersonalizationSettings
from zoodip_core.diffusion.loading import Bundle
from zoodip_core.errors import InvalidCheckpointError
from zoodip_core.personalization.checkpoint import identity, save_checkpoint
from zoodip_core.personalization.concept_conversion import to_concept
from zoodip_core.personalization.personalize import Personalization
from zoodip_core.personalization.run import run_search
from zoodip_core.personalization.run_checkpoint import RunCheckpoint
from zoodip_core.personalization.run_facts import RunFacts
from zoodip_core.personalization.subject import Subject

DOG = Subject("<x>", "dog")
CAPTIONED = replace(DOG, captions=("a <x>", "a red <x>", "a <x> at night"))


def _settings(**values: Any) -> PersonalizationSettings:
    quick = {"steps": 6, "n": 1, "tau": 2, "fixed_rows": 2, "measure_every": 2, "checkpoint_every": 2}
    return PersonalizationSettings.parse(quick | values)


class _Run:
    """A run with a checkpoint in a folder."""

    def __init__(self, folder: Path, bundle: Bundle, pictures: list[Image.Image], **values: Any) -> None:
        self.settings = _settings(**values)
        self._inputs = (bundle, DOG, pictures, self.settings)
        self.checkpoint = RunCheckpoint(folder / "x.checkpoint.safetensors", *self._inputs)

    def start(self, *, resume: bool = False) -> Personalization:
        """Start the search, or restore it."""
        return Personalization.begin(*self._inputs, self.checkpoint.load() if resume else None)

    def run(self, *, resume: bool = False, stop_at: int | None = None) -> Personalization:
        """Run the search to its end or to a step, and save it."""
        search = self.start(resume=resume)
        outcome = run_search(
            search,
            on_progress=lambda _: None,
            save=lambda p: self.checkpoint.save(p.state()),
            should_stop=lambda: search.step == stop_at,
        )
        if outcome.finished:
            self.checkpoint.save(search.state(), finished=True)
        return search


@pytest.mark.slow
@pytest.mark.parametrize("stop_at", [None, 3, 4])
@pytest.mark.parametrize("stop", ["steps", "auto"])
def test_an_extended_search_equals_a_long_one(
    tmp_path: Path, bundles: dict[str, Bundle], pictures: list[Image.Image], stop_at: int | None, stop: str
) -> None:
    """A finished or interrupted search of 6 steps continues to 10, with the bits of 10 steps at once."""
    bundle = bundles["sd1"]
    _Run(tmp_path, bundle, pictures, stop=stop).run(stop_at=stop_at)
    extended = _Run(tmp_path, bundle, pictures, stop=stop, steps=10).run(resume=True)
    (tmp_path / "whole").mkdir()
    whole = _Run(tmp_path / "whole", bundle, pictures, stop=stop, steps=10).run()
    assert extended.step == whole.step == 10
    assert all(torch.equal(value, whole.state()[name]) for name, value in extended.state().items())
    assert len(extended.fixed_losses) == 5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("values", "end"),
    [
        ({"stop": "auto", "steps": 12}, 5),
        ({"stop": "auto", "steps": 40}, 10),
        ({"stop": "steps", "steps": 7}, 7),
    ],
)
def test_a_search_that_stopped_early_is_extended_by_the_same_rule(
    tmp_path: Path, bundles: dict[str, Bundle], pictures: list[Image.Image], values: dict[str, Any], end: int
) -> None:
    """More steps move the first quarter, in which a search never stops; `stop="steps"` runs all steps."""
    stalling = {"learning_rate": 1e-9, "measure_every": 1}
    early = _Run(tmp_path, bundles["sd1"], pictures, **stalling, stop="auto", steps=8).run()
    assert early.step == 5
    extended = _Run(tmp_path, bundles["sd1"], pictures, **stalling, **values).run(resume=True)
    (tmp_path / "whole").mkdir()
    whole = _Run(tmp_path / "whole", bundles["sd1"], pictures, **stalling, **values).run()
    assert extended.step == whole.step == end
    assert all(torch.equal(value, whole.state()[name]) for name, value in extended.state().items())


@pytest.mark.slow
def test_an_interrupted_search_can_end_earlier(
    tmp_path: Path, bundles: dict[str, Bundle], pictures: list[Image.Image]
) -> None:
    """Fewer steps are allowed, down to the completed ones."""
    bundle = bundles["sd1"]
    _Run(tmp_path, bundle, pictures, steps=9).run(stop_at=3)
    shortened = _Run(tmp_path, bundle, pictures, steps=5).run(resume=True)
    (tmp_path / "whole").mkdir()
    whole = _Run(tmp_path / "whole", bundle, pictures, steps=5).run()
    assert torch.equal(shortened.search.theta, whole.search.theta)


def test_a_finished_run_resumes_without_a_step(
    tmp_path: Path, bundles: dict[str, Bundle], pictures: list[Image.Image]
) -> None:
    """With the same steps nothing is left to do, and the result is the same."""
    finished = _Run(tmp_path, bundles["sd1"], pictures, steps=2).run()
    again = _Run(tmp_path, bundles["sd1"], pictures, steps=2).run(resume=True)
    assert again.step == 2
    assert torch.equal(again.search.theta, finished.search.theta)


@pytest.mark.parametrize(
    ("before", "after", "step", "message"),
    [
        (
            {"learning_rate": 0.02},
            {"learning_rate": 0.01},
            1,
            "learning_rate: got 0.01; the checkpoint has 0.02",
        ),
        ({}, {"steps": 2}, 3, "steps: got 2; expected at least 3, the completed steps of the checkpoint"),
        (
            {"learning_rate_schedule": "cosine"},
            {"learning_rate_schedule": "cosine", "steps": 9},
            1,
            "steps: got 9; expected 6, because the learning rate of 'cosine' depends on it",
        ),
        (
            {"stop": "auto"},
            {"stop": "auto", "steps": 5},
            1,
            "steps: got 5; expected at least 6, because stop='auto' depends on it",
        ),
        (
            {},
            {"stop": "auto"},
            1,
            "stop: got 'auto'; the checkpoint has 'steps', and an earlier stop was never considered",
        ),
        (
            {"n": 2, "seed": 3},
            {"n": 1, "seed": 4},
            1,
            "seed: got 4; the checkpoint has 3. n: got 1; the checkpoint has 2",
        ),
    ],
)
def test_the_error_names_each_setting_that_differs(
    tmp_path: Path,
    bundles: dict[str, Bundle],
    pictures: list[Image.Image],
    before: dict[str, Any],
    after: dict[str, Any],
    step: int,
    message: str,
) -> None:
    """One clause for each setting, with both values or the rule."""
    first = _Run(tmp_path, bundles["sd1"], pictures, **before)
    first.checkpoint.save({"step": torch.tensor(step)})
    path = first.checkpoint.path
    with pytest.raises(InvalidCheckpointError) as error:
        _Run(tmp_path, bundles["sd1"], pictures, **after).checkpoint.load()
    assert error.value.message == (
        f"checkpoint: {path} (step {step} of 6) cannot be resumed with these values. {message}. "
        "Resume with the values of the checkpoint, or start a new run"
    )
    assert error.value.field == message.partition(":")[0]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"steps": 9}),
        ({}, {"steps": 5}),
        ({}, {"checkpoint_every": 50}),
        ({"stop": "auto"}, {"stop": "auto", "steps": 9}),
        ({"stop": "auto"}, {"stop": "steps"}),
        ({"stop": "auto"}, {"stop": "steps", "steps": 5}),
        ({"learning_rate_schedule": "cosine"}, {"learning_rate_schedule": "cosine"}),
    ],
)
def test_settings_that_may_differ(
    tmp_path: Path,
    bundles: dict[str, Bundle],
    pictures: list[Image.Image],
    before: dict[str, Any],
    after: dict[str, Any],
) -> None:
    """Settings that leave the completed steps as they are can change."""
    _Run(tmp_path, bundles["sd1"], pictures, **before).checkpoint.save({"step": torch.tensor(3)})
    assert _Run(tmp_path, bundles["sd1"], pictures, **after).checkpoint.load()["step"] == 3


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"token": "<y>"}, "token: got '<y>'; the checkpoint has '<x>'"),
        ({"initializer": "cat"}, "initializer: got 'cat'; the checkpoint has 'dog'"),
        ({"kind": "style"}, "kind: got 'style'; the checkpoint has 'object'"),
        ({"base_model": "other"}, "base_model: got 'other'; the checkpoint has "),
        ({"precision": "nf4"}, "precision: got 'nf4'; the checkpoint has 'fp32'"),
        ({"captions": None}, "captions[0]: got none; the checkpoint has 'a <x>'"),
        (
            {"captions": ("a <x>", "a <x>", "a <x> at night")},
            "captions[1]: got 'a <x>'; the checkpoint has 'a red <x>'",
        ),
    ],
)
def test_each_fact_that_differs_is_named(
    bundles: dict[str, Bundle], pictures: list[Image.Image], change: dict[str, Any], difference: str
) -> None:
    """Token, initializer, kind, captions, base model and precision decide the bits of a run."""
    saved = RunFacts.of(bundles["sd1"], CAPTIONED, pictures, _settings())
    found = replace(saved, **change).differences(saved, completed=1)
    assert found[0].startswith(difference)
    assert saved.differences(saved, completed=1) == []


def test_images_that_differ_are_named(bundles: dict[str, Bundle], pictures: list[Image.Image]) -> None:
    """Another number, another order and another image give different errors."""

    def facts(images: list[Image.Image]) -> RunFacts:
        return RunFacts.of(bundles["sd1"], DOG, images, _settings())

    saved = facts(pictures)
    changed = [pictures[0], pictures[1].rotate(180), pictures[2]]
    for images, difference in (
        (pictures[:2], "images: got 2; the checkpoint has 3"),
        (pictures[::-1], "images: got the images of the checkpoint in another order"),
        (changed, "images[1]: got another image than the checkpoint"),
    ):
        assert facts(images).differences(saved, completed=1) == [difference]


def test_a_checkpoint_of_an_earlier_version_loads(
    tmp_path: Path, bundles: dict[str, Bundle], pictures: list[Image.Image]
) -> None:
    """It has only the digest of its run: equal inputs resume, others are refused without a list."""
    bundle = bundles["sd1"]
    run = _Run(tmp_path, bundle, pictures)
    job = identity(DOG, run.settings, bundle.fingerprint, pictures)
    save_checkpoint({"step": torch.tensor(3)}, run.checkpoint.path, identity=job)
    assert run.checkpoint.load()["step"] == 3
    with pytest.raises(InvalidCheckpointError, match=r"\(step 3\) belongs to other .* an earlier version"):
        _Run(tmp_path, bundle, pictures, steps=9).checkpoint.load()


@pytest.mark.parametrize("header", ["{}", "[]", "no json", '{"token": 3}'])
def test_a_damaged_header(
    tmp_path: Path, bundles: dict[str, Bundle], pictures: list[Image.Image], header: str
) -> None:
    """A header that is no record of a run is an error, not a traceback."""
    run = _Run(tmp_path, bundles["sd1"], pictures)
    save_file({"step": torch.tensor(3)}, run.checkpoint.path, {"zoodip.run": header})
    with pytest.raises(InvalidCheckpointError, match="its header is invalid"):
        run.checkpoint.load()


def test_a_checkpoint_without_a_step(
    tmp_path: Path, bundles: dict[str, Bundle], pictures: list[Image.Image]
) -> None:
    """A safetensors file of other content is refused."""
    run = _Run(tmp_path, bundles["sd1"], pictures)
    save_file({"weight": torch.zeros(3)}, run.checkpoint.path)
    with pytest.raises(InvalidCheckpointError, match="it has no step"):
        run.checkpoint.load()


def test_own_results_are_recognized(bundles: dict[str, Bundle], pictures: list[Image.Image]) -> None:
    """A concept of the same run with fewer steps is its own; any other concept is not."""
    bundle = bundles["sd1"]
    concept = to_concept(Personalization.begin(bundle, DOG, pictures, _settings()), 0.5)
    assert RunFacts.of(bundle, DOG, pictures, _settings(steps=9)).describes(concept)
    for subject, settings in (
        (Subject("<y>", "dog"), _settings()),
        (Subject("<x>", "cat"), _settings()),
        (DOG, _settings(seed=1)),
    ):
        assert not RunFacts.of(bundle, subject, pictures, settings).describes(concept)
    assert not RunFacts.of(bundle, DOG, pictures, _settings()).describes(replace(concept, provenance=None))
