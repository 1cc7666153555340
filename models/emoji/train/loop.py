"""The training loop of every part: learning rate, log, samples and checkpoints."""

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
    """Return the generator of one step. It depends on step and device type only, so resumed runs repeat it."""
    return torch.Generator(device).manual_seed(sum(part.encode()) * 1_000_003 + step)


def log(part: str, text: str) -> None:
    """Write one log line with the time of day."""
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {part} {text}\n")
    sys.stdout.flush()


def learning_rate_factor(settings: LoopSettings, step: int) -> float:
    """Return the factor on the learning rate: warm-up, constant, then linear decay to 0."""
    left = (settings.pictures - step * settings.batch) / max(1, settings.decay)
    return min(1.0, (step + 1) / settings.warmup_steps, max(0.0, left))


@contextmanager
def deferred_signals() -> Iterator[list[int]]:
    """Collect SIGTERM and SIGINT in a list instead of ending the process immediately."""
    received: list[int] = []

    def record(number: int, frame: FrameType | None) -> None:
        del frame
        received.append(number)

    before = {number: signal.signal(number, record) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Progress:
    """Running mean of the loss and throughput of the training steps, for the log."""

    def __init__(self) -> None:
        self._mean, self._weight, self._pictures = 0.0, 0.0, 0
        self._start = time.monotonic()

    def add(self, loss: float, pictures: int) -> None:
        """Record a step."""
        self._mean, self._weight = 0.98 * self._mean + 0.02 * loss, 0.98 * self._weight + 0.02
        self._pictures += pictures

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Exclude the time of this block from the throughput."""
        start = time.monotonic()
        yield
        self._start += time.monotonic() - start

    def __str__(self) -> str:
        speed = self._pictures / (time.monotonic() - self._start)
        return f"loss {self._mean / self._weight:.4f} {speed:.0f} pictures/s"


@dataclass
class Training:
    """The training of one part.

    Attributes:
        part: name in logs and checkpoints.
        settings: of the loop.
        folder: of the checkpoint.
        compatibility_key: stored in the checkpoint and checked on resume.
        optimizer: over the part's weights.
        loss: returns the differentiable loss of a step's batch.
        log_samples: called at a step while the networks hold the averaged weights.
    """

    part: str
    settings: LoopSettings
    folder: Path
    compatibility_key: Mapping[str, Any]
    optimizer: Optimizer
    loss: Callable[[int], torch.Tensor]
    log_samples: Callable[[int], None]
    step: int = 0

    @property
    def checkpoint(self) -> Path:
        """The checkpoint file."""
        return self.folder / f"{self.part}.pt"

    @property
    def steps(self) -> int:
        """The total number of steps."""
        return -(-self.settings.pictures // self.settings.batch)

    def resume(self, start: Path | None = None) -> None:
        """Resume from the checkpoint if there is one, and log where the training starts from.

        Args:
            start: source of the initial weights, for the log; None for new weights.

        Raises:
            CheckpointError: the checkpoint is truncated or incompatible, or was trained with another batch size.
        """
        state = read_compatible_checkpoint(self.checkpoint, self.part, self.compatibility_key)
        if state is None:
            log(self.part, f"starts from {start or 'new weights'}")
            return
        check_sizes(self.part, {"batch": self.settings.batch}, {"batch": state.get("batch")}, self.checkpoint)
        self.optimizer.load(state["optimiser"])
        self.step = state["step"]
        log(self.part, f"resumed at step {self.step}")

    def save(self) -> None:
        """Write the checkpoint.

        Raises:
            DivergedError: a weight is not finite. The previous checkpoint is kept.
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
        """Train until `settings.pictures` are seen. SIGTERM and SIGINT save a checkpoint before the process exits.

        Raises:
            DivergedError: the loss is not finite. The last checkpoint is kept.
        """
        progress, saved = Progress(), time.monotonic()
        with deferred_signals() as stopped:
            while self.step < self.steps and not stopped:
                progress.add(self._train_step(), self.settings.batch)
                if self.step % LOG_STEPS == 0 or self.step == self.steps:
                    log(self.part, f"step {self.step} seen {self.step * self.settings.batch} {progress}")
                if self._samples_due():
                    with progress.paused():
                        self.sample()
                if time.monotonic() - saved > CHECKPOINT_S:
                    self.save()
                    saved = time.monotonic()
            self.save()
        if stopped:
            log(self.part, f"stopped at step {self.step}; run the command without --from-scratch to resume")
            sys.exit(128 + stopped[0])
        self.sample()

    def sample(self) -> None:
        """Log samples of the averaged weights. Weights and random state are restored afterwards."""
        with torch.random.fork_rng(), self.optimizer.averaged():
            self.log_samples(self.step)

    def _train_step(self) -> float:
        """Update the weights once and return the loss."""
        loss = self.loss(self.step)
        value = loss.item()
        if not math.isfinite(value):
            raise DivergedError(self._diverged(f"the loss is {value}"))
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step(learning_rate_factor(self.settings, self.step))
        self.step += 1
        return value

    def _samples_due(self) -> bool:
        """Return whether this step completed another `samples_every` pictures. The last step is sampled anyway."""
        every, batch = self.settings.samples_every, self.settings.batch
        return self.step < self.steps and self.step * batch // every > (self.step - 1) * batch // every

    def _diverged(self, reason: str) -> str:
        """Return the message of a diverged training."""
        kept = f"kept {self.checkpoint}" if self.checkpoint.exists() else "no checkpoint was written"
        return (
            f"{self.part}: {reason} at step {self.step}; {kept}. "
            f"Try a smaller {self.part}.rate than {self.settings.rate:g}"
        )
