"""`zoodip generate`: draw PNG files from a prompt with learned tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

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
    SafetyCheckerOption,
)
from zoodip_core.cli.progress import drawing_progress

if TYPE_CHECKING:
    from zoodip_core.base_models.catalog import BaseModelEntry
    from zoodip_core.config import GenerationSettings
    from zoodip_core.diffusion.generation import ImageBatch
    from zoodip_core.diffusion.loading import Bundle
    from zoodip_core.diffusion.prompts import ConceptVectors
    from zoodip_core.generation_prompts import PreparedGeneration
    from zoodip_core.prompt_sets import FilledPrompt

PromptOption = Annotated[
    str | None,
    typer.Option(help="Prompt; may contain the tokens of the given concepts."),
]
PromptsOption = Annotated[
    Path | None,
    typer.Option(
        help="Instead of --prompt: text file with 1 to 64 prompts, one a line. {token} becomes each concept. "
        "Also writes contact-sheet.png, which shows all images with captions."
    ),
]
ConceptOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Concept file, or FILE='<token>' to name its token; may be repeated. "
        "A file that contains no token is named after itself."
    ),
]
NegativePromptOption = Annotated[str, typer.Option(help="What the images must not show.")]
PromptSyntaxOption = Annotated[
    Literal["plain", "weighted"],
    typer.Option(help="Syntax of both prompts: plain text, or weights such as (word:1.2)."),
]
LongPromptsOption = Annotated[
    Literal["chunks", "truncate"],
    typer.Option(help="Prompts beyond the text window: read in chunks, or truncated with a warning."),
]
CountOption = Annotated[
    int, typer.Option(help="Number of images of each prompt; image k uses the seed SEED + k.")
]
StepsOption = Annotated[
    int | None, typer.Option(help="Number of denoising steps; default: that of the base model.")
]
GuidanceOption = Annotated[
    float | None,
    typer.Option(help="Guidance scale; 1 disables guidance; default: that of the base model."),
]
GuidanceRescaleOption = Annotated[
    float,
    typer.Option(help="Share of the correction for overexposed guided images, 0 to 1; 0 turns it off."),
]
SeedOption = Annotated[int, typer.Option(help="Seed of the first image.")]
SchedulerOption = Annotated[
    str | None,
    typer.Option(help="Scheduler, such as euler or dpm++_karras; default: that of the base model."),
]
WidthOption = Annotated[int | None, typer.Option(help="Width in pixels; default: that of the base model.")]
HeightOption = Annotated[int | None, typer.Option(help="Height in pixels; default: that of the base model.")]
OutOption = Annotated[
    Path,
    typer.Option(
        help="Output folder; created if missing. Each file is named after its seed, such as 7.png, with --prompts "
        "after its prompt and concept, such as 01-my-dog-7.png. "
        "If the name is taken, the file gets the next free one, such as 7-2.png."
    ),
]
AllowModelMismatchOption = Annotated[
    bool,
    typer.Option(
        "--allow-model-mismatch",
        help="Use concepts of another base model of the same width, with a warning.",
    ),
]


def generate(
    prompt: PromptOption = None,
    prompts: PromptsOption = None,
    concept: ConceptOption = None,
    negative_prompt: NegativePromptOption = "",
    prompt_syntax: PromptSyntaxOption = "plain",
    long_prompts: LongPromptsOption = "chunks",
    n: CountOption = 1,
    steps: StepsOption = None,
    guidance: GuidanceOption = None,
    guidance_rescale: GuidanceRescaleOption = 0,
    seed: SeedOption = 0,
    scheduler: SchedulerOption = None,
    width: WidthOption = None,
    height: HeightOption = None,
    out: OutOption = Path("images"),
    allow_model_mismatch: AllowModelMismatchOption = False,
    base_model: BaseModelOption = None,
    catalog: CatalogOption = None,
    device: DeviceOption = None,
    max_rows: MaxRowsOption = None,
    dequantized_mb: DequantizedOption = None,
    compile_: CompileOption = False,
    safety_checker: SafetyCheckerOption = False,
    as_json: JsonOption = False,
) -> None:
    """Draw images from a prompt or a file of prompts."""
    from zoodip_core.base_models.catalog import Catalog
    from zoodip_core.cli.concept_files import read_concepts
    from zoodip_core.cli.generated_files import json_of_set, save_images, write_contact_sheet
    from zoodip_core.cli.prompt_file import requested_prompts
    from zoodip_core.diffusion.loading import load_bundle
    from zoodip_core.free_names import check_output_folder
    from zoodip_core.personalization.concept_conversion import concept_vectors, mismatch_warnings

    entry = Catalog.load(catalog).get(base_model)
    values = {
        "negative_prompt": negative_prompt,
        "prompt_syntax": prompt_syntax,
        "long_prompts": long_prompts,
        "n": n,
        "steps": steps,
        "guidance_scale": guidance,
        "guidance_rescale": guidance_rescale,
        "seed": seed,
        "scheduler": scheduler,
        "width": width,
        "height": height,
    }
    concepts, notes = read_concepts(concept or [])
    filled = requested_prompts(prompt, prompts, [learned.token for learned in concepts])
    settings = _settings(entry, values | {"prompt": filled[0].text})
    prepared = _prepare(
        entry,
        settings,
        {learned.token: learned.vectors for learned in concepts},
        None if prompts is None else filled,
    )
    check_output_folder(out)
    found = dict.fromkeys(warning for one in prepared for warning in one.warnings)
    warnings = [*notes, *found]
    say_warnings(warnings)
    bundle = load_bundle(
        entry,
        device=device,
        max_rows=max_rows,
        safety_checker=safety_checker,
        dequantized_mb=dequantized_mb,
        compiled=compile_,
    )
    if safety_checker and bundle.safety_checker is None:
        say(f"warning: {entry.name} ships no safety checker, so its images are not checked")
    allowed = [learned.token for learned in concepts] if allow_model_mismatch else []
    vectors = concept_vectors(concepts, bundle, mismatch_allowed=allowed)
    mismatches = mismatch_warnings(concepts, bundle)
    say_warnings(mismatches)
    batch = _draw(bundle, [one.settings for one in prepared], vectors)
    drawn = [(k // n, image) for k, image in enumerate(batch.drawn) if image is not None]
    files = save_images(out, drawn, prepared, bundle, None if prompts is None else filled)
    sheet = None if prompts is None else write_contact_sheet(out, filled, drawn)
    for withheld in batch.withheld:
        say(f"withheld: the image of seed {withheld}, because the safety checker flagged it")
    say("\n".join(files if sheet is None else [*files, sheet]))
    if as_json:
        print_json(
            {
                "images": files,
                "seeds": [image.seed for _, image in drawn],
                "withheld": batch.withheld,
                "prompt": prepared[0].settings.prompt,
                **({} if sheet is None else json_of_set(filled, prepared, drawn, sheet)),
                "warnings": [asdict(warning) for warning in [*warnings, *mismatches]],
            }
        )


def _settings(entry: BaseModelEntry, values: dict[str, Any]) -> GenerationSettings:
    """Return the settings of the options; those that are None have the base model's default."""
    from zoodip_core.base_models.scheduler_names import check_scheduler
    from zoodip_core.config import GenerationSettings

    check_scheduler(values["scheduler"])
    given = {name: value for name, value in values.items() if value is not None}
    return GenerationSettings.parse(entry.generation | given)


