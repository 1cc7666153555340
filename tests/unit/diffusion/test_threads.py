"""Small models run on one CPU thread, large ones on all; OMP_NUM_THREADS decides for both."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from zoodip_core.config import GenerationSettings, PersonalizationSettings
from zoodip_core.diffusion.denoising import Denoiser, Rows
from zoodip_core.diffusion.generation import generate
from zoodip_core.diffusion.loading import Bundle
from zoodip_core.diffusion.threads import SMALL_WORK, threads_for
from zoodip_core.personalization.personalize import Personalization
from zoodip_core.personalization.subject import Subject

pytestmark = pytest.mark.usefixtures("two_threads")


class _ThreadCounter(nn.Module):
    """U-Net with a given number of parameters that records torch's number of threads."""

    def __init__(self, parameters: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(parameters, device="meta"))
        self.threads: list[int] = []

    def forward(self, noisy: Tensor, _t: Tensor, **_rest: object) -> tuple[Tensor]:
        self.threads.append(torch.get_num_threads())
        return (noisy,)


def _threads(parameters: int, rows: int, side: int) -> list[int]:
    unet = _ThreadCounter(parameters)
    noisy = torch.zeros(rows, 4, side, side)
    Denoiser(unet, dtype=torch.float32).predict(Rows(noisy, torch.zeros(rows), torch.zeros(rows, 3, 5)))
    assert torch.get_num_threads() == 2
    return unet.threads


@pytest.mark.parametrize("rows", [1, 9, 64])
def test_a_small_model_runs_on_one_thread(rows: int) -> None:
    """The embedded model has 6.4 million parameters and 64 latent cells."""
    assert _threads(6_400_000, rows, 8) == [1]


def test_a_large_model_uses_all_threads() -> None:
    """SD1.5 at 256 px has 860 million parameters and 1,024 latent cells."""
    assert _threads(860_000_000, 1, 32) == [2]


def test_text_encoder_and_vae_follow_the_u_net(
    bundles: dict[str, Bundle], pictures: list[Image.Image]
) -> None:
    """A prompt and reference images of a small model are encoded on one thread, and an image is decoded on one."""
    bundle, threads = bundles["sd1"], dict[str, set[int]]()
    vae = bundle.vae
    modules = {
        "text": bundle.prompts.encoders[0].body.final_layer_norm,
        "encoder": vae.encoder,
        "decoder": vae.decoder,
    }
    hooks = [
        module.register_forward_pre_hook(
            lambda *_, name=name: threads.setdefault(name, set()).add(torch.get_num_threads())
        )
        for name, module in modules.items()
    ]
    generate(bundle, GenerationSettings(prompt="a cat in a new place", steps=1))
    settings = PersonalizationSettings(steps=1, n=1, fixed_rows=1)
    Personalization.begin(bundle, Subject("<x>", "dog"), pictures[:1], settings)
    for hook in hooks:
        hook.remove()
    assert threads == {"text": {1}, "encoder": {1}, "decoder": {1}}


def test_the_environment_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """With OMP_NUM_THREADS torch's number of threads stays."""
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert _threads(6_400_000, 1, 8) == [2]


def test_the_number_of_threads_is_restored_after_an_error() -> None:
    """An error inside the block leaves torch's number of threads as it was."""
    with pytest.raises(ZeroDivisionError), threads_for(SMALL_WORK - 1):
        _ = 1 / (torch.get_num_threads() - 1)
    assert torch.get_num_threads() == 2
