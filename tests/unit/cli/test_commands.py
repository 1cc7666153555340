"""Table of commands: it agrees with the commands, and help imports none of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from zoodip_core.cli.commands import LazyCommands, all_commands

INDUCTOR = "torch._inductor.compile_fx"
HEAVY = {
    "PIL",
    "bitsandbytes",
    "celery",
    "diffusers",
    "numpy",
    "sqlalchemy",
    "torch",
    "transformers",
    INDUCTOR,
}


def _imported(*arguments: str) -> set[str]:
    """Return the heavy packages that `zoodip ARGUMENTS` has imported when it ends."""
    script = (
        "import atexit, sys; sys.argv[0] = 'zoodip'; "
        "atexit.register(lambda: print(*sys.modules, file=sys.stderr)); "
        "from zoodip_core.cli.main import run; run()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True
    )
    return HEAVY & set(done.stderr.split())


def test_summaries_are_those_of_the_commands() -> None:
    """Name and summary of each entry equal those of the command that runs."""
    listed = {name: command.help for name, command in LazyCommands().commands.items()}
    loaded = {
        name: " ".join(command.help.partition("\n\n")[0].split()) for name, command in all_commands().items()
    }
    assert listed == loaded


def test_help_imports_no_heavy_package() -> None:
    """`zoodip`, `--help`, `--version` and `models` import none of them."""
    for argument in ("--help", "--version", "models"):
        assert _imported(argument) == set()


def test_facts_of_a_model_load_no_torch() -> None:
    """`models show` reads files only."""
    assert _imported("models", "show", "emoji").isdisjoint(
        {"diffusers", "sqlalchemy", "torch", "transformers"}
    )


def test_drawing_loads_no_inductor(tmp_path: Path) -> None:
    """Without ZOODIP_COMPILE nothing imports torch's inductor, which bitsandbytes would do."""
    arguments = ("--prompt", "a photo of a cat", "--steps", "1", "--out", str(tmp_path))
    assert INDUCTOR not in _imported("generate", *arguments)
