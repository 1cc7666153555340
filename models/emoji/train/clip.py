"""Train the CLIP pair that scores pictures against captions, for 64 × 64 pictures.

A caption matches every picture that has the attributes it names ("a cat on red" matches a teal cat on red). So the
targets of the contrastive loss are all matching pairs of a batch, not only the diagonal.
"""

import random
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import CLIPConfig, CLIPModel, CLIPVisionConfig

from models.emoji.compose import CAPTION_WORDS, PICTURE_PX, caption, noun_phrase, scene_caption, style_words
from models.emoji.settings import HEAD_WIDTH, ClipSettings
from models.emoji.tokenizer import build_vocabulary, word_ids
from models.emoji.train.compatibility import check_sizes, check_vocabulary, compatibility_key
from models.emoji.train.components import Components, read_components
from models.emoji.train.data import VALIDATION_SEED, PictureSet, compose_set
from models.emoji.train.device import Network, autocast, best_device, plain_attention
from models.emoji.train.judge_training import degrade
from models.emoji.train.loop import Training, log, step_generator
from models.emoji.train.networks import read_part, text_config, zero_untrained_rows
from models.emoji.train.optimizer import Optimizer
from models.emoji.world import Scene, World

PART = "clip"
UNNAMED = ""  # an attribute that a caption does not mention


@dataclass(frozen=True)
class Claim:
    """A caption and the attributes that it names: object, color, pattern, background, color and form filter."""

    text: str
    attributes: tuple[str, ...]


def attributes(scene: Scene) -> tuple[str, ...]:
    """Return the attributes of a picture in the order of a claim; "plain" for an absent attribute."""
    return tuple(name or "plain" for name in scene.attributes)


def sample_claim(scene: Scene, world: World, rng: random.Random) -> Claim:
    """Sample a caption that matches a scene: full, object only, background only, or a named instance."""
    has = attributes(scene)
    subject = (scene.object, scene.color, scene.pattern)
    names = [word for word, named in world.named_instances.items() if named == subject]
    words = style_words(scene.style)
    style = has[4:] if words else (UNNAMED, UNNAMED)
    plain = Claim(
        caption(scene.object, scene.background, words),
        (scene.object, UNNAMED, UNNAMED, scene.background, *style),
    )
    kind = rng.random()
    if names and kind < 0.3:
        claim = Claim(caption(names[0], scene.background, words), (*has[:4], *style))
    elif kind < 0.4:
        stated = (scene.object, scene.color or UNNAMED, scene.pattern or UNNAMED, scene.background, *style)
        claim = Claim(caption(noun_phrase(scene), scene.background, words), stated)
    elif kind < 0.55:
        claim = plain
    elif kind < 0.9:  # the object is harder to learn than color and background
        claim = Claim(caption(scene.object, ""), (scene.object, *[UNNAMED] * 5))
    else:
        claim = Claim(
            caption("", scene.background, words), (UNNAMED, UNNAMED, UNNAMED, scene.background, *style)
        )
    return claim if len(claim.text.split()) <= CAPTION_WORDS else plain


def matching_pairs(claims: list[Claim], scenes: list[Scene]) -> torch.Tensor:
    """Return whether each caption matches each picture, [captions, pictures] of bools."""
    numbers: dict[str, int] = {}
    said = torch.tensor(
        [[numbers.setdefault(name, len(numbers)) for name in one.attributes] for one in claims]
    )
    shown = torch.tensor(
        [[numbers.setdefault(name, len(numbers)) for name in attributes(one)] for one in scenes]
    )
    unnamed = numbers.get(UNNAMED, -1)
    return ((said[:, None] == unnamed) | (said[:, None] == shown[None])).all(-1)


def contrastive_loss(logits: torch.Tensor, matches: torch.Tensor) -> torch.Tensor:
    """Return the cross entropy in both directions over all matching pairs; both inputs are [captions, pictures]."""
    target = matches.float()
    per_caption = -(target / target.sum(1, keepdim=True) * logits.log_softmax(1)).sum(1).mean()
    per_picture = -(target / target.sum(0, keepdim=True) * logits.log_softmax(0)).sum(0).mean()
    return (per_caption + per_picture) / 2


