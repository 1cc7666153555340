"""Command line: output, exit codes and error messages; invalid input leaves no files behind."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import save

from zoodip_core.artifact import load_concept
from zoodip_core.cli.main import run

DEMO = Path(__file__).parents[3] / "zoodip_core" / "assets" / "demo"
QUICK = ("--steps", "2", "--set", "n=1", "--set", "fixed_rows=2")


@dataclass(frozen=True)
class Finished:
    """Exit code and output of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, object]:
        """The last line of stdout, parsed."""
        parsed: dict[str, object] = json.loads(self.out.splitlines()[-1])
        return parsed


class Zoodip(Protocol):
    """Runs `zoodip` in this process."""

    def __call__(self, *arguments: object) -> Finished:
        """Run `zoodip ARGUMENTS`."""


@pytest.fixture
def zoodip(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Zoodip:
    """Return a function that runs `zoodip` in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Finished:
        monkeypatch.setattr(sys, "argv", ["zoodip", *map(str, arguments)])
        try:
            run()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        captured = capsys.readouterr()
        return Finished(code, captured.out, captured.err)

    return call


def _personalize(zoodip: Zoodip, *extra: object) -> Finished:
    images = sorted(DEMO.glob("*.png"))
    return zoodip("personalize", *images, "--token", "<x>", "--initializer", "turtle", *QUICK, *extra)


@pytest.mark.slow
def test_personalize_then_generate_then_inspect(zoodip: Zoodip, tmp_path: Path) -> None:
    """A user learns a token, inspects it and draws with it; the PNG metadata holds prompt, seed and fingerprint."""
    learned = _personalize(zoodip, "--out", "x.safetensors", "--seed", 7, "--json")
    assert learned.code == 0, learned.err
    assert set(learned.json) == {
        "artifact",
        "steps",
        "forwards",
        "seconds",
        "it_per_s",
        "fixed_loss_start",
        "fixed_loss_end",
        "stopped_early",
        "peak_memory_mb",
        "images",
        "skipped",
        "captions",
        "warnings",
    }
    assert (learned.json["steps"], learned.json["forwards"]) == (2, 4)
    concept = load_concept(tmp_path / "x.safetensors")
    assert concept.provenance is not None
    assert (concept.token, concept.base_model, concept.provenance.seed) == ("<x>", "emoji", 7)
    inspected = zoodip("inspect", "x.safetensors", "--json")
    assert inspected.json["token"] == "<x>"
    assert inspected.json["vectors"] == {"clip": [1, 192]}
    drawn = zoodip(
        "generate",
        "--prompt",
        "a photo of a <x> in the snow",
        "--concept",
        "x.safetensors",
        *("--n", 2, "--steps", 2, "--seed", 5, "--out", "images", "--json"),
        *("--guidance-rescale", 0.5),
    )
    assert drawn.code == 0, drawn.err
    assert drawn.json["images"] == ["images/5.png", "images/6.png"]
    with Image.open(tmp_path / "images" / "6.png") as image:
        assert image.size == (64, 64)
        assert image.text["seed"] == "6"
        assert "trainedAlgorithmicMedia" in image.text["XML:com.adobe.xmp"]
        assert image.text["prompt"] == "a photo of a <x> in the snow"
        assert image.text["fingerprint"] == concept.fingerprint
        recorded = json.loads(image.text["settings"])
        assert (recorded["steps"], recorded["guidance_rescale"]) == (2, 0.5)


@pytest.mark.slow
def test_inspect_prints_one_field_per_line(zoodip: Zoodip) -> None:
    """Nested fields have rows like `vectors.clip`, and each line is shorter than 120 characters."""
    assert _personalize(zoodip, "--out", "x.safetensors").code == 0
    shown = zoodip("inspect", "x.safetensors").out.splitlines()
    for name, value in (("token", "<x>"), ("vectors.clip", "[1, 192]"), ("provenance.settings.n", "1")):
        (line,) = [line for line in shown if f" {name} " in line]
        assert f" {value} " in line
        assert len(line) < 120


@pytest.mark.slow
def test_same_seed_same_token(zoodip: Zoodip, tmp_path: Path) -> None:
    """Two runs with the same seed learn bit-identical embeddings; another seed learns different ones."""
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert _personalize(zoodip, "--out", f"{name}.safetensors", "--seed", seed).code == 0
    a, b, c = (load_concept(tmp_path / f"{name}.safetensors").embeddings["clip"] for name in "abc")
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


@pytest.mark.slow
def test_an_existing_concept_is_only_overwritten_on_request(zoodip: Zoodip, tmp_path: Path) -> None:
    """A second run is refused; --resume extends the first one; --replace starts over. A symlink stays a symlink."""
    (tmp_path / "real").mkdir()
    (tmp_path / "x.safetensors").symlink_to("real/y.safetensors")
    assert _personalize(zoodip).code == 0
    first = (tmp_path / "real" / "y.safetensors").read_bytes()
    refused = _personalize(zoodip, "--seed", 1, "--json")
    assert refused.code == 2
    assert "the existing file x.safetensors" in refused.json["error"]["message"]
    assert (tmp_path / "real" / "y.safetensors").read_bytes() == first
    other_seed = _personalize(zoodip, "--steps", 4, "--resume", "--seed", 9)
    assert (other_seed.code, "seed" in other_seed.err) == (2, True)
    extended = _personalize(zoodip, "--steps", 4, "--resume", "--json")
    assert extended.code == 0, extended.err
    assert extended.json["steps"] == 4
    replaced = _personalize(zoodip, "--replace", "--json")
    assert (replaced.code, replaced.json["steps"]) == (0, 2)
    assert (tmp_path / "x.safetensors").is_symlink()
    assert sorted(path.name for path in (tmp_path / "real").iterdir()) == [
        "y.checkpoint.safetensors",
        "y.safetensors",
    ]


@pytest.mark.slow
def test_resume_does_not_overwrite_a_concept_of_another_run(zoodip: Zoodip, tmp_path: Path) -> None:
    """The concept file next to the checkpoint was exchanged: --resume refuses to overwrite it."""
    assert _personalize(zoodip, "--out", "x.safetensors").code == 0
    assert _personalize(zoodip, "--out", "y.safetensors", "--seed", 1).code == 0
    (tmp_path / "y.safetensors").replace(tmp_path / "x.safetensors")
    other = (tmp_path / "x.safetensors").read_bytes()
    refused = _personalize(zoodip, "--out", "x.safetensors", "--steps", 4, "--resume")
    assert refused.code == 2
    assert "which this run did not write" in refused.err
    assert (tmp_path / "x.safetensors").read_bytes() == other
    assert _personalize(zoodip, "--out", "x.safetensors", "--steps", 4, "--resume", "--replace").code == 0


@pytest.mark.slow
def test_progress_goes_to_a_log(zoodip: Zoodip) -> None:
    """Without a terminal, stderr has a line of progress for learning and drawing; stdout has only the JSON object."""
    learned = _personalize(zoodip, "--json")
    assert "learning: step 2 of 2, " in learned.err
    assert "validation loss" in learned.err
    assert len(learned.out.splitlines()) == 1
    drawn = zoodip("generate", "--prompt", "a turtle", "--steps", 2, "--json")
    assert "drawing: step 2 of 2, " in drawn.err
    assert len(drawn.out.splitlines()) == 1


def test_models_lists_the_embedded_model(zoodip: Zoodip) -> None:
    """Without a catalog file, the embedded model is listed as the default."""
    (model,) = zoodip("models", "--json").json["base_models"]
    assert (model["name"], model["default"], model["precision"]) == ("emoji", True, "int8")
    assert "emoji" in zoodip("models").out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--token", "dog"], ["token", "'dog'", "word"]),
        (["--token", "<Bad Token>"], ["token: got '<Bad Token>'; expected <name>"]),
        (["--initializer", "<|endoftext|>"], ["initializer: got '<|endoftext|>'", "expected words"]),
        (["--base-model", "sd9"], ["base_model", "'sd9'", "emoji"]),
        (["--set", "speed=9"], ["settings.speed: got an unknown setting", "learning_rate"]),
        (["--set", "n=0"], ["settings.n", "0", "greater than or equal to 1"]),
        (["--set", "t_low=900", "--set", "t_high=500"], ["t_low is 900", "t_high is 500"]),
        (["--set", "n"], ["set: got 'n'; expected NAME=VALUE"]),
        (["--preset", "magic"], ["preset", "'magic'", "paper"]),
        (["--caption", "a turtle"], ["captions: got 1; expected one for each of the 4 images"]),
        (["--out", "missing/x.safetensors"], ["out: got missing/x.safetensors", "writable folder"]),
        (["--out", "/dev/null"], ["out: got the device /dev/null; expected a new or regular file"]),
        (["--device", "abacus"], ["device: got 'abacus'; expected cpu"]),
        (["--device", "cuda:99"], ["device: got 'cuda:99'; expected cpu"]),
        (["--resume"], ["checkpoint", "nothing to resume"]),
    ],
)
def test_invalid_input_prints_one_message(
    zoodip: Zoodip, tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    """The exit code is not 0, one message names the field and the value, and no file is written."""
    finished = _personalize(zoodip, *arguments, "--json")
    assert finished.code != 0
    message = finished.json["error"]["message"]
    assert all(word in message for word in words), message
    assert message in finished.err.replace("\n", " ")
    assert finished.err.count("error:") == 1
    assert list(tmp_path.iterdir()) == []


def test_invalid_images(zoodip: Zoodip, tmp_path: Path) -> None:
    """A damaged or missing file, an empty folder and 17 images give different messages; nothing is written."""
    broken = tmp_path / "broken.png"
    broken.write_bytes(sorted(DEMO.glob("*.png"))[0].read_bytes()[:200])
    (tmp_path / "empty").mkdir()
    many = [sorted(DEMO.glob("*.png"))[0]] * 17
    for paths, words in (
        ([broken], "broken.png"),
        ([tmp_path / "absent.png"], "absent.png"),
        ([tmp_path / "empty"], "got 0 from"),
        (many, "got 17 from"),
    ):
        finished = zoodip("personalize", *paths, "--token", "<x>", "--initializer", "turtle", "--json")
        assert finished.code == 2
        assert words in finished.json["error"]["message"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken.png", "empty"]


def test_a_pickle_is_rejected(zoodip: Zoodip, tmp_path: Path) -> None:
    """A concept file in pickle format is rejected, and no output folder is created."""
    torch.save({"<x>": torch.zeros(192)}, tmp_path / "x.bin")
    finished = zoodip("generate", "--prompt", "a <x>", "--concept", "x.bin", "--json")
    assert finished.code == 2
    expected = "concept[x.bin]: got a pickle (.pt, .bin), which can run code; expected a safetensors file"
    assert finished.json["error"]["message"] == expected
    assert not (tmp_path / "images").exists()


def test_unknown_token_in_the_prompt_is_an_error(zoodip: Zoodip, tmp_path: Path) -> None:
    """A prompt with a token that no given concept has is an error, and no output folder is created."""
    finished = zoodip("generate", "--prompt", "a photo of a <nobody>", "--json")
    assert finished.code == 2
    assert "<nobody>" in finished.json["error"]["message"]
    assert list(tmp_path.iterdir()) == []


def test_messages_show_text_as_it_is(zoodip: Zoodip, tmp_path: Path) -> None:
    """Names between colons are no emoji and names in square brackets no style, also in tables."""
    refused = zoodip("generate", "--prompt", "a <lora:cat:1> in [red]", "--json")
    assert "got <lora:cat:1>; expected" in refused.err
    shown = zoodip("inspect", _embedding(tmp_path / "x.safetensors", "[red]:cat:"))
    assert "[red]:cat:" in shown.out


def _embedding(path: Path, key: str) -> Path:
    path.write_bytes(save({key: np.full((2, 192), 0.1, np.float32)}))
    return path


@pytest.mark.slow
def test_generate_reads_tokens_and_overwrites_nothing(zoodip: Zoodip, tmp_path: Path) -> None:
    """Warnings are printed and in the JSON. The second image gets the next free name. The PNG lists used concepts."""
    _embedding(tmp_path / "my-dog.safetensors", "emb_params")
    _embedding(tmp_path / "other.safetensors", "<Cat-Toy>")
    long = "a &lt;My-Dog&gt; in the snow " + "at night " * 10
    files = ("--concept", "my-dog.safetensors", "--concept", "other.safetensors")
    truncated = ("--long-prompts", "truncate")
    for name in ("images/0.png", "images/0-2.png"):
        drawn = zoodip("generate", "--prompt", long, *files, *truncated, "--steps", 1, "--json")
        assert (drawn.code, drawn.json["images"]) == (0, [name]), drawn.err
    warnings = drawn.json["warnings"]
    assert [(warning["code"], warning["field"]) for warning in warnings] == [
        ("spelling_corrected", "concept"),
        ("spelling_corrected", "prompt"),
        ("prompt_truncated", "prompt"),
        ("concept_unused", "prompt"),
    ]
    assert all(f"warning: {warning['field']}: {warning['message']}" in drawn.err for warning in warnings)
    assert "longer than the specified maximum" not in drawn.err
    with Image.open(tmp_path / "images" / "0-2.png") as image:
        assert json.loads(image.text["concepts"]) == {"<my-dog>": None}
        assert image.text["prompt"] == drawn.json["prompt"] == long.replace("&lt;My-Dog&gt;", "<my-dog>")


@pytest.mark.slow
def test_a_concept_option_names_the_token(zoodip: Zoodip, tmp_path: Path) -> None:
    """FILE=TOKEN gives a file another token, also without brackets and in another case."""
    _embedding(tmp_path / "a=b.safetensors", "<x>")
    for option, token in (("a=b.safetensors=<Fluffy>", "<fluffy>"), ("a=b.safetensors", "<x>")):
        drawn = zoodip("generate", "--prompt", f"a {token}", "--concept", option, "--steps", 1, "--json")
        assert (drawn.code, drawn.json["warnings"]) == (0, []), drawn.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["--prompt", "a <my-dgo>"],
            "got <my-dgo>; expected a token of the given concepts (<my-dog>); did you mean",
        ),
        (["--prompt", "a dog", "--negative-prompt", "a <Dgo"], "negative_prompt: got <Dgo; expected a token"),
        (
            ["--prompt", "a turtle " * 8 + "<my-dog>", "--long-prompts", "truncate"],
            "prompt: got a learned token that ends at position 18",
        ),
        (
            ["--prompt", "a dog", "--concept", "my-dog.safetensors"],
            "concept: got <my-dog> twice; expected each token once",
        ),
        (
            ["--prompt", "a dog", "--concept", "my-dog.safetensors=<a!>"],
            "concept: got 'my-dog.safetensors=<a!>'; exp",
        ),
        (["--prompt", "a dog", "--width", "12"], "width: got 12; expected a multiple of 8"),
        (["--prompt", "a dog", "--scheduler", "magic"], "scheduler: got 'magic'"),
        (
            ["--prompt", "a dog", "--out", "my-dog.safetensors"],
            "out: got my-dog.safetensors, which is no folder",
        ),
        (["--prompt", "a dog", "--out", "/dev/null"], "out: got /dev/null, which is no folder"),
    ],
)
def test_generate_refuses_invalid_input_before_it_draws(
    zoodip: Zoodip, tmp_path: Path, arguments: list[str], words: str
) -> None:
    """One message names the option, and nothing is written."""
    file = _embedding(tmp_path / "my-dog.safetensors", "emb_params")
    finished = zoodip("generate", "--concept", "my-dog.safetensors", *arguments, "--json")
    assert finished.code == 2
    assert words in finished.json["error"]["message"]
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("key", "token", "in_file"), [("emb_params", "<my-dog>", None), ("<Cat-Toy>", "<cat-toy>", "<Cat-Toy>")]
)
def test_inspect_shows_files_of_other_programs(
    zoodip: Zoodip, tmp_path: Path, key: str, token: str, in_file: str | None
) -> None:
    """The token that `generate` uses, and its spelling in the file."""
    shown = zoodip("inspect", _embedding(tmp_path / "my-dog.safetensors", key), "--json")
    assert (shown.code, shown.json["token"], shown.json["token_in_file"]) == (0, token, in_file)
    assert shown.json["vectors"] == {"clip": [2, 192]}


def test_usage_without_a_command(zoodip: Zoodip) -> None:
    """`zoodip` without a command prints its help; `--version` prints one line."""
    assert "personalize" in zoodip().out
    assert zoodip("--version").out.startswith("zoodip ")
