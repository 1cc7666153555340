"""`zoodip personalize`: learn a concept file from reference images."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from zoodip_core.cli.console import print_json, say, say_warnings
from zoodip_core.cli.options import (
    BaseModelOption,
    CatalogOption,
    CompileOption,
    DequantizedOption,
    DeviceOption,
    JsonOption,
    MaxRowsOption,
    parse_assignments,
)
from zoodip_core.cli.reference_images import MaxFileOption, MaxMegapixelsOption, read_captioned_images
from zoodip_core.images.limits import MAX_FILE_BYTES, MAX_PIXELS, ImageLimits

if TYPE_CHECKING:
    from zoodip_core.cli.learn import Learned

ImagesArgument = Annotated[
    list[Path],
    typer.Argument(
        help="1 to 16 PNG, JPEG, WebP, HEIC or AVIF files, or folders or ZIP files with them. A .txt file with the "
        "name of an image is its caption, if it contains the token."
    ),
]
TokenOption = Annotated[str, typer.Option(help="Token to learn, such as '<my-dog>'.")]
InitializerOption = Annotated[
    str,
    typer.Option(
        help="Word that describes the subject, such as dog, or one word for each vector. "
        "One vector starts from the mean of several words."
    ),
]
KindOption = Annotated[
    Literal["object", "style"], typer.Option(help="Whether the images show an object or a style.")
]
CaptionOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Sentence with the token; one for each image, in their order. Replaces the .txt files."
    ),
]
CropOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Square of an image to use, as FILE=X,Y,SIDE in pixels of the upright image; may be repeated."
    ),
]
PresetOption = Annotated[
    str, typer.Option(help="default: tuned for the base model; paper: as printed; script: as published.")
]
StepsOption = Annotated[int | None, typer.Option(help="Number of steps (iterations of Algorithm 1).")]
SeedOption = Annotated[int | None, typer.Option(help="Random seed of the search.")]
MaskedLossOption = Annotated[
    bool, typer.Option("--masked-loss", help="Leave transparent parts of the images out of the loss.")
]
SettingOption = Annotated[
    list[str] | None, typer.Option("--set", help="Other setting as NAME=VALUE; may be repeated.")
]
ResumeOption = Annotated[
    bool, typer.Option(help="Continue from the checkpoint of --out; a larger --steps extends the search.")
]
ReplaceOption = Annotated[
    bool, typer.Option(help="Overwrite the concept file; without --resume, start over.")
]
OutOption = Annotated[
    Path | None, typer.Option(help="New concept file in an existing folder; default: <name>.safetensors.")
]


def personalize(
    images: ImagesArgument,
    token: TokenOption,
    initializer: InitializerOption,
    kind: KindOption = "object",
    caption: CaptionOption = None,
    crop: CropOption = None,
    base_model: BaseModelOption = None,
    preset: PresetOption = "default",
    steps: StepsOption = None,
    seed: SeedOption = None,
    masked_loss: MaskedLossOption = False,
    set_: SettingOption = None,
    resume: ResumeOption = False,
    replace: ReplaceOption = False,
    out: OutOption = None,
    catalog: CatalogOption = None,
    max_file_mb: MaxFileOption = MAX_FILE_BYTES / 1e6,
    max_image_megapixels: MaxMegapixelsOption = MAX_PIXELS / 1e6,
    device: DeviceOption = None,
    max_rows: MaxRowsOption = None,
    dequantized_mb: DequantizedOption = None,
    compile_: CompileOption = False,
    as_json: JsonOption = False,
) -> None:
    """Learn a token from images with forward passes only."""
    from zoodip_core.artifact import file_name
    from zoodip_core.base_models.catalog import Catalog
    from zoodip_core.base_models.families import detect_family
    from zoodip_core.base_models.model_folder import find_model_folder
    from zoodip_core.base_models.presets import resolve_settings
    from zoodip_core.cli.learn import learn
    from zoodip_core.cli.output_files import reserved
    from zoodip_core.diffusion.device import choose_device
    from zoodip_core.diffusion.loading import load_bundle
    from zoodip_core.images import image_warnings, without_opacity
    from zoodip_core.personalization.subject import Subject, resolve_subject

    choose_device(device)  # before a base model is downloaded
    limits = ImageLimits.of(file_mb=max_file_mb, megapixels=max_image_megapixels)
    references = read_captioned_images(
        images, token=token, kind=kind, captions=caption, limits=limits, crops=crop or ()
    )
    entry = Catalog.load(catalog).get(base_model)
    folder = find_model_folder(entry)
    overrides = parse_assignments(set_ or [])
    given = {"steps": steps, "seed": seed, "masked_loss": masked_loss or None}
    overrides |= {name: value for name, value in given.items() if value is not None}
    settings = resolve_settings(entry, detect_family(folder), preset, overrides)
    subject, warnings = resolve_subject(
        Subject(token, initializer, kind, references.captions),
        folder,
        images=len(references.images),
        vectors=settings.vectors,
        templates=entry.templates.get(kind),
    )
    say_warnings(warnings)
    with reserved(out or Path(file_name(token)), resume=resume, replace=replace) as files:
        bundle = load_bundle(
            entry, device=device, max_rows=max_rows, dequantized_mb=dequantized_mb, compiled=compile_
        )
        of_images = image_warnings(
            references.images,
            bundle.side_px,
            cropped=settings.image_fit == "crop",
            masked=settings.masked_loss,
            crops=references.crops,
        )
        say_warnings(of_images)
        pictures = [image if settings.masked_loss else without_opacity(image) for image in references.images]
        learned = learn(bundle, subject, pictures, settings, files=files, resume=resume, replace=replace)
    _report(learned, token, settings.steps)
    if as_json:
        read = {"captions": subject.captions and list(subject.captions)}
        found = {"warnings": [asdict(warning) for warning in [*warnings, *of_images]]}
        print_json({**learned.figures(), **references.report, **read, **found})


def _report(learned: Learned, token: str, total_steps: int) -> None:
    """Print the result."""
    outcome = learned.outcome
    early = f" ({outcome.steps} of {total_steps} steps: the validation loss no longer falls)"
    say(
        f"{token} learned in {outcome.seconds:.0f} s{early if outcome.stopped_early else ''}: validation loss "
        f"{outcome.fixed_loss_start:.4f} → {outcome.fixed_loss_end:.4f}; saved to {learned.artifact}"
    )
