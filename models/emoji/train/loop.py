"""What all trainings share: the loop, its log, its samples and its checkpoints."""

import math
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from models.emoji.errors import DivergedError
from models.emoji.settings import LoopSettings
from models.emoji.train.checkpoint import write_checkpoint
from models.emoji.train.compatibility import check_sizes, read_compatible_checkpoint
from models.emoji.train.optimizer import Optimizer

LOG_STEPS = 50
CHECKPOINT_S = 120.0


def step_generator(part: str, step: int, device: torch.device | str = "cpu") -> torch.Generator:
    """The randomness of one step, by the step and the kind of device alone, so that a resumed run draws the same."""
    return torch.Generator(device).manual_seed(sum(part.encode()) * 1_000_003 + step)


def log(part: str, text: str) -> None:
    """One line with the time of day."""
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {part} {text}\n")
    sys.stdout.flush()


def learning_rate_factor(settings: LoopSettings, step: int) -> float:
    """The learning rate's share at a step: warm-up, constant, linear decay over the last pictures."""
    left = (settings.pictures - step * settings.batch) / max(1, settings.decay)
    return min(1.0, (step + 1) / settings.warmup_steps, max(0.0, left))


@contextmanager
def deferred_signals() -> Iterator[list[int]]:
    """A list that signals to end are added to, instead of ending the process at once."""
    noted: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        del frame
        noted.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Pace:
    """The running mean of the loss and the speed of the steps alone, for the log."""

    def __init__(self) -> None:
        self._mean, self._weight, self._pictures = 0.0, 0.0, 0
        self._start = time.monotonic()

    def add(self, loss: float, pictures: int) -> None:
        """Count a step."""
        self._mean, self._weight = 0.98 * self._mean + 0.02 * loss, 0.98 * self._weight + 0.02
        self._pictures += pictures

    @contextmanager
    def halted(self) -> Iterator[None]:
        """Time that is not the training's."""
        start = time.monotonic()
        yield
        self._start += time.monotonic() - start

    def __str__(self) -> str:
        speed = self._pictures / (time.monotonic() - self._start)
        return f"loss {self._mean / self._weight:.4f} {speed:.0f} pictures/s"


@dataclass
class Training:
    """One part in training.

    Attributes:
        part: its name, in logs and checkpoints.
        settings: of its loop.
        folder: of its checkpoint.
        compatibility_key: what its weights are made for (`fit.compatibility_key`).
        optimizer: over its weights.
        loss: of one batch, given the step; gradients go through it.
        show: writes samples of the averaged weights, which are in the networks while it runs.
    """

    part: str
    settings: LoopSettings
    folder: Path
    compatibility_key: Mapping[str, Any]
    optimizer: Optimizer
    loss: Callable[[int], torch.Tensor]
    show: Callable[[int], None]
    step: int = 0

    @property
    def checkpoint(self) -> Path:
        """The file that the training goes on from."""
        return self.folder / f"{self.part}.pt"

    @property
    def steps(self) -> int:
        """How many steps there are in all."""
        return -(-self.settings.pictures // self.settings.batch)

    def resume(self, start: Path | None = None) -> None:
        """Go on from the checkpoint, if there is one; the log says what the training starts from.

        Args:
            start: where the weights came from that are trained without a checkpoint; None for fresh ones.

        Raises:
            CheckpointError: the checkpoint is truncated, another part's, or made for something else; or its steps
                were of another size.
        """
        state = read_compatible_checkpoint(self.checkpoint, self.part, self.compatibility_key)
        if state is None:
            log(self.part, f"starts from {start or 'fresh weights'}")
            return
        check_sizes(self.part, {"batch": self.settings.batch}, {"batch": state.get("batch")}, self.checkpoint)
        self.optimizer.load(state["optimiser"])
        self.step = state["step"]
        log(self.part, f"resumed at step {self.step}")

    def save(self) -> None:
        """Write the checkpoint.

        Raises:
            DivergedError: a weight is not finite; the checkpoint before is kept.
        """
        if not self.optimizer.finite():
            raise DivergedError(self._diverged("weights are not finite"))
        state = {
            "part": self.part,
            "made_for": dict(self.compatibility_key),
            "step": self.step,
            "batch": self.settings.batch,
        }
        write_checkpoint(self.checkpoint, state | {"optimiser": self.optimizer.state()})

    def run(self) -> None:
        """Train until `settings.pictures` are seen; a termination signal saves first and then ends.

        Raises:
            DivergedError: the loss is not finite; the last checkpoint is kept.
        """
        pace, saved = Pace(), time.monotonic()
        with deferred_signals() as stopped:
            while self.step < self.steps and not stopped:
                pace.add(self._trained_step(), self.settings.batch)
                if self.step % LOG_STEPS == 0 or self.step == self.steps:
                    log(self.part, f"step {self.step} seen {self.step * self.settings.batch} {pace}")
                if self._samples_due():
                    with pace.halted():
                        self.sample()
                if time.monotonic() - saved > CHECKPOINT_S:
                    self.save()
                    saved = time.monotonic()
            self.save()
        if stopped:
            log(self.part, f"stopped at step {self.step}; without --anew the same command goes on from there")
            sys.exit(128 + stopped[0])
        self.sample()

    def sample(self) -> None:
        """Show what the averaged weights do; the training is what it was before."""
        with torch.random.fork_rng(), self.optimizer.averaged():
            self.show(self.step)

    def _trained_step(self) -> float:
        """Update the weights once; the loss before it."""
        loss = self.loss(self.step)
        value = loss.item()
        if not math.isfinite(value):
            raise DivergedError(self._diverged(f"the loss is {value}"))
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step(learning_rate_factor(self.settings, self.step))
        self.step += 1
        return value

    def _samples_due(self) -> bool:
        """Whether this step passed another `samples_every` pictures; the end shows samples anyway."""
        every, batch = self.settings.samples_every, self.settings.batch
        return self.step < self.steps and self.step * batch // every > (self.step - 1) * batch // every

    def _diverged(self, what: str) -> str:
        """The message of a training that cannot go on."""
        kept = f"{self.checkpoint} is kept" if self.checkpoint.exists() else "no checkpoint was written"
        return (
            f"{self.part}: {what} at step {self.step}; {kept}. "
            f"A smaller {self.part}.rate in the settings may help (it is {self.settings.rate:g})"
        )
