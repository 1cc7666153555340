"""The training loop and its parts: PCA encoder, components, optimizer, loss, checkpoints and resume."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn

from models.emoji.errors import DivergedError
from models.emoji.settings import LoopSettings, read_settings
from models.emoji.train.clip import Claim, contrastive_loss, matching_pairs
from models.emoji.train.compatibility import compatibility_key
from models.emoji.train.components import fit_components, read_components
from models.emoji.train.data import compose_set
from models.emoji.train.loop import Training, learning_rate_factor
from models.emoji.train.optimizer import Muon, Optimizer, orthogonalize
from models.emoji.train.pca_encoder import encoder_error, new_autoencoder
from models.emoji.train.sampling import signal_and_noise
from models.emoji.world import Scene

LOOP = LoopSettings(batch=4, rate=0.05, average=0.9, warmup_steps=2, pictures=80, decay=20, samples_every=80)


def a_training(folder: Path, settings: LoopSettings = LOOP) -> tuple[Training, nn.Linear]:
    """Return a tiny regression whose batches depend on the step only."""
    torch.manual_seed(0)
    model = nn.Linear(6, 3)

    def loss(step: int) -> torch.Tensor:
        batch = torch.randn(settings.batch, 6, generator=torch.Generator().manual_seed(step))
        return (model(batch) - batch[:, :3]).square().mean()

    optimizer = Optimizer(dict(model.named_parameters()), settings.rate, settings.average)
    key = compatibility_key(settings)
    return Training("tiny", settings, folder, key, optimizer, loss, lambda _step: None), model


def test_the_encoder_computes_the_components() -> None:
    """Before training, the encoder's error is below a thousandth of the latents' variance."""
    components, settings = read_components(), read_settings().autoencoder
    pictures = compose_set(5, 8).batch(range(8))
    model = new_autoencoder(settings, components).eval()
    assert encoder_error(model, components, pictures) < 1e-3
    assert components.encode(pictures).var() > 0.3


def test_fitted_components_are_orthonormal_and_reconstruct_pictures() -> None:
    """Fitted components have unit variance and explain at least nine tenths of the pictures' variance."""
    pictures = compose_set(50, 60).batch(range(60))
    fitted = fit_components(pictures)
    assert torch.allclose(fitted.axes @ fitted.axes.T, torch.eye(16), atol=1e-4)
    assert 0.9 < fitted.encode(pictures).std() < 1.1
    residue = (fitted.decode(fitted.encode(pictures)) - pictures).square().mean()
    assert residue < 0.1 * pictures.var()


def test_the_schedule_ends_without_signal() -> None:
    """The schedule has zero terminal SNR and nearly no noise at the first timestep."""
    signal, noise = signal_and_noise()
    assert signal[-1] < 1e-6
    assert signal[0] > 0.99
    assert torch.allclose(signal**2 + noise**2, torch.ones(1000), atol=1e-5)


def test_muon_updates_are_nearly_orthogonal() -> None:
    """The singular values of an orthogonalized update are all close to 1."""
    matrix = torch.randn(12, 30, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalize(matrix))
    assert values.max() < 1.5
    assert values.min() > 0.4


@pytest.mark.parametrize("shape", [(12, 30), (30, 12)])
def test_batched_orthogonalization_equals_single(shape: tuple[int, int]) -> None:
    """Orthogonalizing a stack of wide or tall matrices equals orthogonalizing each matrix."""
    stack = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    alone = torch.stack([orthogonalize(matrix) for matrix in stack])
    assert torch.allclose(orthogonalize(stack), alone, atol=1e-6)


