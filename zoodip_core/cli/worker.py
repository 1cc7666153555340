"""`zoodip worker`: replace this process with a worker."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from zoodip_core.service.settings import ServiceSettings


def worker(
    slots: Annotated[
        int | None,
        typer.Option(min=1, help="Maximum number of personalizations in one batch; default: ZOODIP_SLOTS."),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda, cuda:1, mps or xpu; default: ZOODIP_DEVICE.")
    ] = None,
) -> None:
    """Run a worker for the configured service; start one worker for each GPU."""
    given = {"SLOTS": slots, "DEVICE": device}
    os.environ.update({f"ZOODIP_{name}": str(value) for name, value in given.items() if value is not None})
    ServiceSettings.from_environment()  # report an invalid setting before starting
    os.execv(sys.executable, [sys.executable, "-P", "-m", "worker"])  # noqa: S606 (our own command)
