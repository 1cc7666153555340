"""What all trainings share: the loop, its log and its checkpoints."""

import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import torch

from models.emoji.settings import LoopSettings
from models.emoji.train.checkpoint import read_checkpoint, write_checkpoint
from models.emoji.train.optim import Optimiser

LOG_STEPS = 50
CHECKPOINT_S = 120.0


def step_generator(part: str, step: int) -> torch.Generator:
    """The randomness of one step: a function of the step alone, so that a resumed run draws the same."""
    return torch.Generator().manual_seed(sum(part.encode()) * 1_000_003 + step)


def log(part: str, text: str) -> None:
    """One line with the time of day."""
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {part} {text}\n")
    sys.stdout.flush()


def rate_factor(settings: LoopSettings, step: int) -> float:
    """The learning rate's share at a step: warm-up, constant, linear decay over the last pictures."""
    left = (settings.pictures - step * settings.batch) / max(1, settings.decay)
    return min(1.0, (step + 1) / settings.warmup_steps, max(0.0, left))


@dataclass
class Training:
    """One part in training.

    Attributes:
        part: its name, in logs and checkpoints.
        settings: of its loop.
        folder: of its checkpoint.
        optimiser: over its weights.
        loss: of one batch, given the step; gradients go through it.
        show: writes samples, called at every checkpoint and at the end.
    """

    part: str
    settings: LoopSettings
    folder: Path
    optimiser: Optimiser
    loss: Callable[[int], torch.Tensor]
    show: Callable[[int], None]
    step: int = 0

    @property
    def checkpoint(self) -> Path:
        """The file that the training goes on from."""
        return self.folder / f"{self.part}.pt"

    def resume(self) -> None:
        """Go on from the checkpoint, if there is one.

        Raises:
            CheckpointError: the checkpoint is truncated or another part's.
        """
        state = read_checkpoint(self.checkpoint, self.part)
        if state is not None:
            self.optimiser.load(state["optimiser"])
            self.step = state["step"]
            log(self.part, f"resumed at step {self.step}")

    def save(self) -> None:
        """Write the checkpoint."""
        write_checkpoint(
            self.checkpoint, {"part": self.part, "step": self.step, "optimiser": self.optimiser.state()}
        )

    def run(self) -> None:
        """Train until `settings.pictures` are seen; a termination signal saves first and then ends."""
        stopped: list[int] = []

        def stop(number: int, frame: FrameType | None) -> None:
            del frame
            stopped.append(number)

        before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
        total = -(-self.settings.pictures // self.settings.batch)
        mean, weight, first = 0.0, 0.0, self.step
        start = saved = time.monotonic()
        while self.step < total and not stopped:
            loss = self.loss(self.step)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimiser.step(rate_factor(self.settings, self.step))
            self.step += 1
            mean, weight = 0.98 * mean + 0.02 * loss.item(), 0.98 * weight + 0.02
            now = time.monotonic()
            if self.step % LOG_STEPS == 0 or self.step == total:
                speed = (self.step - first) * self.settings.batch / (now - start)
                seen = self.step * self.settings.batch
                log(
                    self.part, f"step {self.step} seen {seen} loss {mean / weight:.4f} {speed:.0f} pictures/s"
                )
            if now - saved > CHECKPOINT_S:
                self.save()
                saved = time.monotonic()
        self.save()
        for number, handler in before.items():
            signal.signal(number, handler)
        if stopped:
            log(self.part, f"stopped at step {self.step}; the same command goes on from there")
            sys.exit(128 + stopped[0])
        self.show(self.step)
