"""The shipped model folder: loading by diffusers and transformers, and sampling."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline
from PIL import Image
from transformers import CLIPModel, CLIPTokenizer

from models.emoji.demo import FIRST_SEED, FOLDER, REFERENCE_BACKGROUNDS, write_demo
from models.emoji.errors import CheckpointError
from models.emoji.export import MAX_FILE_BYTES
from models.emoji.judge import read_judge
from models.emoji.tokenizer import WORD_END, build_vocabulary
from models.emoji.train.autoencoder import psnr_db
from models.emoji.train.components import read_components
from models.emoji.train.data import compose_set
from models.emoji.train.networks import SHIPPED, read_part
from models.emoji.train.pca_encoder import encoder_error
from models.emoji.world import Scene, shipped_world
from zoodip_core.base_models.fingerprint import fingerprint

MAX_BYTES = 40_000_000
FINGERPRINT = "810257e29a5f326c8f5e024136131557970c6ad5e5284059c712c989a6678090"


@pytest.fixture(scope="module")
def pipeline() -> Any:
    """Return the diffusers pipeline of the folder in fp32."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # diffusers and transformers warn about optional packages
        pipeline = StableDiffusionPipeline.from_pretrained(SHIPPED, dtype=torch.float32)
        pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_the_folder_is_small_and_half_precision() -> None:
    """The folder and each file stay below the size limits of the package."""
    sizes = [path.stat().st_size for path in SHIPPED.rglob("*") if path.is_file()]
    assert sum(sizes) <= MAX_BYTES
    assert max(sizes) <= MAX_FILE_BYTES


def test_the_fingerprint_is_unchanged() -> None:
    """New weights would invalidate every user's concept files, so a change must be deliberate."""
    assert fingerprint(SHIPPED) == FINGERPRINT


def test_the_pipelines_tokenizer_has_single_word_tokens(pipeline: Any) -> None:
    """The tokenizer of the loaded pipeline returns one token for every caption word."""
    assert len(pipeline.tokenizer) == pipeline.text_encoder.config.vocab_size
    for word in shipped_world().words:
        assert pipeline.tokenizer.tokenize(word) == [word + WORD_END]


def test_the_text_encoder_pools_at_the_first_end_token(pipeline: Any) -> None:
    """The pooled state is that of the caption's first end token, not of padding or a word."""
    row = pipeline.tokenizer("a cat", padding="max_length", return_tensors="pt").input_ids
    with torch.no_grad():
        states = pipeline.text_encoder(row)
    assert torch.allclose(states.pooler_output[0], states.last_hidden_state[0, 3], atol=1e-6)


def test_untrained_rows_are_zero(pipeline: Any) -> None:
    """Embedding rows of bytes and partial merges are zero, so that an unknown word has no effect."""
    world = shipped_world()
    vocabulary = build_vocabulary(world.words)
    table = pipeline.text_encoder.get_input_embeddings().weight
    trained = {vocabulary[word + WORD_END] for word in world.words} | {
        len(vocabulary) - 1,
        len(vocabulary) - 2,
    }
    untrained = [row for row in range(len(vocabulary)) if row not in trained]
    assert table[untrained].abs().max() == 0
    assert table[sorted(trained)].norm(dim=1).min() > 0.1


@pytest.mark.slow
def test_the_pipeline_follows_prompts(pipeline: Any) -> None:
    """The judge recognizes object and background of simple prompts, and a seed reproduces the pictures."""
    scenes = [
        Scene(name, "", "", background)
        for name in ("cat", "apple", "crab")
        for background in ("on blue", "on white")
    ]
    prompts = [f"a photo of a {scene.object} {scene.background}" for scene in scenes]

    def draw() -> torch.Tensor:
        generator = torch.Generator().manual_seed(1)
        found = pipeline(
            prompts, num_inference_steps=8, guidance_scale=2.0, generator=generator, output_type="pt"
        )
        pictures: torch.Tensor = found.images
        return pictures

    pictures = draw()
    assert pictures.shape == (6, 3, 64, 64)
    right = read_judge().right(pictures * 2 - 1, scenes)
    assert right[:, 0].sum() >= 4
    assert right[:, 3].sum() >= 5
    assert torch.equal(pictures, draw())


def test_the_autoencoder_reconstructs_pictures(pipeline: Any) -> None:
    """Validation pictures are reconstructed at 28 dB or more, and the encoder computes the components."""
    targets = compose_set(10_000_000, 16).batch(range(16))
    with torch.no_grad():
        decoded = pipeline.vae.decode(pipeline.vae.encode(targets).latent_dist.mean).sample
    assert psnr_db(decoded, targets).mean() >= 28
    assert encoder_error(pipeline.vae, read_components(), targets) < 1e-3


def test_the_scorer_prefers_the_right_caption() -> None:
    """The CLIP pair scores most pictures highest with the caption of their object and background."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scorer: Any = CLIPModel.from_pretrained(SHIPPED / "scorer", dtype=torch.float32).eval()
        tokenizer: Any = CLIPTokenizer.from_pretrained(SHIPPED / "scorer")
    pictures = compose_set(10_000_000, 40)
    texts = [f"a photo of a {scene.object} {scene.background}" for scene in pictures.scenes]
    ids = tokenizer(texts, padding="max_length", return_tensors="pt").input_ids
    with torch.no_grad():
        logits = scorer(input_ids=ids, pixel_values=pictures.batch(range(40))).logits_per_image
    best = [texts[index] for index in logits.argmax(1).tolist()]
    assert sum(found == text for found, text in zip(best, texts, strict=True)) >= 30


def test_a_truncated_model_folder_is_refused(tmp_path: Path) -> None:
    """The message for truncated weights has the folder."""
    for path in (SHIPPED / "vae").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes()[:2000])
    with pytest.raises(CheckpointError, match="cannot load AutoencoderKL"):
        read_part(AutoencoderKL, tmp_path)


def test_the_demo_references_are_reproducible(tmp_path: Path) -> None:
    """The committed references equal newly composed pictures of a held-out subject."""
    world = shipped_world()
    write_demo(tmp_path, world)
    assert FIRST_SEED > 20_000_000
    for index in range(len(REFERENCE_BACKGROUNDS)):
        name = f"reference-{index + 1}.png"
        with Image.open(tmp_path / name) as composed, Image.open(FOLDER / name) as shipped:
            assert np.array_equal(np.asarray(composed), np.asarray(shipped))
    assert (tmp_path / "demo.json").read_text() == (FOLDER / "demo.json").read_text()
    demo = json.loads((FOLDER / "demo.json").read_text())
    pattern, color, name = demo["caption"].removeprefix("a photo of a ").split()
    assert (name, color, pattern) in world.held_out.subjects
    assert demo["initializer"] == name
