"""`zoodip worker`: one worker in the place of this process."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from zoodip_core.service.settings import ServiceSettings


def worker(
    slots: Annotated[int | None, typer.Option(min=1, help="Personalizations batched together.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda.")] = None,
) -> None:
    """Run jobs of the service that the settings name, one worker for each GPU."""
    given = {"SLOTS": slots, "DEVICE": device}
    os.environ.update({f"ZOODIP_{name}": str(value) for name, value in given.items() if value is not None})
    ServiceSettings.from_environment()  # a mistake shows now
    os.execv(sys.executable, [sys.executable, "-m", "worker"])  # noqa: S606 (our own command)
