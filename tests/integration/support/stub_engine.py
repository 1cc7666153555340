"""An engine without a model: a search is a counter with a deterministic vector.

`STUB_STEP_S` and `STUB_DRAW_S` slow it, and it is broken while there is a file at `STUB_FAULT`. It notes where each
search begins in `STUB_LOG`, and when it steps or draws in `STUB_CALLS`.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from worker.engine_protocol import JobSearch, Picture
from zoodip_core.artifact import Concept
from zoodip_core.errors import LossNotFiniteError, OutOfMemoryError, ZoodipError
from zoodip_core.personalization.early_stopping import has_stalled
from zoodip_core.service.concepts import ConceptRecord
from zoodip_core.service.jobs.records import Job
from zoodip_core.service.settings import ServiceSettings

WIDTH = 32
NAN_SEED = 666  # a search with this seed diverges at step 5
HUGE_SEED = 667  # one with this seed fits no memory


class StubSearch:
    """Adds to a vector at each step; state and concept depend on seed and step alone."""

    def __init__(self, job: Job, state: bytes | None) -> None:
        self._total = job.total_steps
        asked = job.request["settings"]
        self.seed, self._may_stop = int(asked["seed"]), asked["stop"] == "auto"
        self._token = job.token or ""
        found = {"step": 0, "fixed_losses": [1.0]} if state is None else json.loads(state)
        self.step, self.fixed_losses = int(found["step"]), list(found["fixed_losses"])
        self.rows_per_step = 2

    @property
    def done(self) -> bool:
        """Whether there is nothing more to step."""
        stalled = self._may_stop and has_stalled(self.fixed_losses, share=self.step / self._total)
        return stalled or self.step >= self._total

    def advance(self) -> ZoodipError | None:
        """One step."""
        if self.seed == NAN_SEED and self.step == 5:
            return LossNotFiniteError("The loss is nan at step 5")
        self.step += 1
        return None

    def record_validation_loss(self) -> float:
        """Falls until step 40."""
        self.fixed_losses.append(1.0 / (1 + min(self.step, 40)))
        return self.fixed_losses[-1]

    def state(self) -> bytes:
        """The step and the losses."""
        return json.dumps({"step": self.step, "fixed_losses": self.fixed_losses}).encode()

    def preview(self) -> bytes:
        """One colour."""
        return _png(self.seed)

    def concept(self) -> Concept:
        """A vector that seed and step fix."""
        vectors = np.random.default_rng(self.seed + self.step).standard_normal((1, WIDTH)).astype(np.float32)
        return Concept(self._token, "sd1", {"clip": vectors}, fingerprint="0" * 64)


class StubEngine:
    """Steps and draws in no time, or as slowly as the environment says."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._step_s = float(os.environ.get("STUB_STEP_S", "0"))
        self._draw_s = float(os.environ.get("STUB_DRAW_S", "0"))
        self._log = os.environ.get("STUB_LOG")
        self._fault = os.environ.get("STUB_FAULT")
        self._calls = os.environ.get("STUB_CALLS")

    def begin(self, job: Job, images: Sequence[bytes], state: bytes | None) -> JobSearch:
        """The search, with a line in the log of where it began."""
        assert all(image.startswith(b"\x89PNG") for image in images)
        search = StubSearch(job, state)
        if self._log:
            with Path(self._log).open("a") as log:
                log.write(f"{job.id} {search.step}\n")
        return search

    def step(self, base_model: str, searches: Sequence[JobSearch]) -> list[ZoodipError | None]:
        """One step of each."""
        self._note("step")
        time.sleep(self._step_s)
        if any(isinstance(search, StubSearch) and search.seed == HUGE_SEED for search in searches):
            raise OutOfMemoryError
        return [search.advance() for search in searches if isinstance(search, StubSearch)]

    def generate(
        self, job: Job, concepts: Sequence[tuple[ConceptRecord, Concept]], before_step: Callable[[], None]
    ) -> list[Picture]:
        """Pictures of one colour."""
        self._note("draw")
        end = time.monotonic() + self._draw_s
        while time.monotonic() < end:
            before_step()
            time.sleep(0.02)
        settings = job.request["settings"]
        return [Picture(_png(settings["seed"] + k), settings["seed"] + k) for k in range(settings["n"])]

    def _note(self, call: str) -> None:
        if self._calls:
            with Path(self._calls).open("a") as calls:
                calls.write(f"{call} {time.time()}\n")

    def gauges(self) -> dict[str, float]:
        """None."""
        if self._fault is not None and Path(self._fault).exists():
            raise RuntimeError
        return {}


def _png(seed: int) -> bytes:
    buffer = BytesIO()
    Image.new("RGB", (64, 64), (seed % 256, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()