def _prepare(
    entry: BaseModelEntry,
    settings: GenerationSettings,
    vectors: Mapping[str, int],
    prompts: Sequence[FilledPrompt] | None,
) -> list[PreparedGeneration]:
    """Validate size and prompts before the weights are loaded; `prompts` is None for a single one.

    Raises:
        InvalidInputError: names the option.
    """
    from zoodip_core.base_models.families import detect_family
    from zoodip_core.base_models.image_size import check_sides, latent_cell_px
    from zoodip_core.base_models.model_folder import find_model_folder
    from zoodip_core.base_models.text_window import text_windows
    from zoodip_core.generation_prompts import prepare_prompts
    from zoodip_core.prompt_sets import prepare_set
    from zoodip_core.prompt_tokens import candidate_tokens

    folder = find_model_folder(entry)
    detect_family(folder)
    check_sides(settings.height, settings.width, latent_cell_px(folder))
    known = ", ".join(sorted(vectors)) or "none is given"
    expected = f"a token of the given concepts ({known})"
    windows = text_windows(folder)
    if prompts is None:
        return [prepare_prompts(settings, vectors, windows, expected=expected)]

    def vectors_of(text: str) -> dict[str, int]:
        meant = candidate_tokens(text) | candidate_tokens(settings.negative_prompt)
        return {token: count for token, count in vectors.items() if token in meant}

    return prepare_set(settings, prompts, vectors_of, windows, expected=expected)


def _draw(bundle: Bundle, requests: Sequence[GenerationSettings], vectors: ConceptVectors) -> ImageBatch:
    """Draw the images and show the progress."""
    from zoodip_core.diffusion.generation import ImageBatch

    batch = ImageBatch(bundle, requests, vectors)
    with drawing_progress(requests[0].steps) as update:
        while not batch.done:
            batch.advance()
            update(batch.step)
    return batch
