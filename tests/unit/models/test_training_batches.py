"""What a training batch holds: more styles than chance, and latents by the U-Net's word."""

import torch

from models.emoji.settings import read_settings
from models.emoji.train.components import read_components
from models.emoji.train.data import StyledChoice, compose_set
from models.emoji.train.device import best_device
from models.emoji.train.folder import SHIPPED
from models.emoji.train.guesses import Guesses
from models.emoji.train.networks import networks
from models.emoji.world import Scene, shipped_world

PLAIN_SCENE = Scene("cat", "", "", "on blue")
STYLED_SCENE = Scene("cat", "", "", "on blue", ("sepia", ""))


def test_styled_pictures_come_as_often_as_asked() -> None:
    """With a share of one every picture has a style; with none, as many as the set has; one generator, one choice."""
    scenes = [STYLED_SCENE] + [PLAIN_SCENE] * 9
    assert StyledChoice(scenes, 1.0)(50, torch.Generator().manual_seed(0)).unique().tolist() == [0]
    chosen = StyledChoice(scenes, 0.0)(2000, torch.Generator().manual_seed(0))
    assert 0.05 < (chosen == 0).float().mean() < 0.15
    assert torch.equal(chosen, StyledChoice(scenes, 0.0)(2000, torch.Generator().manual_seed(0)))


def test_a_guess_is_near_its_picture_and_not_its_equal() -> None:
    """The U-Net's one-step guess keeps most of a picture's latents, needs its caption, and has one generator."""
    pictures, components = compose_set(50, 16), read_components()
    device = best_device()
    latents, places = components.encode(pictures.batch(range(16), device)), torch.arange(16, device=device)
    nets = networks(read_settings().diffusion, shipped_world(), SHIPPED)
    guess = Guesses(nets, shipped_world(), pictures.captions)
    first = guess(latents, places, torch.Generator(device).manual_seed(0))
    error = (first - latents).square().mean() / latents.var()
    assert 1e-4 < error < 0.3
    assert torch.equal(first, guess(latents, places, torch.Generator(device).manual_seed(0)))
    other = guess(latents, places.flip(0), torch.Generator(device).manual_seed(0))
    assert (other - latents).square().mean() > (first - latents).square().mean()