def test_muon_updates_each_parameter_by_its_own_gradient() -> None:
    """A parameter's update does not depend on other parameters of its shape, with or without gradients."""

    def moved(count: int) -> list[torch.Tensor]:
        params = [torch.nn.Parameter(torch.full((4, 6), float(k))) for k in range(count)]
        for k, param in enumerate(params[:2]):
            param.grad = torch.randn(4, 6, generator=torch.Generator().manual_seed(k))
        Muon(params, lr=0.1).step()
        return [param.detach() for param in params]

    together, alone = moved(3), moved(1)
    assert torch.allclose(together[0], alone[0], atol=1e-6)
    assert not torch.allclose(together[1] - 1, together[0], atol=1e-2)
    assert torch.equal(together[2], torch.full((4, 6), 2.0))


def test_training_learns_and_averages(tmp_path: Path) -> None:
    """The loop lowers the loss, and the averaged weights follow the weights."""
    training, model = a_training(tmp_path, dataclasses.replace(LOOP, pictures=1200, decay=400))
    before = training.loss(10_000).item()
    training.run()
    assert training.loss(10_000).item() < before / 3
    assert torch.allclose(training.optimizer.average["weight"], model.weight, atol=0.1)


def test_a_resumed_training_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    """A training that is stopped after half of its steps and resumed ends with the same bits."""
    whole, model = a_training(tmp_path / "whole")
    whole.run()
    # same learning rates as in the whole run; only the loop ends earlier
    first, _ = a_training(tmp_path / "parts")
    for step in range(10):
        first.loss(step).backward()
        first.optimizer.step(learning_rate_factor(LOOP, step))
    first.step = 10
    first.save()
    second, resumed = a_training(tmp_path / "parts")
    second.resume()
    assert second.step == 10
    second.run()
    assert torch.equal(model.weight, resumed.weight)
    assert torch.equal(whole.optimizer.average["weight"], second.optimizer.average["weight"])


def test_the_learning_rate_warms_up_and_decays() -> None:
    """The factor rises during warm-up, stays at 1, and falls over the last pictures."""
    assert [learning_rate_factor(LOOP, step) for step in (0, 1, 5, 15)] == [0.5, 1.0, 1.0, 1.0]
    assert learning_rate_factor(LOOP, 19) == pytest.approx(0.2)


def test_captions_match_every_picture_with_the_named_attributes() -> None:
    """A caption of object and background matches every color, and matching pairs with high scores lower the loss."""
    red, teal = Scene("cat", "red", "", "on blue"), Scene("cat", "teal", "", "on blue")
    bare = Claim("a photo of a cat on blue", ("cat", "", "", "on blue", "", ""))
    full = Claim("a photo of a teal cat on blue", ("cat", "teal", "", "on blue", "", ""))
    matches = matching_pairs([bare, full], [red, teal])
    assert matches.tolist() == [[True, True], [False, True]]
    assert contrastive_loss(10 * matches.float(), matches) < contrastive_loss(torch.zeros(2, 2), matches)


def test_a_non_finite_loss_keeps_the_checkpoint(tmp_path: Path) -> None:
    """A loss of NaN ends the training with a message and keeps the previous checkpoint."""
    training, _ = a_training(tmp_path, dataclasses.replace(LOOP, pictures=20))
    training.run()
    kept = training.checkpoint.read_bytes()
    longer, model = a_training(tmp_path)
    longer.resume()
    whole = longer.loss
    longer.loss = lambda step: whole(step) * (float("nan") if step == 7 else 1.0)
    with pytest.raises(
        DivergedError, match=r"tiny: the loss is nan at step 7; kept .*tiny\.pt\. .*tiny\.rate"
    ):
        longer.run()
    assert longer.checkpoint.read_bytes() == kept
    assert model.weight.isfinite().all()


def test_non_finite_weights_are_never_saved(tmp_path: Path) -> None:
    """Weights that become infinite in the last step, after the last loss, do not overwrite the checkpoint."""
    training, model = a_training(tmp_path, dataclasses.replace(LOOP, pictures=20))
    training.run()
    kept = training.checkpoint.read_bytes()
    model.weight.data[0, 0] = float("inf")
    with pytest.raises(DivergedError, match="weights are not finite at step 5"):
        training.save()
    assert training.checkpoint.read_bytes() == kept
