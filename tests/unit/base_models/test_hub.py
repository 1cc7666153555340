"""Base models from a hub: choice of files, resumed downloads, use without network, and clear errors."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.tooling.hub import COMMIT, Hub, running_hub
from tests.tooling.safety_checkers import FLAGS_NONE, add_safety_checker
from zoodip_core.base_models.hub_files import choose_files
from zoodip_core.base_models.safety_checker import safety_checker_files
from zoodip_core.errors import InvalidModelError

SD15_ON_THE_HUB = [
    ".gitattributes",
    "LICENSE.md",
    "README.md",
    "feature_extractor/preprocessor_config.json",
    "model_index.json",
    "safety_checker/config.json",
    "safety_checker/model.safetensors",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.fp16.safetensors",
    "text_encoder/model.safetensors",
    "text_encoder/pytorch_model.bin",
    "tokenizer/merges.txt",
    "tokenizer/special_tokens_map.json",
    "tokenizer/tokenizer_config.json",
    "tokenizer/vocab.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.bin",
    "unet/diffusion_pytorch_model.fp16.safetensors",
    "unet/diffusion_pytorch_model.non_ema.safetensors",
    "unet/diffusion_pytorch_model.safetensors",
    "v1-5-pruned-emaonly.safetensors",
    "v1-5-pruned.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.fp16.safetensors",
    "vae/diffusion_pytorch_model.safetensors",
]

LOAD = """
import os, resource, sys
from huggingface_hub import constants
from zoodip_core.base_models.hub import snapshot_folder
from zoodip_core.errors import ZoodipError
constants.DOWNLOAD_CHUNK_SIZE = 1_000  # what is lost of a broken download; the test model is small
if "LARGEST_FILE" in os.environ:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(os.environ["LARGEST_FILE"]),) * 2)
try:
    checker = sys.argv[4] == "True"
    print(snapshot_folder(sys.argv[1], sys.argv[2] or None, sys.argv[3] or None, safety_checker=checker))
except ZoodipError as error:
    print("error:", error.message)
"""


@pytest.fixture
def hub(family_folder: dict[str, Path], tmp_path: Path) -> Iterator[Hub]:
    """Run a hub that has `owner/tiny`, with weights in full precision only."""
    folder = tmp_path / "tiny"
    shutil.copytree(family_folder["sd1"], folder)
    (folder / "LICENSE.md").write_text("CreativeML Open RAIL-M")
    with running_hub() as hub:
        hub.repositories["owner/tiny"] = folder
        yield hub


class Load:
    """Gets a model from the hub in another process. `progress` is what the last one printed on stderr."""

    def __init__(self, hub: Hub, cache: Path) -> None:
        self.progress = ""
        self._environment = {"HF_ENDPOINT": hub.url, "HF_HOME": str(cache), "HF_TOKEN": ""}

    def __call__(
        self, hub_id: str, revision: str = "", variant: str = "", *, checker: bool = False, **environment: str
    ) -> str:
        """Return the folder of the model, or one line with the error."""
        done = subprocess.run(
            [sys.executable, "-c", LOAD, hub_id, revision, variant, str(checker)],
            env={**os.environ, **self._environment, **environment},
            capture_output=True,
            text=True,
            check=True,
        )
        self.progress = done.stderr
        return done.stdout.strip()


@pytest.fixture
def load(hub: Hub, tmp_path: Path) -> Load:
    """Return the process that gets models, with a cache for this test."""
    return Load(hub, tmp_path / "cache")


def weights(folder: str) -> set[str]:
    """Return the names of the safetensors files in a folder."""
    return {str(file.relative_to(folder)) for file in Path(folder).rglob("*.safetensors")}


def downloads(hub: Hub) -> list[str]:
    """Return the requests for the content of files."""
    return [request for request in hub.requests if request.startswith("GET") and "/resolve/" in request]


def test_only_needed_files_are_downloaded() -> None:
    """Of SD1.5's files, only configs, the tokenizer and one copy of each weight are downloaded; no pickle."""
    files = dict.fromkeys(SD15_ON_THE_HUB, 1)
    for variant, infix in ((None, ""), ("fp16", ".fp16")):
        taken = set(choose_files("owner/sd15", files, variant))
        assert {name for name in taken if name.endswith("safetensors")} == {
            f"text_encoder/model{infix}.safetensors",
            f"unet/diffusion_pytorch_model{infix}.safetensors",
            f"vae/diffusion_pytorch_model{infix}.safetensors",
        }
        assert {"model_index.json", "tokenizer/merges.txt", "tokenizer/vocab.json", "LICENSE.md"} <= taken
        assert not any(name.endswith((".bin", ".onnx")) or "safety" in name for name in taken)


