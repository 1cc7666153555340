"""Memory that runs out gives a typed error in every part of a job."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from PIL import Image

from zoodip_core.config import GenerationSettings, PersonalizationSettings
from zoodip_core.diffusion.generation import generate
from zoodip_core.diffusion.loading import Bundle
from zoodip_core.diffusion.memory import is_out_of_memory, typed_out_of_memory
from zoodip_core.diffusion.state_cache import StateCache
from zoodip_core.errors import OutOfMemoryError
from zoodip_core.personalization.personalize import Personalization
from zoodip_core.personalization.subject import Subject

DOG = Subject("<x>", "dog")
PROMPT = GenerationSettings(prompt="a dog", steps=1)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 99 bytes."),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("MPS backend out of memory (MPS allocated: 1.00 GB)"),
    ],
    ids=str,
)
def test_every_allocator_is_recognized(error: Exception) -> None:
    """Each library reports it in another way; the typed error keeps the cause and says what did not fit."""
    assert is_out_of_memory(error)
    with (
        pytest.raises(OutOfMemoryError, match=r"^Decoding does not fit in the memory") as caught,
        typed_out_of_memory("Decoding"),
    ):
        raise error
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [RuntimeError("shapes do not match"), ValueError("out of memory")])
def test_other_errors_pass(error: Exception) -> None:
    """A wrong shape is no lack of memory."""
    with pytest.raises(type(error)) as caught, typed_out_of_memory("Decoding"):
        raise error
    assert caught.value is error


def _allocate_too_much(*_: object, **__: object) -> None:
    """Make torch's allocator fail."""
    torch.empty(2**60, dtype=torch.uint8)


def _encode(bundle: Bundle, pictures: list[Image.Image]) -> None:
    Personalization.begin(bundle, DOG, pictures, PersonalizationSettings(steps=1, fixed_rows=1))


def _generate(bundle: Bundle, _: list[Image.Image]) -> None:
    generate(bundle, PROMPT)


@pytest.mark.parametrize(
    ("part", "action"),
    [
        (lambda bundle: (bundle.vae.encoder, "forward"), _encode),
        (lambda bundle: (bundle.vae.decoder, "forward"), _generate),
        (lambda bundle: (bundle.prompts.encoders[0].body.final_layer_norm, "forward"), _encode),
        (lambda bundle: (bundle.prompts.encoders[0].body.final_layer_norm, "forward"), _generate),
    ],
    ids=["encoding", "decoding", "prompts of a search", "prompts of a generation"],
)
def test_each_part_has_a_typed_error(
    bundles: dict[str, Bundle],
    pictures: list[Image.Image],
    monkeypatch: pytest.MonkeyPatch,
    part: Callable[[Bundle], tuple[Any, str]],
    action: Callable[[Bundle, list[Image.Image]], None],
) -> None:
    """Encoding, decoding and the text encoder raise `out_of_memory`, which is retryable."""
    bundle = bundles["sd1"]
    bundle.text_states = StateCache()  # states from another test would spare the text encoder its work
    target, name = part(bundle)
    monkeypatch.setattr(target, name, _allocate_too_much)
    with pytest.raises(OutOfMemoryError) as caught:
        action(bundle, pictures)
    assert caught.value.retryable
