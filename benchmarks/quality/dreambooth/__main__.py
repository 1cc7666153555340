"""`python -m benchmarks.quality.dreambooth`: the paper's protocol on a base model of the catalog, with real photos.

Uses DreamBooth's 30 subjects and 25 prompts. A CLIP pair measures CLIP-T and CLIP-I, DINOv2 measures DINO. Rows are
stored in dreambooth.jsonl as they are measured. The same command continues after an interruption.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.quality.cli import OUT, at_least, log_progress, print_or_exit, whole_numbers
from benchmarks.quality.dreambooth.metrics import read_encoders
from benchmarks.quality.dreambooth.run import ALLOWED, DreamBoothOptions, DreamBoothRun, PhotoRow
from benchmarks.quality.dreambooth.subjects import PROMPTS, read_prompts, read_subjects
from benchmarks.quality.learning.methods import check_methods
from benchmarks.quality.report.tables import method_table
from zoodip_core.base_models.catalog import BaseModelEntry, Catalog
from zoodip_core.base_models.fingerprint import fingerprint
from zoodip_core.base_models.model_folder import find_model_folder
from zoodip_core.cli.options import parse_assignments
from zoodip_core.files import write_atomically

HEAD = (
    *("method", "NFE", "CLIP-T", "CLIP-I", "DINO", "intra-prompt similarity"),
    *("validation loss", "s/subject", "peak, MB"),
)


def table(rows: Sequence[PhotoRow]) -> str:
    """Return one line for each method and number of evaluations, in the rows' order."""
    return method_table(
        HEAD,
        rows,
        [
            (lambda row: row.figures.clip_t, 3, True),
            (lambda row: row.figures.clip_i, 3, True),
            (lambda row: row.figures.dino, 3, True),
            (lambda row: row.figures.intra_prompt_similarity, 3, False),
            (lambda row: row.fixed_loss, 4, False),
            (lambda row: row.seconds, 1, False),
            (lambda row: row.peak_mb, 0, False),
        ],
    )


def run(given: argparse.Namespace) -> str:
    """Measure the missing rows; return the table and write it to the folder."""
    options, entry = _options(given), Catalog.load(given.catalog).get(given.base_model)
    weights = fingerprint(find_model_folder(entry))
    subjects = read_subjects(given.dataset, given.subjects.split(",") if given.subjects else None)
    encoders = read_encoders(given.clip, given.dino)
    rows = DreamBoothRun(entry, subjects, encoders, options, log_progress).run()
    text = f"{_describe(entry, weights, len(subjects), options)}\n\n{table(rows)}\n"
    write_atomically(options.out / f"dreambooth-{entry.name}.md", text.encode())
    return text


def _describe(entry: BaseModelEntry, weights: str, subjects: int, options: DreamBoothOptions) -> str:
    """Return the sentence above the table."""
    changes = "".join(f", {name}={value}" for name, value in options.changes.items())
    return (
        f"{subjects} subjects of DreamBooth on {entry.name} ({entry.precision}), {options.prompts} prompts × "
        f"{options.pictures} pictures{changes}; weights {weights[:12]}; {options.seeds} search seeds; means over "
        "subjects, 95 % bootstrap intervals in brackets."
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    given = _parser().parse_args(arguments)
    print_or_exit(lambda: run(given))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality.dreambooth",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--catalog", type=Path, help="TOML file that lists base models")
    add("--base-model", required=True, help="name in the catalog")
    add("--dataset", type=Path, required=True, help="folder with one folder of photos for each subject")
    add("--clip", type=Path, required=True, help="folder of CLIP ViT-B/32 (openai/clip-vit-base-patch32)")
    add("--dino", type=Path, required=True, help="folder of DINOv2 (facebook/dinov2-base)")
    add("--subjects", help="names separated by commas; all 30 by default")
    add("--methods", default="initializer,paper", help=f"names separated by commas: {', '.join(ALLOWED)}")
    add("--seeds", type=int, default=1, help="number of search seeds")
    add("--forwards", default="90000", help="U-Net evaluations for each subject, separated by commas")
    add("--prompts", type=int, default=PROMPTS, help=f"prompts for each subject, at most {PROMPTS}")
    add("--pictures", type=int, default=5, help="pictures for each prompt")
    add("--set", action="append", default=[], metavar="NAME=VALUE", help="setting of forward-pass methods")
    add("--max-rows", type=int, help="maximum U-Net rows in one forward pass; no limit by default")
    add("--device", help="cpu or cuda; CUDA by default if available")
    add("--out", type=Path, default=OUT, help="folder of results, searches, tables and grids")
    return parser


def _options(given: argparse.Namespace) -> DreamBoothOptions:
    """Return the options of parsed arguments.

    Raises:
        BenchmarkError: a method is unknown, or a number is malformed or out of range.
        InvalidSettingsError: --set is not NAME=VALUE.
    """
    read_prompts("object", given.prompts)
    return DreamBoothOptions(
        out=given.out,
        methods=check_methods(given.methods.split(","), ALLOWED),
        seeds=at_least(1, given.seeds, "seeds"),
        forwards=whole_numbers(given.forwards, "forwards"),
        prompts=given.prompts,
        pictures=at_least(1, given.pictures, "pictures"),
        changes=parse_assignments(given.set),
        device=given.device,
        max_rows=None if given.max_rows is None else at_least(1, given.max_rows, "max-rows"),
    )


if __name__ == "__main__":
    main()
