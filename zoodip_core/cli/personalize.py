"""`zoodip personalize`: learn a concept file from reference images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from zoodip_core.cli.console import print_json, say, say_warnings
from zoodip_core.cli.options import (
    BaseModelOption,
    CatalogOption,
    DeviceOption,
    JsonOption,
    MaxRowsOption,
    parse_assignments,
)


def personalize(
    images: Annotated[
        list[Path], typer.Argument(help="1 to 16 PNG, JPEG or WebP files, or folders with them.")
    ],
    token: Annotated[str, typer.Option(help="Token to learn, such as '<my-dog>'.")],
    initializer: Annotated[
        str,
        typer.Option(help="Word that describes the subject, such as dog, or one word for each vector."),
    ],
    kind: Annotated[
        Literal["object", "style"], typer.Option(help="Whether the images show an object or a style.")
    ] = "object",
    caption: Annotated[
        list[str] | None, typer.Option(help="Sentence with the token; one for each image, in their order.")
    ] = None,
    base_model: BaseModelOption = None,
    preset: Annotated[
        str, typer.Option(help="default: settings tuned for the base model; paper: settings of the paper.")
    ] = "default",
    steps: Annotated[int | None, typer.Option(help="Number of steps (iterations of Algorithm 1).")] = None,
    seed: Annotated[int | None, typer.Option(help="Random seed of the search.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Other setting as NAME=VALUE; may be repeated.")
    ] = None,
    resume: Annotated[
        bool, typer.Option(help="Continue from the checkpoint in the folder of --out.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Concept file; default: <name>.safetensors.")] = None,
    catalog: CatalogOption = None,
    device: DeviceOption = None,
    max_rows: MaxRowsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Learn a token from images with forward passes only."""
    from zoodip_core.base_models.catalog import Catalog, resolve_settings
    from zoodip_core.base_models.families import detect_family
    from zoodip_core.cli.learn import check_writable, learn
    from zoodip_core.diffusion.loading import find_model_folder, load_bundle
    from zoodip_core.images import image_warnings, read_images
    from zoodip_core.personalization.subject import Subject, resolve_subject

    pictures = read_images(images)
    entry = Catalog.load(catalog).get(base_model)
    folder = find_model_folder(entry)
    overrides = parse_assignments(set_ or [])
    overrides |= {k: v for k, v in (("steps", steps), ("seed", seed)) if v is not None}
    settings = resolve_settings(entry, detect_family(folder), preset, overrides)
    subject, warnings = resolve_subject(
        Subject(token, initializer, kind, tuple(caption) if caption else None),
        folder,
        images=len(pictures),
        vectors=settings.vectors,
        templates=entry.templates.get(kind),
    )
    say_warnings(warnings)
    target = out or Path(f"{token.strip('<>')}.safetensors")
    check_writable(target)
    bundle = load_bundle(entry, device=device, max_rows=max_rows)
    say_warnings(image_warnings(pictures, bundle.side_px))
    learned = learn(bundle, subject, pictures, settings, out=target, resume=resume)
    figures = learned.figures()
    early = f" ({figures['steps']} of {settings.steps} steps: the validation loss no longer falls)"
    say(
        f"{token} learned in {figures['seconds']:.0f} s{early if figures['stopped_early'] else ''}: validation loss "
        f"{figures['fixed_loss_start']:.4f} → {figures['fixed_loss_end']:.4f}; saved to {target}"
    )
    if as_json:
        print_json(dict(figures))
