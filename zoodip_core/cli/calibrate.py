"""`zoodip calibrate`: learn once in which directions the tokens of a base model move."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zoodip_core.cli.console import interruption, print_json, say
from zoodip_core.cli.options import BaseModelOption, CatalogOption, DeviceOption, JsonOption
from zoodip_core.errors import InvalidInputError

if TYPE_CHECKING:
    from zoodip_core.base_models.catalog import BaseModelEntry
    from zoodip_core.calibration.watch import Stage

SubjectsOption = Annotated[
    int, typer.Option("--subjects", min=2, max=1000, help="Number of pseudo-subjects that the model draws.")
]
StepsOption = Annotated[
    int,
    typer.Option(
        "--steps",
        min=1,
        max=100_000,
        help="Steps of backpropagation, or of the search, for each pseudo-subject.",
    ),
]
ForwardOnlyOption = Annotated[
    bool,
    typer.Option(
        "--forward-only",
        help="Learn with forward passes only, on the base model as it is quantized: slower, in less memory.",
    ),
]
SeedOption = Annotated[
    int, typer.Option("--seed", min=0, max=2**32 - 1, help="Seed of pseudo-subjects, pictures and samples.")
]
ExcludeOption = Annotated[
    Path | None,
    typer.Option(
        "--exclude",
        help="Text file with phrases that no pseudo-subject may contain, one a line. The order of their words, "
        "case, punctuation and articles do not matter.",
    ),
]
OutOption = Annotated[
    Path | None, typer.Option("--out", help="File to write; default: the one that searches load.")
]
ReplaceOption = Annotated[bool, typer.Option("--replace", help="Overwrite an existing calibration.")]


def calibrate(
    base_model: BaseModelOption = None,
    subjects: SubjectsOption = 128,
    steps: StepsOption = 150,
    forward_only: ForwardOnlyOption = False,
    seed: SeedOption = 0,
    exclude: ExcludeOption = None,
    out: OutOption = None,
    replace: ReplaceOption = False,
    catalog: CatalogOption = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Learn where the tokens of a base model move, for shorter searches. Repeat it to continue after Ctrl-C.

    Pseudo-subjects are learned in batches of eight. A batch that Ctrl-C interrupts is learned again, and an
    interrupted measurement starts again.
    """
    from zoodip_core.base_models.catalog import Catalog
    from zoodip_core.calibration.calibrate import calibrate as run
    from zoodip_core.calibration.options import CalibrationOptions
    from zoodip_core.calibration.watch import Watch
    from zoodip_core.diffusion.loading import load_bundle

    entry = Catalog.load(catalog).get(base_model)
    file = _file(entry, out, replace=replace)
    options = CalibrationOptions(
        subjects, steps, seed=seed, excluded=_phrases(exclude), forward_only=forward_only
    )
    bundle = load_bundle(entry if forward_only else _in_fp32(entry), device=device)
    with interruption() as stop:
        run(bundle, options, file, generation=entry.generation, watch=Watch(_say_progress, stop))
    say(f"{entry.name}: calibration saved to {file}")
    if file == entry.calibration:
        say(f"{entry.name}: the default search is now the calibrated one; search_space=full is the other")
    if as_json:
        print_json({"base_model": entry.name, "calibration": str(file), "subjects": subjects, "steps": steps})


def _say_progress(stage: Stage, done: int, of: int) -> None:
    """Print a line for every eighth pseudo-subject, and for the last one."""
    if done % 8 == 0 or done == of:
        say(f"calibrating: {done} of {of} pseudo-subjects {stage}")


def _in_fp32(entry: BaseModelEntry) -> BaseModelEntry:
    """Return the entry with all parts in fp32, which backpropagation needs."""
    parts = ("unet_precision", "text_encoder_precision", "vae_precision")
    return entry.model_copy(update={"precision": "fp32", **dict.fromkeys(parts)})


def _file(entry: BaseModelEntry, out: Path | None, *, replace: bool) -> Path:
    """Return the file to write.

    Raises:
        InvalidInputError: it exists, is no regular file, or its folder is missing or not writable.
    """
    from zoodip_core.cli.output_files import check_writable

    file = out or entry.calibration
    assert file is not None, "the catalog sets the path"
    check_writable(file)
    if file.exists() and not replace:
        raise InvalidInputError.mismatch(
            "out", got=f"{file}, which exists", expected="another file, or --replace to overwrite it"
        )
    return file


def _phrases(path: Path | None) -> tuple[str, ...]:
    """Return the phrases of a text file.

    Raises:
        InvalidInputError: the file cannot be read, or a line has no word.
    """
    from zoodip_core.calibration.excluded_phrases import parse_excluded

    if path is None:
        return ()
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError.mismatch(
            "exclude", got=f"{path} ({error})", expected="a readable text file"
        ) from error
    return parse_excluded(lines)
