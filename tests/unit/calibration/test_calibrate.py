"""`zoodip calibrate` on the embedded model: the file, an interruption, and a search that loads the result."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import safe_open

from zoodip_core.base_models.catalog import Catalog
from zoodip_core.base_models.presets import resolve_settings
from zoodip_core.calibration.calibrate import calibrate
from zoodip_core.calibration.options import CalibrationOptions
from zoodip_core.calibration.pseudo_subjects import FORMS, TONES
from zoodip_core.calibration.watch import Stage, Watch
from zoodip_core.calibration_file import Calibration
from zoodip_core.cli.main import run
from zoodip_core.config import ConceptKind
from zoodip_core.diffusion.loading import Bundle, load_bundle
from zoodip_core.engine import Engine
from zoodip_core.errors import (
    InterruptedSearchError,
    InvalidCheckpointError,
    InvalidModelError,
    InvalidSettingsError,
)
from zoodip_core.personalization.initial_token import initial_token
from zoodip_core.personalization.personalize import Personalization
from zoodip_core.personalization.subject import Subject

QUICK: dict[str, Any] = {"steps": 1, "guidance_scale": 1.0}
SEARCH: dict[str, Any] = {"steps": 9, "fixed_rows": 4, "search_space": "calibrated"}


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    """Return the embedded model in fp32."""
    return load_bundle(Catalog.load().get("emoji").model_copy(update={"precision": "fp32"}), device="cpu")


def load(bundle: Bundle) -> Calibration:
    """Return the calibration of the bundle."""
    assert bundle.calibration is not None
    return Calibration.load(
        bundle.calibration, weights_fingerprint=bundle.weights_fingerprint, dimensions=192, statistics=32
    )


def begin(
    bundle: Bundle,
    pictures: list[Image.Image],
    state: dict[str, torch.Tensor] | None = None,
    kind: ConceptKind = "object",
) -> Personalization:
    """Start or resume a search in the calibrated space of the bundle."""
    entry = Catalog.load().get("emoji").model_copy(update={"calibration": bundle.calibration})
    settings = resolve_settings(entry, bundle.family, "default", SEARCH)
    return Personalization.begin(bundle, Subject("<x>", "dog", kind), pictures, settings, state)


def _content(path: Path) -> tuple[dict[str, str], dict[str, list[float]]]:
    """Return header and values of a file. The order of the keys in the header is random."""
    with safe_open(path, framework="pt") as file:
        return file.metadata(), {
            name: file.get_tensor(name).flatten().tolist() for name in file.offset_keys()
        }


@pytest.mark.slow
@pytest.mark.parametrize("forward_only", [False, True])
def test_interrupted_calibration_continues_with_the_same_bits(
    bundle: Bundle, pictures: list[Image.Image], tmp_path: Path, forward_only: bool
) -> None:
    """A partial result is continued, refused under other options, and the file is used by a search.

    A forward-only calibration propagates nothing back, and makes a lost search space again.
    """
    excluded = (*TONES[1:], *FORMS[2:])  # leaves two pairs of styles
    options = CalibrationOptions(3, 2, together=2, samples=1, excluded=excluded, forward_only=forward_only)
    counts = list[int]()

    def go(out: Path, chosen: CalibrationOptions, *, until: int = 9) -> None:
        def count(stage: Stage, done: int, _of: int) -> None:
            counts.extend([done] if stage == "learned" else [])

        watch = Watch(count, lambda: bool(counts) and counts[-1] >= until)
        with torch.set_grad_enabled(not forward_only):  # a backward pass fails without gradients
            calibrate(bundle, chosen, out, generation=QUICK, watch=watch)

    whole, parts = tmp_path / "whole.safetensors", tmp_path / "parts.safetensors"
    go(whole, options)
    counts.clear()
    with pytest.raises(InterruptedSearchError, match="calibrate again with the same options"):
        go(parts, options, until=2)
    assert (tmp_path / "parts.safetensors.prior").exists() is forward_only
    (tmp_path / "parts.safetensors.prior").unlink(missing_ok=True)
    with pytest.raises(InvalidCheckpointError, match="partial result of other options"):
        go(parts, CalibrationOptions(subjects=3, steps=1))
    counts.clear()
    with pytest.raises(InterruptedSearchError):
        go(parts, options, until=5)  # while the curvature is measured
    assert not parts.exists()
    go(parts, options)
    assert counts == [4, 5]
    assert _content(parts) == _content(whole)
    assert {file.name for file in tmp_path.iterdir()} == {"whole.safetensors", "parts.safetensors"}
    check_search(replace(bundle, calibration=whole), pictures)


@pytest.mark.slow
def test_measured_space_is_kept_when_the_first_batch_is_interrupted(bundle: Bundle, tmp_path: Path) -> None:
    """A forward-only calibration that continues does not measure it again."""
    options = CalibrationOptions(2, 1, samples=1, excluded=(*TONES[1:], *FORMS[2:]), forward_only=True)
    out, prior = tmp_path / "c.safetensors", tmp_path / "c.safetensors.prior"
    watch, kept = Watch(lambda *_: None, prior.is_file), set[int]()
    for _ in range(2):
        with pytest.raises(InterruptedSearchError):
            calibrate(bundle, options, out, generation=QUICK, watch=watch)
        kept.add(prior.stat().st_ino)
    assert len(kept) == 1


@pytest.mark.parametrize("forward_only", [False, True])
def test_interruption_is_possible_before_each_subject_and_each_step(
    bundle: Bundle, tmp_path: Path, forward_only: bool
) -> None:
    """The watch is asked before each one is drawn, learned or measured, and receives the progress."""
    events = list[str]()

    def ask() -> bool:
        events.append("?")
        return False

    watch = Watch(lambda *progress: events.append("{} {}/{}".format(*progress)), ask)
    options = CalibrationOptions(2, 3, samples=1, excluded=TONES, forward_only=forward_only)
    calibrate(bundle, options, tmp_path / "c.safetensors", generation=QUICK, watch=watch)
    measured = ["?", "measured 1/2", "?", "measured 2/2"]
    drawn_and_learned = ["?", "?", *["?"] * 3, "learned 2/2"]
    assert events == [*(measured if forward_only else []), *drawn_and_learned, *measured]


@pytest.mark.parametrize("name", ["c.part", "c.prior", "c.safetensors"])
def test_result_may_have_any_name(bundle: Bundle, tmp_path: Path, name: str) -> None:
    """The files of a calibration on its way are not the result, and no file of the user is deleted."""
    own = {file: b"own" for file in ("c.part", "c.prior", "c.safetensors.prior") if file != name}
    for file, content in own.items():
        (tmp_path / file).write_bytes(content)
    options = CalibrationOptions(2, 1, samples=1, excluded=TONES)
    watch = Watch(lambda _stage, _done, _of: None, lambda: False)
    calibrate(bundle, options, tmp_path / name, generation=QUICK, watch=watch)
    assert len(load(replace(bundle, calibration=tmp_path / name)).provenance["subjects"]) == 2
    assert {file: (tmp_path / file).read_bytes() for file in own} == own


def check_search(bundle: Bundle, pictures: list[Image.Image]) -> None:
    """Validate that a search in the calibrated space starts, moves, resumes, and refuses a truncated file."""
    search = begin(bundle, pictures)
    start, initial = search.search.theta, initial_token(bundle, "dog", 1)
    assert not torch.allclose(start, initial, atol=1e-3)  # as the map predicts
    style = begin(bundle, pictures, kind="style").search
    assert style.theta.equal(initial)
    pairs = load(bundle).style_displacements
    torch.testing.assert_close(style.ask().candidates[-2:] - initial, pairs, atol=1e-5, rtol=1e-3)
    assert Engine(bundle).step([search]) == [None]
    resumed = begin(bundle, pictures, search.state())
    assert resumed.search.theta.equal(search.search.theta)
    assert not search.search.theta.equal(start)
    file = bundle.calibration
    assert file is not None
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(
        InvalidModelError, match=r"calibration: got .*, which cannot be read \(.*expected a file"
    ):
        begin(bundle, pictures)


def test_calibrated_space_without_a_calibration_is_refused(tmp_path: Path) -> None:
    """The settings are refused before anything is loaded, and for several vectors."""
    entry = Catalog.load().get("emoji").model_copy(update={"calibration": tmp_path / "absent.safetensors"})
    with pytest.raises(
        InvalidSettingsError, match=r"emoji has no calibration.*zoodip calibrate --base-model"
    ):
        resolve_settings(entry, "sd1", "default", {"search_space": "calibrated"})
    with pytest.raises(InvalidSettingsError, match="expected vectors=1"):
        resolve_settings(entry, "sd1", "default", {"search_space": "calibrated", "vectors": 2})
    with pytest.raises(InvalidSettingsError, match='expected estimator="rge"'):
        resolve_settings(entry, "sd1", "default", {"search_space": "calibrated", "estimator": "spsa"})


@pytest.mark.slow
def test_command_writes_the_file_next_to_the_catalog(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file has the name that searches load; an existing one and a missing list are refused."""
    folder = Catalog.load().get("emoji").path
    assert folder is not None
    shutil.copytree(folder, tmp_path / "copy", ignore=shutil.ignore_patterns("scorer"))
    catalog = tmp_path / "models.toml"
    catalog.write_text('[[base_models]]\nname = "copy"\npath = "copy"\nsteps = 1\nguidance_scale = 1.0\n')
    command = ["zoodip", "calibrate", "--base-model", "copy", "--catalog", str(catalog)]
    quick = [*command, "--subjects", "2", "--steps", "1", "--forward-only", "--json"]

    def code(arguments: list[str]) -> int:
        monkeypatch.setattr(sys, "argv", arguments)
        try:
            run()
        except SystemExit as ended:
            return int(ended.code or 0)
        return 0

    assert code(quick) == 0
    entry = Catalog.load(catalog).get("copy")
    assert str(entry.calibration) == json.loads(capsys.readouterr().out)["calibration"]
    assert entry.calibration == tmp_path / "copy.calibration.safetensors"
    read = load(load_bundle(entry, device="cpu"))
    assert len(read.provenance["subjects"]) == 2
    assert read.provenance["method"] == "forward_only"
    assert code(quick) == 2
    assert "which exists; expected another file, or --replace" in capsys.readouterr().err
    assert code([*command, "--replace", "--exclude", "absent.txt"]) == 2
    assert "exclude: got absent.txt" in capsys.readouterr().err
    (tmp_path / "list.txt").write_text("Fox,\nThe\n")
    assert code([*command, "--replace", "--exclude", str(tmp_path / "list.txt")]) == 2
    assert "exclude: got 'The' in line 2" in capsys.readouterr().err
