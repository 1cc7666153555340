"""`zoodip demo`: learn an unseen subject on the embedded model; print CLIP-I scores and save an image grid."""

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
from zoodip_core.errors import InterruptedSearchError

if TYPE_CHECKING:
    from zoodip_core.base_models.catalog import BaseModelEntry
    from zoodip_core.cli.learn import Learned
    from zoodip_core.diffusion.loading import Bundle
    from zoodip_core.diffusion.prompts import ConceptVectors
    from zoodip_core.diffusion.scoring import Scorer

ASSETS = Path(__file__).parent.parent / "assets" / "demo"
PLACEHOLDER = "<demo>"
IMAGES_PER_PROMPT = 4
SETTINGS = {"seed": 1}


@dataclass(frozen=True)
class DemoSubject:
    """Reference images of one subject, with its captions and prompts."""

    images: list[Image.Image]
    initializer: str
    phrase: str  # description of the subject, such as "striped teal crab"
    captions: tuple[str, ...]  # {} is replaced by the token
    prompts: tuple[str, ...]  # {} is replaced by the initializer, the token or the phrase

    @classmethod
    def read(cls, folder: Path) -> DemoSubject:
        """Read a subject from demo.json and the PNG files of a folder, sorted in the order of the captions."""
        data = json.loads((folder / "demo.json").read_text())
        images = [Image.open(path).convert("RGB") for path in sorted(folder.glob("*.png"))]
        phrase = data["caption"].removeprefix("a photo of a ")
        return cls(images, data["initializer"], phrase, tuple(data["captions"]), tuple(data["prompts"]))


def demo(
    out: Annotated[
        Path, typer.Option(help="Folder for the image grid and the concept file; they are overwritten.")
    ] = Path("demo-output"),
    device: DeviceOption = None,
) -> None:
    """Learn an unseen subject on the embedded model and compare images before and after."""
    from zoodip_core.base_models.catalog import Catalog
    from zoodip_core.cli.output_files import make_output_folder
    from zoodip_core.diffusion.loading import load_bundle
    from zoodip_core.diffusion.scoring import Scorer

    entry = Catalog.load().get("emoji")
    bundle = load_bundle(entry, device=device, dequantized_mb=None)
    make_output_folder(out)
    demo_subject = DemoSubject.read(ASSETS)
    learned = _learn(bundle, entry, demo_subject, out / "demo.safetensors")
    say("drawing the same prompts with the initializer, the learned token and the description …")
    names = {"before": demo_subject.initializer, "after": PLACEHOLDER, "caption": demo_subject.phrase}
    concepts = learned.personalization.concept_vectors
    drawn = {
        key: _draw(bundle, demo_subject, name, concepts, entry.generation) for key, name in names.items()
    }
    grid = out / "grid.png"
    _write_grid(demo_subject, names, drawn, grid)
    scorer = Scorer(bundle.folder / "scorer")
    scores = {f"clip_i_{key}": _clip_i(scorer, demo_subject, images) for key, images in drawn.items()}
    say(
        f"CLIP-I {scores['clip_i_before']:.3f} → {scores['clip_i_after']:.3f} "
        f"(with the description: {scores['clip_i_caption']:.3f}); image grid: {grid}"
    )
    print_json({**learned.figures(), **scores, "grid": str(grid)})


def _learn(bundle: Bundle, entry: BaseModelEntry, demo_subject: DemoSubject, out: Path) -> Learned:
    """Learn the token and save its concept file.

    Raises:
        InterruptedSearchError: Ctrl-C or SIGTERM; nothing is saved.
    """
    from zoodip_core.artifact import save_concept
    from zoodip_core.base_models.presets import resolve_settings
    from zoodip_core.cli.learn import Learned, run_with_progress
    from zoodip_core.personalization.concept_conversion import to_concept
    from zoodip_core.personalization.personalize import Personalization
    from zoodip_core.personalization.subject import Subject

    captions = tuple(caption.replace("{}", PLACEHOLDER) for caption in demo_subject.captions)
    subject = Subject(PLACEHOLDER, demo_subject.initializer, "object", captions)
    settings = resolve_settings(entry, bundle.family, "default", SETTINGS)
    say(
        f"learning {PLACEHOLDER} from {len(demo_subject.images)} images; "
        f"the initializer is {demo_subject.initializer!r} …"
    )
    personalization = Personalization.begin(bundle, subject, demo_subject.images, settings)
    outcome = run_with_progress(personalization, save=lambda _: None)  # the demo is short enough to repeat
    if not outcome.finished:
        raise InterruptedSearchError(
            f"interrupted at step {outcome.steps} of {settings.steps}; nothing was saved"
        )
    save_concept(to_concept(personalization, outcome.fixed_loss_end), out)
    return Learned(personalization, out, outcome)


def _draw(
    bundle: Bundle,
    demo_subject: DemoSubject,
    name: str,
    concepts: ConceptVectors,
    defaults: Mapping[str, Any],
) -> list[list[Image.Image]]:
    """Draw four images for each prompt, naming the subject `name`; the seeds do not depend on the name."""
    from zoodip_core.config import GenerationSettings
    from zoodip_core.diffusion.generation import generate

    rows = []
    for index, prompt in enumerate(demo_subject.prompts):
        values = {
            **defaults,
            "prompt": prompt.replace("{}", name),
            "n": IMAGES_PER_PROMPT,
            "seed": 100 * index,
        }
        rows.append([image.image for image in generate(bundle, GenerationSettings.parse(values), concepts)])
    return rows


def _clip_i(scorer: Scorer, demo_subject: DemoSubject, rows: list[list[Image.Image]]) -> float:
    return round(scorer.clip_i(demo_subject.images, [image for row in rows for image in row]), 4)


def _write_grid(
    demo_subject: DemoSubject,
    names: Mapping[str, str],
    drawn: Mapping[str, list[list[Image.Image]]],
    path: Path,
) -> None:
    from zoodip_core.files import write_atomically
    from zoodip_core.grid import GridRow, draw_grid
    from zoodip_core.png_metadata import encode_marked

    def row(title: str, key: str) -> GridRow:
        labels = [prompt.replace("{}", names[key]) for prompt in demo_subject.prompts]
        return GridRow(title, [images[0] for images in drawn[key]], labels)

    references = [caption.replace("{}", PLACEHOLDER) for caption in demo_subject.captions]
    rows = [
        GridRow(f"reference images of {PLACEHOLDER}", demo_subject.images, references),
        row(f"before: the word {names['before']!r}", "before"),
        row(f"after: the learned token {PLACEHOLDER}", "after"),
        row(f"description: {names['caption']!r}", "caption"),
    ]
    write_atomically(path, encode_marked(draw_grid(rows), "compositeSynthetic"))
