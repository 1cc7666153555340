"""Batches the rows of many jobs into one forward pass of the frozen model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from zoodip_core.diffusion.denoising import Rows
from zoodip_core.diffusion.device import to_device
from zoodip_core.diffusion.loading import Bundle
from zoodip_core.diffusion.memory import typed_out_of_memory
from zoodip_core.diffusion.prompts import Prompt
from zoodip_core.diffusion.row_groups import row_groups, run_groups
from zoodip_core.errors import LossNotFiniteError, OutOfMemoryError, ZoodipError


@dataclass(frozen=True)
class Request:
    """Rows of one job whose prompts change: U-Net inputs, and prompts as input embeddings of the text encoders.

    A job whose prompts do not change requests `Rows`, which need no text encoder.
    """

    noisy: Float[Tensor, "rows c h w"]
    timesteps: Int[Tensor, " rows"]
    prompts: Sequence[Prompt]
    embedded: Sequence[Float[Tensor, "rows tokens _"]]  # one tensor for each text encoder

    def __len__(self) -> int:
        return len(self.noisy)


@runtime_checkable
class BatchedJob(Protocol):
    """Interface of a job that the engine can batch: a search, a measurement of its loss, or a generation."""

    def build_request(self) -> Request | Rows:
        """Return the rows of the next unit of work.

        Repeated calls return the same rows until `apply_predictions`.
        """

    def apply_predictions(self, prediction: Float[Tensor, "rows c h w"]) -> None:
        """Complete a unit of work with the predictions for the requested rows."""

    def recover(self) -> bool:
        """Prepare another attempt after a loss that is not finite. Return whether there is one."""


@runtime_checkable
class DecodingJob(BatchedJob, Protocol):
    """A batched job that also decodes images, between the forward passes."""

    @property
    def decodes_next(self) -> bool:
        """Whether the next unit of work decodes an image and requests no rows."""

    def decode(self) -> None:
        """Decode one image."""


class Engine:
    """Advances any number of jobs with one text-encoder pass, and one U-Net pass for each shape of latents."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle

    def step(self, jobs: Sequence[BatchedJob]) -> list[Exception | None]:
        """Run one unit of work of every job. An error of one job does not affect the others.

        All rows are evaluated first. Then images are decoded. A search whose loss is not finite is repeated alone as
        long as it can recover. A job whose rows do not fit into memory has not advanced.

        Returns:
            The error of each job, or None. Errors that are not a `ZoodipError` are defects.
        """
        errors: dict[int, Exception | None] = {}
        requests: dict[int, Request | Rows] = {}
        for index, job in enumerate(jobs):
            if isinstance(job, DecodingJob) and job.decodes_next:
                continue
            try:
                requests[index] = _request(job)
            except Exception as error:  # noqa: BLE001 (returned: the other jobs must go on)
                errors[index] = error
        outcomes = self._evaluate_isolated([*requests.values()])
        for index, outcome in zip(requests, outcomes, strict=True):
            errors[index] = self._advance(jobs[index], outcome)
        return [errors[index] if index in errors else _decode(job) for index, job in enumerate(jobs)]

    def advance(self, jobs: Sequence[BatchedJob]) -> None:
        """Run one unit of work of every job, as `step` does, and raise the first error."""
        for error in self.step(jobs):
            if error is not None:
                raise error

    def _advance(
        self, job: BatchedJob, outcome: Float[Tensor, "rows c h w"] | ZoodipError
    ) -> Exception | None:
        try:
            while not isinstance(outcome, ZoodipError):
                if _apply(job, outcome):
                    return None
                (outcome,) = self._evaluate_isolated([_request(job)])
        except Exception as error:  # noqa: BLE001 (returned: the other jobs must go on)
            return error
        return outcome

    def _evaluate_isolated(
        self, requests: Sequence[Request | Rows]
    ) -> list[Float[Tensor, "rows c h w"] | ZoodipError]:
        """Return the predictions for each request, or the error of those that do not fit into memory."""
        if not requests:
            return []
        try:
            with typed_out_of_memory("A forward pass"):
                return [*self.evaluate(requests)]
        except OutOfMemoryError as error:
            parts = _parts(requests)
            if len(parts) == 1:
                return [error] * len(requests)
        found: dict[int, Tensor | ZoodipError] = {}
        for part in parts:  # after the handler, because its traceback holds tensors
            outcomes = self._evaluate_isolated([requests[index] for index in part])
            found |= zip(part, outcomes, strict=True)
        return [found[index] for index in range(len(requests))]

    def evaluate(self, requests: Sequence[Request | Rows]) -> list[Float[Tensor, "rows c h w"]]:
        """Return the model's predictions for each request: of a `Request` on the CPU, of `Rows` on their device.

        All rows with latents and texts of one shape share a forward pass. On a CPU, many rows of a small model are
        evaluated in several groups at the same time.

        Raises:
            OutOfMemoryError: not even one row fits in memory, or the prompts do not.
        """
        groups = self._groups(requests)
        if len(groups) == 1:
            return self._evaluate(requests)
        tasks = [partial(self._evaluate, [requests[index] for index in group]) for group in groups]
        found: dict[int, Tensor] = {}
        for group, predictions in zip(groups, run_groups(tasks), strict=True):
            found |= zip(group, predictions, strict=True)
        return [found[index] for index in range(len(requests))]

    def _groups(self, requests: Sequence[Request | Rows]) -> list[list[int]]:
        """Return the requests, as indices, that each thread evaluates."""
        denoiser = self.bundle.denoiser
        if self.bundle.device.type != "cpu" or denoiser.compiled is not None:
            return [[*range(len(requests))]]
        return row_groups([one.noisy[:, 0].numel() * denoiser.parameters for one in requests])

    @torch.no_grad()
    def _evaluate(self, requests: Sequence[Request | Rows]) -> list[Float[Tensor, "rows c h w"]]:
        encoded = iter(self._encode([request for request in requests if isinstance(request, Request)]))
        complete = [next(encoded) if isinstance(request, Request) else request for request in requests]
        predictions: dict[int, Tensor] = {}
        for group in _by_shape(complete):
            prediction = self.bundle.denoiser.predict(Rows.cat([complete[index] for index in group]))
            sizes = [len(complete[index]) for index in group]
            learns = any(isinstance(requests[index], Request) for index in group)
            on_device = torch.split(prediction, sizes)
            on_cpu = torch.split(prediction.cpu(), sizes) if learns else on_device  # one transfer for all
            for k, index in enumerate(group):
                predictions[index] = (on_cpu if isinstance(requests[index], Request) else on_device)[k]
        return [predictions[index] for index in range(len(requests))]

    def _encode(self, requests: Sequence[Request]) -> list[Rows]:
        """Return complete rows for each request. All prompts share one pass of each text encoder."""
        if not requests:
            return []
        prompts = [prompt for request in requests for prompt in request.prompts]
        columns = zip(*(request.embedded for request in requests), strict=True)
        noisy = torch.cat([request.noisy for request in requests])
        with self.bundle.denoiser.threads(len(noisy) * noisy[0, 0].numel()):
            states = self.bundle.prompts.encode([torch.cat(column) for column in columns], prompts)
        device, side_px = self.bundle.device, self.bundle.side_px
        time_ids = self.bundle.time_ids((side_px, side_px))
        rows = Rows(
            to_device(noisy, device),
            to_device(torch.cat([request.timesteps for request in requests]), device),
            states.states,
            states.pooled,
            None if time_ids is None else time_ids.expand(len(prompts), -1),
        )
        sizes = [len(request) for request in requests]
        return [rows[end - size : end] for size, end in zip(sizes, accumulate(sizes), strict=True)]


