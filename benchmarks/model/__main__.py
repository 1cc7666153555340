"""`python -m benchmarks.model`: the embedded model's figures with their acceptance thresholds, and grids."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.model.measuring import Scale, measure, table
from models.emoji.errors import EmojiModelError
from models.emoji.train.networks import SHIPPED
from zoodip_core.errors import StorageError
from zoodip_core.files import write_atomically


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the parsed command line.

    Raises:
        EmojiModelError: the number of seeds is too small.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.model", description=__doc__)
    parser.add_argument("--model", type=Path, default=SHIPPED, help="the model folder")
    parser.add_argument("--out", type=Path, default=Path("model-output"), help="folder of table and grids")
    parser.add_argument("--seeds", type=int, default=4, help="pictures for each prompt of seen objects")
    parser.add_argument("--no-inversion", action="store_true", help="skip Textual Inversion")
    options = parser.parse_args(arguments)
    if options.seeds < 1:
        raise EmojiModelError(f"--seeds: got {options.seeds}; expected 1 or more")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    torch.manual_seed(0)
    try:
        options = _options(arguments)
        options.out.mkdir(parents=True, exist_ok=True)
        scale = Scale(options.seeds, inverted=0) if options.no_inversion else Scale(options.seeds)
        found = measure(options.model, options.out, scale)
        text = table(found) + "\n"
        values = json.dumps({one.name: one.value for one in found}, indent=2)
        write_atomically(options.out / "table.md", text.encode())
        write_atomically(options.out / "figures.json", values.encode())
    except (EmojiModelError, StorageError, OSError) as error:
        sys.exit(f"error: {error}")
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
