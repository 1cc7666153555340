"""The shipped folder: read by diffusers and transformers themselves, and drawn from."""

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

from models.emoji.demo import FIRST_SEED, FOLDER, REFERENCE_GROUNDS, write_demo
from models.emoji.errors import CheckpointError
from models.emoji.judge import read_judge
from models.emoji.model_folder import MAX_FILE_BYTES
from models.emoji.tokenizer import WORD_END, build_vocabulary
from models.emoji.train.autoencoder import decibels
from models.emoji.train.components import read_components
from models.emoji.train.data import compose_set
from models.emoji.train.folder import SHIPPED, read_part
from models.emoji.train.wiring import encoder_error
from models.emoji.world import Scene, shipped_world
from zoodip_core.base_models.fingerprint import fingerprint

MAX_BYTES = 40_000_000
FINGERPRINT = "810257e29a5f326c8f5e024136131557970c6ad5e5284059c712c989a6678090"


@pytest.fixture(scope="module")
def pipeline() -> Any:
    """The pipeline that diffusers itself makes of the folder, in fp32."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of diffusers and transformers, about packages that are not needed
        pipeline = StableDiffusionPipeline.from_pretrained(SHIPPED, dtype=torch.float32)
        pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_the_folder_is_small_and_half_precision() -> None:
    """All files together and each alone stay below what the package may hold."""
    sizes = [path.stat().st_size for path in SHIPPED.rglob("*") if path.is_file()]
    assert sum(sizes) <= MAX_BYTES
    assert max(sizes) <= MAX_FILE_BYTES


def test_the_weights_are_those_that_learned_tokens_know() -> None:
    """Another set of weights makes every user's concept file of `emoji` useless: it has to be meant."""
    assert fingerprint(SHIPPED) == FINGERPRINT


def test_the_pipelines_tokenizer_has_single_word_tokens(pipeline: Any) -> None:
    """The tokenizer of the loaded pipeline keeps every word of the world whole."""
    assert len(pipeline.tokenizer) == pipeline.text_encoder.config.vocab_size
    for word in shipped_world().words:
        assert pipeline.tokenizer.tokenize(word) == [word + WORD_END]


def test_the_text_encoder_pools_at_the_first_end_token(pipeline: Any) -> None:
    """The pooled state is the state of the caption's own end token, not of padding or a word."""
    row = pipeline.tokenizer("a cat", padding="max_length", return_tensors="pt").input_ids
    with torch.no_grad():
        states = pipeline.text_encoder(row)
    assert torch.allclose(states.pooler_output[0], states.last_hidden_state[0, 3], atol=1e-6)


def test_bytes_and_partial_merges_are_silent(pipeline: Any) -> None:
    """Rows that no caption holds are zero, so that a misspelt word adds nothing."""
    world = shipped_world()
    vocabulary = build_vocabulary(world.words)
    table = pipeline.text_encoder.get_input_embeddings().weight
    trained = {vocabulary[word + WORD_END] for word in world.words} | {
        len(vocabulary) - 1,
        len(vocabulary) - 2,
    }
    silent = [row for row in range(len(vocabulary)) if row not in trained]
    assert table[silent].abs().max() == 0
    assert table[sorted(trained)].norm(dim=1).min() > 0.1


def test_the_pipeline_draws_what_is_asked(pipeline: Any) -> None:
    """Of a few plain prompts the judge recognises nearly every thing and every ground; seeds repeat."""
    scenes = [
        Scene(thing, "", "", ground)
        for thing in ("cat", "apple", "crab")
        for ground in ("on blue", "on white")
    ]
    prompts = [f"a photo of a {scene.thing} {scene.ground}" for scene in scenes]

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


def test_the_autoencoder_keeps_pictures(pipeline: Any) -> None:
    """Held-back pictures come back at 28 dB or better, and the encoder is still the component map."""
    targets = compose_set(10_000_000, 16).batch(range(16))
    with torch.no_grad():
        decoded = pipeline.vae.decode(pipeline.vae.encode(targets).latent_dist.mean).sample
    assert decibels(decoded, targets).mean() >= 28
    assert encoder_error(pipeline.vae, read_components(), targets) < 1e-3


def test_the_scorer_prefers_the_right_caption() -> None:
    """The CLIP pair of the folder scores real pictures highest with captions of their own thing and ground."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scorer: Any = CLIPModel.from_pretrained(SHIPPED / "scorer", dtype=torch.float32).eval()
        tokenizer: Any = CLIPTokenizer.from_pretrained(SHIPPED / "scorer")
    pictures = compose_set(10_000_000, 40)
    texts = [f"a photo of a {scene.thing} {scene.ground}" for scene in pictures.scenes]
    ids = tokenizer(texts, padding="max_length", return_tensors="pt").input_ids
    with torch.no_grad():
        logits = scorer(input_ids=ids, pixel_values=pictures.batch(range(40))).logits_per_image
    best = [texts[index] for index in logits.argmax(1).tolist()]
    assert sum(found == text for found, text in zip(best, texts, strict=True)) >= 30


def test_a_truncated_model_folder_is_refused(tmp_path: Path) -> None:
    """A part whose weights were cut short gets one message with its folder."""
    for path in (SHIPPED / "vae").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes()[:2000])
    with pytest.raises(CheckpointError, match="holds no whole AutoencoderKL"):
        read_part(AutoencoderKL, tmp_path)


def test_the_demos_references_can_be_made_again(tmp_path: Path) -> None:
    """The committed references are the composer's pictures of a held-out subject, byte for byte."""
    world = shipped_world()
    write_demo(tmp_path, world)
    assert FIRST_SEED > 20_000_000
    for index in range(len(REFERENCE_GROUNDS)):
        name = f"reference-{index + 1}.png"
        with Image.open(tmp_path / name) as made, Image.open(FOLDER / name) as shipped:
            assert np.array_equal(np.asarray(made), np.asarray(shipped))
    assert (tmp_path / "demo.json").read_text() == (FOLDER / "demo.json").read_text()
    demo = json.loads((FOLDER / "demo.json").read_text())
    pattern, tint, thing = demo["caption"].removeprefix("a photo of a ").split()
    assert (thing, tint, pattern) in world.held_out.subjects
    assert demo["initializer"] == thing
