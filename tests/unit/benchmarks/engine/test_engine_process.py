"""A configuration of the engine is measured in a separate process, with the given environment."""

from __future__ import annotations

import subprocess

import pytest

from benchmarks.engine.process import measure_apart
from zoodip_core.base_models.catalog import Catalog


@pytest.mark.slow
def test_a_search_is_measured_apart() -> None:
    """The process returns speed and memory."""
    entry = Catalog.load().get("emoji")

    figures = measure_apart(entry, n=1, steps=2, device="cpu", threads=1)

    assert figures.it_per_s > 0
    assert figures.step_peak_bytes >= figures.load_peak_bytes > 0
    assert figures.quantized_share > 0.9


def test_the_environment_reaches_the_process() -> None:
    """An interpreter with another PYTHONHOME finds no library."""
    entry = Catalog.load().get("emoji")

    with pytest.raises(subprocess.CalledProcessError) as failed:
        measure_apart(entry, n=1, steps=1, device="cpu", threads=1, environment={"PYTHONHOME": "/"})

    assert "No module named" in failed.value.stderr
