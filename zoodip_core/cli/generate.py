"""`zoodip generate`: draw PNG files from a prompt with learned tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from zoodip_core.cli.console import print_json, say, say_warnings
from zoodip_core.cli.options import BaseModelOption, CatalogOption, DeviceOption, JsonOption, MaxRowsOption
from zoodip_core.cli.progress import drawing_progress
from zoodip_core.errors import InvalidInputError


def generate(
    prompt: Annotated[str, typer.Option(help="Prompt; may contain the tokens of the given concepts.")],
    concept: Annotated[list[Path] | None, typer.Option(help="Concept file; may be repeated.")] = None,
    negative_prompt: Annotated[str, typer.Option(help="What the images must not show.")] = "",
    n: Annotated[int, typer.Option(help="Number of images; image k uses the seed SEED + k.")] = 1,
    steps: Annotated[
        int | None, typer.Option(help="Number of denoising steps; default: that of the base model.")
    ] = None,
    guidance: Annotated[
        float | None,
        typer.Option(help="Guidance scale; 1 disables guidance; default: that of the base model."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the first image.")] = 0,
    scheduler: Annotated[str | None, typer.Option(help="Scheduler; default: that of the base model.")] = None,
    width: Annotated[
        int | None, typer.Option(help="Width in pixels; default: that of the base model.")
    ] = None,
    height: Annotated[
        int | None, typer.Option(help="Height in pixels; default: that of the base model.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Output folder; created if missing.")] = Path("images"),
    allow_model_mismatch: Annotated[
        bool,
        typer.Option(
            "--allow-model-mismatch",
            help="Use concepts of another base model of the same width, with a warning.",
        ),
    ] = False,
    base_model: BaseModelOption = None,
    catalog: CatalogOption = None,
    device: DeviceOption = None,
    max_rows: MaxRowsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Draw images from a prompt."""
    from zoodip_core import artifact
    from zoodip_core.base_models.catalog import Catalog
    from zoodip_core.config import GenerationSettings
    from zoodip_core.diffusion.generation import ImageBatch
    from zoodip_core.diffusion.loading import load_bundle
    from zoodip_core.files import write_atomically
    from zoodip_core.personalization.concept_conversion import concept_vectors, mismatch_warnings
    from zoodip_core.png_metadata import GenerationFacts, encode_generated

    entry = Catalog.load(catalog).get(base_model)
    values: dict[str, Any] = {
        "prompt": prompt,
        "negative_prompt": negative_prompt,
        "n": n,
        "seed": seed,
        "scheduler": scheduler,
        "width": width,
        "height": height,
    }
    optional = {"steps": steps, "guidance_scale": guidance}
    values |= entry.generation | {k: v for k, v in optional.items() if v is not None}
    settings = GenerationSettings.parse(values)
    concepts = [artifact.load_concept(path) for path in concept or []]
    if out.exists() and not out.is_dir():
        raise InvalidInputError.mismatch("out", got=f"the file {out}", expected="a folder")
    bundle = load_bundle(entry, device=device, max_rows=max_rows)
    allowed = [learned.token for learned in concepts] if allow_model_mismatch else []
    vectors = concept_vectors(concepts, bundle, mismatch_allowed=allowed)
    say_warnings(mismatch_warnings(concepts, bundle))
    batch = ImageBatch(bundle, [settings], vectors)
    with drawing_progress(settings.steps) as update:
        while not batch.done:
            batch.advance()
            update(batch.step)
    drawn = batch.images
    _make_folder(out)
    files = []
    for image in drawn:
        facts = GenerationFacts(
            prompt=prompt,
            seed=image.seed,
            base_model=entry.name,
            fingerprint=bundle.fingerprint,
            concepts={learned.token: None for learned in concepts},
        )
        path = out / f"{image.seed}.png"
        write_atomically(path, encode_generated(image.image, facts))
        files.append(str(path))
    say("\n".join(files))
    if as_json:
        print_json({"images": files, "seeds": [image.seed for image in drawn], "prompt": prompt})


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInputError.mismatch(
            "out", got=f"{out} ({error.strerror})", expected="a folder that exists or can be created"
        ) from error
