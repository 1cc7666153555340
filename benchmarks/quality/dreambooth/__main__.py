"""`python -m benchmarks.quality.dreambooth`: the paper's protocol on a base model of the catalogue, with real photos.

DreamBooth's 30 subjects and 25 prompts; CLIP-T and CLIP-I by a CLIP pair, DINO by DINOv2, from given folders.
Rows go to dreambooth.jsonl as they are measured; the same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.quality.cli import OUT, at_least, print_or_exit, progress, whole_numbers
from benchmarks.quality.dreambooth.metrics import read_encoders
from benchmarks.quality.dreambooth.run import ALLOWED, Asked, PhotoBooth, Row
from benchmarks.quality.dreambooth.subjects import PROMPTS, phrases, read_subjects
from benchmarks.quality.learning.methods import check_methods
from benchmarks.quality.report.tables import method_table
from zoodip_core.base_models.catalog import BaseModelEntry, Catalog
from zoodip_core.base_models.fingerprint import fingerprint
from zoodip_core.cli.options import parse_assignments
from zoodip_core.diffusion.loading import locate
from zoodip_core.files import write_atomically

HEAD = (
    "method",
    "forwards",
    "CLIP-T",
    "CLIP-I",
    "DINO",
    "alike",
    "fixed-set loss",
    "s a subject",
    "peak, MB",
)


def table(rows: Sequence[Row]) -> str:
    """A line a method and count of forwards, in the rows' order."""
    return method_table(
        HEAD,
        rows,
        [
            (lambda row: row.figures.clip_t, 3, True),
            (lambda row: row.figures.clip_i, 3, True),
            (lambda row: row.figures.dino, 3, True),
            (lambda row: row.figures.alike, 3, False),
            (lambda row: row.fixed_loss, 4, False),
            (lambda row: row.seconds, 1, False),
            (lambda row: row.peak_mb, 0, False),
        ],
    )


def run(given: argparse.Namespace) -> str:
    """Measure what is missing; the table, which is written to the folder too."""
    asked, entry = _asked(given), Catalog.load(given.catalog).get(given.base_model)
    weights = fingerprint(locate(entry))
    subjects = read_subjects(given.dataset, given.subjects.split(",") if given.subjects else None)
    rows = PhotoBooth(entry, subjects, read_encoders(given.clip, given.dino), asked, progress).run()
    text = f"{_describe(entry, weights, len(subjects), asked)}\n\n{table(rows)}\n"
    write_atomically(asked.out / f"dreambooth-{entry.name}.md", text.encode())
    return text


def _describe(entry: BaseModelEntry, weights: str, subjects: int, asked: Asked) -> str:
    """What a table is made of."""
    changes = "".join(f", {name}={value}" for name, value in asked.changes.items())
    return (
        f"{subjects} subjects of DreamBooth on {entry.name} ({entry.precision}), {asked.prompts} prompts × "
        f"{asked.pictures} pictures{changes}; weights {weights[:12]}; {asked.seeds} search seeds; means over "
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
    add("--base-model", required=True, help="name in the catalogue")
    add("--dataset", type=Path, required=True, help="folder with one folder of photos for each subject")
    add("--clip", type=Path, required=True, help="folder of CLIP ViT-B/32 (openai/clip-vit-base-patch32)")
    add("--dino", type=Path, required=True, help="folder of DINOv2 (facebook/dinov2-base)")
    add("--subjects", help="names with commas between; all 30 if left out")
    add("--methods", default="initializer,paper", help=f"names with commas between: {', '.join(ALLOWED)}")
    add("--seeds", type=int, default=1, help="search seeds")
    add("--forwards", default="90000", help="U-Net forwards of one subject, with commas between")
    add("--prompts", type=int, default=PROMPTS, help=f"prompts of a subject, at most {PROMPTS}")
    add("--pictures", type=int, default=5, help="pictures of a prompt")
    add("--set", action="append", default=[], metavar="NAME=VALUE", help="of the zeroth-order methods")
    add("--max-rows", type=int, help="most U-Net rows in one forward; no limit if left out")
    add("--device", help="cpu or cuda; CUDA where there is one")
    add("--out", type=Path, default=OUT, help="folder of results, searches, tables and grids")
    return parser


def _asked(given: argparse.Namespace) -> Asked:
    """The options, with every name and number checked.

    Raises:
        BenchmarkError: an unknown method, or a number that is none or out of range.
        InvalidSettingsError: --set without NAME=VALUE.
    """
    phrases("object", given.prompts)
    return Asked(
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
