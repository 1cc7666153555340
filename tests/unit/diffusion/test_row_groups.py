"""On a CPU, many rows of a small model run in groups, each on one thread."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import Tensor, nn

from zoodip_core.base_models.catalog import Catalog
from zoodip_core.config import GenerationSettings
from zoodip_core.diffusion.denoising import Rows
from zoodip_core.diffusion.generation import ImageBatch
from zoodip_core.diffusion.loading import Bundle, load_bundle
from zoodip_core.diffusion.row_groups import FIXED_WORK, row_groups, run_groups
from zoodip_core.diffusion.threads import SMALL_WORK
from zoodip_core.engine import Engine

ROW = 64 * 6_400_000  # of the embedded model


pytestmark = pytest.mark.usefixtures("two_threads")


@pytest.fixture(scope="module")
def emoji() -> Bundle:
    """Return the embedded model."""
    return load_bundle(Catalog.load().get("emoji"), device="cpu")


@pytest.mark.parametrize(
    ("rows", "groups"),
    [
        ([2] * 8, [[0, 2, 4, 6], [1, 3, 5, 7]]),
        ([12, 3, 3, 3, 3], [[0], [1, 2, 3, 4]]),
        ([3, 9], [[1], [0]]),
        ([3, 3, 3], [[0, 1, 2]]),  # the fixed parts of two passes would take longer
        ([64], [[0]]),
        ([100, 100], [[0], [1]]),  # many small requests are still small
    ],
)
def test_groups_have_equal_work(rows: list[int], groups: list[list[int]]) -> None:
    """Requests stay in one piece. The largest are placed first."""
    assert row_groups([count * ROW for count in rows]) == groups


def test_a_large_request_uses_all_threads() -> None:
    """Nothing runs at the same time as the operations of a large model."""
    assert row_groups([SMALL_WORK, SMALL_WORK // 2, SMALL_WORK // 2]) == [[0, 1, 2]]


def test_the_environment_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """With OMP_NUM_THREADS there is one group."""
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert row_groups([FIXED_WORK] * 4) == [[0, 1, 2, 3]]


def test_many_cores_have_few_groups() -> None:
    """The fixed parts of the passes run one after another, so more groups would take longer."""
    torch.set_num_threads(64)
    assert [len(row_groups([ROW] * rows)) for rows in (11, 12, 27, 48, 192)] == [1, 2, 3, 4, 8]


def test_one_thread_has_one_group() -> None:
    """There are at most as many groups as torch has threads."""
    torch.set_num_threads(1)
    assert row_groups([FIXED_WORK] * 4) == [[0, 1, 2, 3]]


def test_groups_run_at_the_same_time_on_one_thread_each() -> None:
    """Each task waits for the other one, so neither would end alone."""
    barrier = threading.Barrier(2)

    def task() -> int:
        barrier.wait(timeout=60)
        return torch.get_num_threads()

    assert run_groups([task, task]) == [1, 1]


def test_other_threads_keep_all_threads_of_torch() -> None:
    """A thread that starts later runs large models with all of them."""
    found: list[int] = []
    run_groups([lambda: None] * 2)
    later = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    later.start()
    later.join()
    assert [*found, torch.get_num_threads()] == [2, 2]


def _drawings(bundle: Bundle, count: int, images: int = 1) -> list[ImageBatch]:
    settings = [GenerationSettings(prompt="a photo of a dog", seed=k, n=images) for k in range(count)]
    return [ImageBatch(bundle, [one]) for one in settings]


def test_many_generations_run_in_two_groups(emoji: Bundle) -> None:
    """Each gets the predictions that it gets alone, up to rounding."""
    passes: list[tuple[str, int]] = []

    def record(_: nn.Module, given: tuple[Tensor, ...]) -> None:
        passes.append((threading.current_thread().name, len(given[0])))

    engine = Engine(emoji)
    requests = [batch.build_request() for batch in _drawings(emoji, 8)]
    hook = emoji.denoiser.unet.register_forward_pre_hook(record)
    together = engine.evaluate(requests)
    hook.remove()
    assert [rows for _, rows in passes] == [8, 8]
    assert len({thread for thread, _ in passes}) == 2
    for request, prediction in zip(requests, together, strict=True):
        assert not prediction.requires_grad
        torch.testing.assert_close(prediction, engine.evaluate([request])[0], rtol=1e-4, atol=1e-5)


def test_a_job_alone_stays_in_one_pass(emoji: Bundle) -> None:
    """Its bits do not depend on the number of threads."""
    (request,) = (batch.build_request() for batch in _drawings(emoji, 1, images=8))
    assert isinstance(request, Rows)
    (prediction,) = Engine(emoji).evaluate([request])
    torch.set_num_threads(1)
    assert torch.equal(prediction, Engine(emoji).evaluate([request])[0])


def test_memory_that_runs_out_in_a_group(emoji: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pass is repeated in smaller parts, and all jobs advance."""
    forward = emoji.denoiser.unet.forward

    def with_little_memory(noisy: Tensor, *given: object, **named: object) -> object:
        if len(noisy) > 6:
            raise torch.OutOfMemoryError
        return forward(noisy, *given, **named)

    monkeypatch.setattr(emoji.denoiser.unet, "forward", with_little_memory)
    batches = _drawings(emoji, 8)
    assert Engine(emoji).step(batches) == [None] * 8
    assert {batch.step for batch in batches} == {1}


def test_the_first_error_is_raised_when_all_groups_have_ended() -> None:
    """No group is left running behind the caller."""
    ended = threading.Event()

    def fail() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        run_groups([fail, ended.set])
    assert ended.is_set()