@typed_out_of_memory("A step")
def _request(job: BatchedJob) -> Request | Rows:
    return job.build_request()


def _apply(job: BatchedJob, prediction: Float[Tensor, "rows c h w"]) -> bool:
    """Complete a unit of work. Return false if the loss is not finite and the job prepared another attempt."""
    try:
        with typed_out_of_memory("A step"):
            job.apply_predictions(prediction)
    except LossNotFiniteError:
        if not job.recover():
            raise
        return False
    return True


def _decode(job: BatchedJob) -> Exception | None:
    assert isinstance(job, DecodingJob)
    try:
        job.decode()
    except Exception as error:  # noqa: BLE001 (returned: the other jobs must go on)
        return error
    return None


def _by_shape(rows: Sequence[Rows]) -> list[list[int]]:
    """Return the indices of the rows that can share a forward pass, group by group."""
    groups: dict[tuple[torch.Size, torch.Size], list[int]] = {}
    for index, one in enumerate(rows):
        groups.setdefault((one.noisy.shape[1:], one.states.shape[1:]), []).append(index)
    return [*groups.values()]


def _parts(requests: Sequence[Request | Rows]) -> list[list[int]]:
    """Return the indices of requests that can run out of memory independently of the others."""
    groups: dict[tuple[bool, torch.Size], list[int]] = {}
    for index, one in enumerate(requests):
        groups.setdefault((isinstance(one, Request), one.noisy.shape[1:]), []).append(index)
    return [*groups.values()]