def test_the_safety_checker_is_downloaded_on_request() -> None:
    """Its configuration, its weights and the configuration of its image processor."""
    files = dict.fromkeys(SD15_ON_THE_HUB, 1)
    without = choose_files("owner/sd15", files, "fp16")
    added = set(choose_files("owner/sd15", files, "fp16", safety_checker=True)).difference(without)
    assert added == {
        "feature_extractor/preprocessor_config.json",
        "safety_checker/config.json",
        "safety_checker/model.safetensors",
    }
    pickled = [name.replace("safety_checker/model.safetensors", "safety_checker/x.bin") for name in files]
    with pytest.raises(InvalidModelError, match="without safetensors weights in safety_checker/"):
        choose_files("owner/sd15", dict.fromkeys(pickled, 1), None, safety_checker=True)


@pytest.mark.slow
def test_a_safety_checker_is_added_to_a_downloaded_model(hub: Hub, load: Load) -> None:
    """Only the files of the checker are downloaded, from the same commit; later uses need no network."""
    add_safety_checker(hub.repositories["owner/tiny"], FLAGS_NONE)
    folder = load("owner/tiny")
    before = len(downloads(hub))
    assert not (Path(folder) / "safety_checker").exists()
    assert load("owner/tiny", checker=True) == folder
    assert len(safety_checker_files(Path(folder)).weights) == 1
    names = {request.partition("/resolve/")[2].partition("/")[2] for request in downloads(hub)[before:]}
    assert all("safety_checker" in name or "feature_extractor" in name for name in names), names
    assert load("owner/tiny", checker=True, HF_HUB_OFFLINE="1") == folder


@pytest.mark.slow
def test_a_model_is_downloaded_once_and_used_without_network(hub: Hub, load: Load) -> None:
    """The second use asks the hub nothing, so it works offline, and a branch that moves does not change the model."""
    folder = load("owner/tiny")
    assert COMMIT in folder
    assert (Path(folder) / "LICENSE.md").is_file()
    assert "Fetching 13 files: 100%" in load.progress
    asked = len(hub.requests)
    assert load("owner/tiny") == load("owner/tiny", COMMIT) == folder
    assert load("owner/tiny", HF_HUB_OFFLINE="1") == folder
    assert len(hub.requests) == asked


@pytest.mark.slow
def test_a_broken_connection_is_resumed(hub: Hub, load: Load) -> None:
    """The second request asks for the missing bytes only, and the file is complete."""
    name = "unet/diffusion_pytorch_model.safetensors"
    hub.cut[name] = 100_000
    folder = load("owner/tiny")
    assert (Path(folder) / name).read_bytes() == (hub.repositories["owner/tiny"] / name).read_bytes()
    assert [line.partition(name)[2].strip() for line in downloads(hub) if name in line] == [
        "",
        "bytes=100000-",
    ]


@pytest.mark.slow
def test_a_repository_with_half_precision_only(hub: Hub, load: Load) -> None:
    """Its fp16 files are used, with and without `variant`; with both copies, the variant decides."""
    source = hub.repositories["owner/tiny"]
    both, half = source.with_name("both"), source.with_name("half")
    for target in (both, half):
        shutil.copytree(source, target)
        for file in list(target.rglob("*.safetensors")):
            (shutil.copy if target == both else shutil.move)(file, file.with_suffix(".fp16.safetensors"))
    hub.repositories |= {"owner/half": half, "owner/both": both}
    assert all(".fp16." in name for name in weights(load("owner/half")))
    assert all(".fp16." not in name for name in weights(load("owner/both")))
    assert load("owner/tiny", "", "fp16").startswith("error: variant: got fp16, but owner/tiny has only ")


