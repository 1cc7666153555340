"""Output files of `zoodip generate`: images with their metadata, and the contact sheet of a prompt set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoodip_core.diffusion.generation import GeneratedImage
    from zoodip_core.diffusion.loading import Bundle
    from zoodip_core.generation_prompts import PreparedGeneration
    from zoodip_core.prompt_sets import FilledPrompt


def save_images(
    out: Path,
    drawn: Sequence[tuple[int, GeneratedImage]],
    prepared: Sequence[PreparedGeneration],
    bundle: Bundle,
    prompts: Sequence[FilledPrompt] | None,
) -> list[str]:
    """Write each image under a free name, with its metadata, and return the paths."""
    from zoodip_core.free_names import write_under_free_name
    from zoodip_core.png_metadata import IMAGE_FIELDS, GenerationFacts, encode_generated

    files = []
    for index, image in drawn:
        own = prepared[index]
        facts = GenerationFacts(
            prompt=own.settings.prompt,
            seed=image.seed,
            base_model=bundle.name,
            fingerprint=bundle.fingerprint,
            concepts=dict.fromkeys(own.tokens),
            settings=own.settings.model_dump(exclude=IMAGE_FIELDS),
        )
        name = f"{image.seed}.png" if prompts is None else _file_name(prompts[index], image.seed)
        files.append(str(write_under_free_name(out / name, encode_generated(image.image, facts))))
    return files


def json_of_set(
    prompts: Sequence[FilledPrompt],
    prepared: Sequence[PreparedGeneration],
    drawn: Sequence[tuple[int, GeneratedImage]],
    sheet: str,
) -> dict[str, Any]:
    """Return the fields that `--json` adds for a set: which images belong to which prompt, and the contact sheet."""
    groups = [
        {
            "template": one.template,
            "concept": one.concept,
            "prompt": own.settings.prompt,
            "images": [k for k, (index, _) in enumerate(drawn) if index == number],
        }
        for number, (one, own) in enumerate(zip(prompts, prepared, strict=True))
    ]
    return {"groups": groups, "contact_sheet": sheet}


def _file_name(prompt: FilledPrompt, seed: int) -> str:
    """Return the name of an image file of a set: number of the prompt, concept and seed."""
    concept = "" if prompt.concept is None else f"-{prompt.concept.strip('<>')}"
    return f"{(prompt.index or 0) + 1:02d}{concept}-{seed}.png"


def write_contact_sheet(
    out: Path, prompts: Sequence[FilledPrompt], drawn: Sequence[tuple[int, GeneratedImage]]
) -> str:
    """Write the contact sheet of a set under a free name, and return its path.

    Args:
        out: output folder.
        prompts: prompts of the set.
        drawn: index of the prompt, and image, in the order of the prompts.
    """
    from zoodip_core.contact_sheet import SheetImage, draw_contact_sheet
    from zoodip_core.free_names import write_under_free_name
    from zoodip_core.png_metadata import encode_marked

    entries = [
        SheetImage.of(prompts[index].template, prompts[index].concept, image.seed, image.image)
        for index, image in drawn
    ]
    return str(write_under_free_name(out / "contact-sheet.png", encode_marked(draw_contact_sheet(entries))))