def new_clip(settings: ClipSettings, world: World) -> Network:
    """Return a new CLIP pair."""
    vocabulary = build_vocabulary(world.words)
    text = text_config(settings.width, settings.text_layers, vocabulary, projection_dim=settings.projection)
    vision = CLIPVisionConfig(
        hidden_size=settings.width,
        intermediate_size=4 * settings.width,
        num_hidden_layers=settings.vision_layers,
        num_attention_heads=max(1, settings.width // HEAD_WIDTH),
        image_size=PICTURE_PX,
        patch_size=settings.patch_px,
        hidden_act="gelu",
        projection_dim=settings.projection,
    )
    sizes = CLIPConfig(
        text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=settings.projection
    )
    model: Network = CLIPModel(sizes)
    embedding = model.text_model.embeddings.token_embedding
    zero_untrained_rows(embedding, vocabulary, world.words)
    return model


class ClipLoss:
    """Contrastive loss on partly degraded pictures. The step number determines the batch."""

    def __init__(self, model: Network, settings: ClipSettings, world: World, pictures: PictureSet) -> None:
        self.device, self.model, self.rows, self.world = best_device(), model, settings.batch, world
        self.pictures, self.vocabulary = pictures, build_vocabulary(world.words)
        self.components: Components = read_components()
        self.on_background: dict[str, list[int]] = {}
        for index, scene in enumerate(pictures.scenes):
            self.on_background.setdefault(scene.background, []).append(index)

    def _chosen(self, step: int, rng: torch.Generator) -> list[int]:
        """Sample a batch. Every other batch has one background, so that the object must be recognized."""
        backgrounds = sorted(self.on_background)
        pool = (
            self.on_background[backgrounds[step // 2 % len(backgrounds)]]
            if step % 2
            else range(len(self.pictures.captions))
        )
        return [pool[index] for index in torch.randint(0, len(pool), (self.rows,), generator=rng).tolist()]

    def __call__(self, step: int) -> torch.Tensor:
        """Return the loss of the step's batch."""
        rng = step_generator(PART, step)
        chosen = self._chosen(step, rng)
        batch = degrade(self.pictures.batch(chosen), self.components, rng)
        scenes = [self.pictures.scenes[index] for index in chosen]
        words = random.Random(step)
        claims = [sample_claim(scene, self.world, words) for scene in scenes]
        ids = torch.tensor(word_ids([claim.text for claim in claims], self.vocabulary))
        with autocast(self.device):
            found = self.model(input_ids=ids.to(self.device), pixel_values=batch.to(self.device))
        return contrastive_loss(found.logits_per_text.float(), matching_pairs(claims, scenes).to(self.device))


@torch.no_grad()
def retrieval_accuracy(model: Network, pictures: PictureSet, vocabulary: dict[str, int]) -> float:
    """Return the share of pictures whose full caption scores best among all captions of the set."""
    texts = [" ".join(scene_caption(scene).split()[:CAPTION_WORDS]) for scene in pictures.scenes]
    device = next(model.parameters()).device
    ids = torch.tensor(word_ids(texts, vocabulary)).to(device)
    found = model(input_ids=ids, pixel_values=pictures.batch(range(len(texts))).to(device))
    best = found.logits_per_image.argmax(1).tolist()
    right = sum(texts[index] == text for index, text in zip(best, texts, strict=True))
    return float(right / len(texts))


def load_clip(settings: ClipSettings, world: World, start: Path | None) -> Network:
    """Load the CLIP pair of a model folder, or create one if `start` is None.

    Raises:
        CheckpointError: the folder is missing, broken, of other sizes, or of another vocabulary.
    """
    if start is None:
        return new_clip(settings, world)
    check_vocabulary(world.words, start)
    model = read_part(CLIPModel, start / "scorer")
    text, vision = model.config.text_config, model.config.vision_config
    sizes = {
        "width": vision.hidden_size,
        "projection": model.config.projection_dim,
        "vision_layers": vision.num_hidden_layers,
        "text_layers": text.num_hidden_layers,
        "patch_px": vision.patch_size,
    }
    check_sizes(PART, settings.sizes, sizes, start)
    return model


def train_clip(
    settings: ClipSettings, world: World, pictures: PictureSet, folder: Path, start: Path | None
) -> None:
    """Train the CLIP pair; write the checkpoint to `folder`.

    Raises:
        CheckpointError: the initial weights or the checkpoint do not match the settings or the world.
        DivergedError: the loss is not finite.
    """
    model = load_clip(settings, world, start)
    plain_attention(model)
    model.to(best_device()).train()
    optimizer = Optimizer(dict(model.named_parameters()), settings.rate, settings.average)
    held_back = compose_set(VALIDATION_SEED, 500)

    def log_samples(step: int) -> None:
        share = retrieval_accuracy(model, held_back, build_vocabulary(world.words))
        log(PART, f"step {step}: retrieval accuracy {share:.3f} among 500 captions")

    loss, key = ClipLoss(model, settings, world, pictures), compatibility_key(settings, world.words)
    training = Training(PART, settings, folder, key, optimizer, loss, log_samples)
    training.resume(start)
    training.run()