@pytest.mark.slow
def test_the_variant_selects_one_of_two_copies(hub: Hub, load: Load) -> None:
    """Only the files of the variant are downloaded."""
    source = hub.repositories["owner/tiny"]
    for file in list(source.rglob("*.safetensors")):
        shutil.copy(file, file.with_suffix(".fp16.safetensors"))
    assert all(".fp16." in name for name in weights(load("owner/tiny", "", "fp16")))


def _without(pattern: str) -> Callable[[Hub], None]:
    def change(hub: Hub) -> None:
        for file in list(hub.repositories["owner/tiny"].rglob(pattern)):
            file.rename(file.with_name("pytorch_model.bin"))

    return change


def _checkpoint_only(hub: Hub) -> None:
    folder = hub.repositories["owner/tiny"]
    (folder / "model_index.json").unlink()
    (folder / "anime-v3.safetensors").write_bytes(b"")


def _other_pipeline(hub: Hub) -> None:
    index = hub.repositories["owner/tiny"] / "model_index.json"
    index.write_text(index.read_text().replace("StableDiffusionPipeline", "StableDiffusion3Pipeline"))


FAULTS: dict[str, tuple[str, str, Callable[[Hub], object], str]] = {
    "missing": ("owner/none", "", lambda _: None, "owner/none, which does not exist on .* or is private"),
    "revision": (
        "owner/tiny",
        "v9",
        lambda _: None,
        "got revision 'v9' of owner/tiny; expected a branch, tag",
    ),
    "gated": (
        "owner/tiny",
        "",
        lambda hub: hub.gated.add("owner/tiny"),
        "whose access is restricted.*HF_TOKEN",
    ),
    "denied file": (
        "owner/tiny",
        "",
        lambda hub: hub.statuses.update({"/vocab.json": 403}),
        "for which .* answers with status 403; expected access: .*HF_TOKEN",
    ),
    "too many requests": (
        "owner/tiny",
        "",
        lambda hub: hub.statuses.update({"/revision/main": 429}),
        "for which .* answers with status 429; expected .* try again later",
    ),
    "full disk": (
        "owner/tiny",
        "",
        lambda hub: hub.sizes.update({"unet/diffusion_pytorch_model.safetensors": 10**17}),
        "which needs 100,000,000.0 GB, with .* GB free",
    ),
    "pickles": ("owner/tiny", "", _without("*.safetensors"), "without safetensors weights in unet/"),
    "one file": (
        "owner/tiny",
        "",
        _checkpoint_only,
        "without model_index.json but anime-v3.safetensors.*: download",
    ),
    "another kind": (
        "owner/tiny",
        "",
        _other_pipeline,
        "got StableDiffusion3Pipeline in .*; expected Stable",
    ),
    "no VAE": (
        "owner/tiny",
        "",
        lambda hub: shutil.rmtree(hub.repositories["owner/tiny"] / "vae"),
        "vae/config.json",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_has_one_clear_error(hub: Hub, load: Load, fault: str) -> None:
    """The message names the fault and the remedy. No weights are downloaded for it."""
    hub_id, revision, change, message = FAULTS[fault]
    change(hub)
    printed = load(hub_id, revision)
    assert re.search(f"^error: .*{message}", printed, re.DOTALL), printed
    assert len(printed.splitlines()) == 1
    assert "Traceback" not in load.progress
    assert not [request for request in downloads(hub) if request.endswith(".safetensors")]


def test_an_unreachable_hub(load: Load) -> None:
    """A connection that cannot be made is one error that names the hub."""
    printed = load("owner/tiny", HF_ENDPOINT="http://127.0.0.1:9")
    assert printed.startswith("error: base_model: got owner/tiny, whose download failed")
    assert printed.endswith("expected a connection to http://127.0.0.1:9")


def test_space_that_runs_out_during_a_download(load: Load) -> None:
    """One error gives the reason, and the next call downloads what is missing."""
    printed = load("owner/tiny", LARGEST_FILE="100000")
    assert re.fullmatch(
        r"error: base_model: got owner/tiny, which cannot be stored \(File too large\); "
        "expected a cache folder with space",
        printed,
    )
    assert "Traceback" not in load.progress
    assert weights(load("owner/tiny")) == {
        f"{part}.safetensors"
        for part in ("text_encoder/model", "unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model")
    }
