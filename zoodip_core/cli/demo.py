"""`zoodip demo`: the embedded model learns a subject that it has never seen; figures and a picture prove it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from PIL import Image

from zoodip_core.cli.console import print_json, say
from zoodip_core.cli.options import DeviceOption

if TYPE_CHECKING:
    from zoodip_core.diffusion.loading import Bundle
    from zoodip_core.diffusion.prompts import ConceptVectors
    from zoodip_core.diffusion.scoring import Scorer

ASSETS = Path(__file__).parent.parent / "assets" / "demo"
PLACEHOLDER = "<demo>"
IMAGES_PER_PROMPT = 4
SEED = 1


@dataclass(frozen=True)
class DemoSubject:
    """Reference images of one subject, and how to talk about it."""

    images: list[Image.Image]
    initializer: str
    phrase: str  # the subject in words, such as "striped teal crab"
    captions: tuple[str, ...]  # {} stands for the token
    prompts: tuple[str, ...]  # {} stands for whatever names the subject

    @classmethod
    def read(cls, folder: Path) -> DemoSubject:
        """The subject that lies in `folder`: demo.json, and PNG files in the captions' order."""
        facts = json.loads((folder / "demo.json").read_text())
        images = [Image.open(path).convert("RGB") for path in sorted(folder.glob("*.png"))]
        phrase = facts["caption"].removeprefix("a photo of a ")
        return cls(images, facts["initializer"], phrase, tuple(facts["captions"]), tuple(facts["prompts"]))


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the picture and the concept.")] = Path("demo-output"),
    device: DeviceOption = None,
) -> None:
    """Learn an unseen subject on the embedded model, and show before and after."""
    from zoodip_core.base_models.catalog import Catalog, resolve_settings
    from zoodip_core.cli.learn import learn
    from zoodip_core.diffusion.loading import load_bundle
    from zoodip_core.diffusion.scoring import Scorer
    from zoodip_core.personalization.personalize import Subject

    out.mkdir(parents=True, exist_ok=True)
    shown = DemoSubject.read(ASSETS)
    entry = Catalog.load().get("emoji")
    bundle = load_bundle(entry, device=device)
    scorer = Scorer(bundle.folder / "scorer")
    subject = Subject(
        PLACEHOLDER, shown.initializer, "object", tuple(c.replace("{}", PLACEHOLDER) for c in shown.captions)
    )
    settings = resolve_settings(entry, bundle.family, "default", {"seed": SEED})
    say(
        f"learning {PLACEHOLDER} from {len(shown.images)} images, starting at the word {shown.initializer!r} …"
    )
    learned = learn(bundle, subject, shown.images, settings, out=out / "demo.safetensors")
    say("drawing the same prompts before, after, and in words …")
    names = {"before": shown.initializer, "after": PLACEHOLDER, "caption": shown.phrase}
    concepts = learned.personalization.concept_vectors
    drawn = {key: _draw(bundle, shown, name, concepts, entry.generation) for key, name in names.items()}
    grid = out / "grid.png"
    _write_grid(shown, names, drawn, grid)
    scores = {f"clip_i_{key}": _clip_i(scorer, shown, images) for key, images in drawn.items()}
    figures = {**learned.figures(), **scores, "grid": str(grid)}
    say(
        f"CLIP-I {scores['clip_i_before']:.3f} → {scores['clip_i_after']:.3f} "
        f"(all words: {scores['clip_i_caption']:.3f}); look at {grid}"
    )
    print_json(figures)


def _draw(
    bundle: Bundle,
    shown: DemoSubject,
    name: str,
    concepts: ConceptVectors,
    defaults: Mapping[str, Any],
) -> list[list[Image.Image]]:
    """For each prompt, a few images with the subject called `name`; the seeds are the same for every name."""
    from zoodip_core.config import GenerationSettings
    from zoodip_core.diffusion.generation import generate

    rows = []
    for index, prompt in enumerate(shown.prompts):
        values = {
            **defaults,
            "prompt": prompt.replace("{}", name),
            "n": IMAGES_PER_PROMPT,
            "seed": 100 * index,
        }
        rows.append([image.image for image in generate(bundle, GenerationSettings.parse(values), concepts)])
    return rows


def _clip_i(scorer: Scorer, shown: DemoSubject, rows: list[list[Image.Image]]) -> float:
    return round(scorer.clip_i(shown.images, [image for row in rows for image in row]), 4)


def _write_grid(
    shown: DemoSubject, names: Mapping[str, str], drawn: Mapping[str, list[list[Image.Image]]], path: Path
) -> None:
    from zoodip_core.grid import GridRow, draw_grid

    def row(title: str, key: str) -> GridRow:
        labels = [prompt.replace("{}", names[key]) for prompt in shown.prompts]
        return GridRow(title, [images[0] for images in drawn[key]], labels)

    references = [caption.replace("{}", PLACEHOLDER) for caption in shown.captions]
    rows = [
        GridRow(f"the reference images of {PLACEHOLDER}", shown.images, references),
        row(f"before: the word {names['before']!r}", "before"),
        row(f"after: the learned token {PLACEHOLDER}", "after"),
        row(f"in words: {names['caption']!r}", "caption"),
    ]
    draw_grid(rows).save(path)
