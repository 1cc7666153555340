"""State of a search: bit-exact resume from every step, and rejection of invalid states."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save
from torch import Tensor

from zoodip_core.config import SearchSettings
from zoodip_core.errors import InvalidCheckpointError
from zoodip_core.zeroth_order import Derivatives, Losses, TokenSearch

D, STEPS, ALPHAS = 10, 10, torch.linspace(0.999, 0.005, 1000)
OPTIONS = {
    "estimator": st.sampled_from(["rge", "spsa", "one_point"]),
    "directions": st.sampled_from(["gaussian", "orthogonal"]),
    "estimate_scale": st.sampled_from(["mean", "dimension"]),
    "subspace": st.sampled_from(["subspace_gradient", "none"]),
    "null_directions": st.sampled_from(["keep", "remove"]),
    "image_sampling": st.sampled_from(["with_replacement", "without_replacement"]),
    "timesteps": st.sampled_from(["partial_uniform", "snr"]),
    "learning_rate_schedule": st.sampled_from(["constant", "cosine"]),
    "n": st.integers(1, 3),
    "seed": st.integers(0, 2**63 - 1),
}


def small(**changes: Any) -> SearchSettings:
    """Return settings with two updates of P within ten steps."""
    return SearchSettings(**{"steps": STEPS, "tau": 4, "nu": 0.05, "learning_rate": 0.05, **changes})


def started(chosen: SearchSettings) -> TokenSearch:
    """Return a search at step 0."""
    return TokenSearch(torch.zeros(D), chosen, images=3, flip=True, alphas_cumprod=ALPHAS)


def restored(state: dict[str, Tensor], chosen: SearchSettings) -> TokenSearch:
    """Restore a search through the bytes of a safetensors file, as from a checkpoint."""
    return TokenSearch.restore(load(save(state)), chosen, images=3, flip=True, alphas_cumprod=ALPHAS)


def take_step(search: TokenSearch, chosen: SearchSettings) -> None:
    """Complete a step with losses that depend on everything in the proposal."""
    p = search.ask()
    noise = torch.randn(D, generator=torch.Generator().manual_seed(p.noise_seed))
    residuals = p.candidates - noise * p.timestep / 1000 - p.image - (0.5 if p.flipped else 0.0)
    if chosen.derivative == "residual":
        search.tell(Derivatives(((residuals[1:] - residuals[0]) * residuals[0]).mean(1) / chosen.mu))
    else:
        search.tell(Losses(residuals.square().mean(1)))


def same_bits(left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> bool:
    """Return whether two states are equal."""
    return left.keys() == right.keys() and all(left[name].equal(right[name]) for name in left)


def test_resumes_bit_for_bit_from_every_step_over_two_updates() -> None:
    """A search restored at any step, with or without a pending proposal, ends with the same bits."""
    chosen = small()
    uninterrupted = started(chosen)
    states, removed = [uninterrupted.state()], []
    while not uninterrupted.done:
        take_step(uninterrupted, chosen)
        states.append(uninterrupted.state())
        removed.append(uninterrupted.removed_dimensions)
    assert 0 == removed[2] < removed[3] == removed[6]
    assert not states[4]["subspace.removed"].equal(states[8]["subspace.removed"])
    for step in range(STEPS + 1):
        resumed = restored(states[step], chosen)
        assert resumed.step == step
        while not resumed.done:
            resumed.ask()
            assert same_bits(resumed.state(), states[resumed.step])
            take_step(resumed, chosen)
        assert same_bits(resumed.state(), states[STEPS])


@given(data=st.data())
@settings(deadline=None, max_examples=25, database=None)
def test_resumes_bit_for_bit_in_every_configuration(data: st.DataObject) -> None:
    """For all options, seeds and steps, a resumed search equals the uninterrupted one."""
    values = {name: data.draw(strategy, label=name) for name, strategy in OPTIONS.items()}
    if values["estimator"] == "rge":
        values["derivative"] = data.draw(st.sampled_from(["loss_difference", "residual"]))
    stop, chosen = data.draw(st.integers(0, STEPS)), small(**values)
    search = started(chosen)
    for _ in range(stop):
        take_step(search, chosen)
    resumed = restored(search.state(), chosen)
    while not search.done:
        assert search.ask().candidates.equal(resumed.ask().candidates)
        take_step(search, chosen)
        take_step(resumed, chosen)
    assert same_bits(search.state(), resumed.state())


def test_a_state_is_a_copy() -> None:
    """Later steps do not change a state, and writing to it does not change the search."""
    chosen = small()
    search = started(chosen)
    take_step(search, chosen)
    state, again = search.state(), search.state()
    take_step(search, chosen)
    assert same_bits(state, again)
    after = search.state()
    for tensor in search.state().values():
        tensor.zero_()
    assert same_bits(search.state(), after)


def test_a_state_holds_contiguous_tensors() -> None:
    """A state is fit for a safetensors file: contiguous, on the CPU, counts as int64, floats as float32."""
    chosen = small()
    search = started(chosen)
    for _ in range(5):
        take_step(search, chosen)
    state = search.state()
    assert search.removed_dimensions > 0
    assert all(tensor.is_contiguous() for tensor in state.values())
    kinds = {name: tensor.dtype for name, tensor in state.items()}
    assert kinds.pop("step") == torch.int64
    assert kinds.pop("generator") == torch.uint8
    assert set(kinds.values()) == {torch.float32}


def nan(tensor: Tensor) -> Tensor:
    """Return a tensor of NaN with the same shape."""
    return torch.full_like(tensor, torch.nan)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("theta", lambda t: t[:-1]),
        ("theta", lambda t: t[None]),
        ("theta", lambda t: t.double()),
        ("theta", nan),
        ("adam.first_moment", lambda t: t[:-1]),
        ("adam.second_moment", lambda t: -t - 1),
        ("adam.second_moment", nan),
        ("step", lambda t: t - 100),
        ("step", lambda t: t.float()),
        ("step", lambda t: t[None]),
        ("generator", lambda t: t[:-1]),
        ("generator", lambda t: t.flip(0)),
        ("subspace.token_history", lambda t: t[1:]),
        ("subspace.removed", lambda t: t[:, 1:]),
        ("subspace.removed", lambda t: t[0]),
        ("subspace.removed", lambda t: t.new_zeros(4, D)),
    ],
)
def test_a_damaged_state_is_rejected(name: str, damage: Callable[[Tensor], Tensor]) -> None:
    """A tensor of wrong shape, type or value raises InvalidCheckpointError at once."""
    chosen = small()
    search = started(chosen)
    for _ in range(5):
        take_step(search, chosen)
    state = search.state()
    with pytest.raises(InvalidCheckpointError):
        restored({**state, name: damage(state[name]).contiguous()}, chosen)


@pytest.mark.parametrize("name", sorted(started(small()).state()))
def test_a_state_with_other_tensors_is_rejected(name: str) -> None:
    """A missing and an unexpected tensor are rejected."""
    state = started(small()).state()
    with pytest.raises(InvalidCheckpointError):
        restored({key: value for key, value in state.items() if key != name}, small())
    with pytest.raises(InvalidCheckpointError):
        restored({**state, "other": torch.zeros(1)}, small())


@pytest.mark.parametrize("changes", [{"tau": 5}, {"subspace": "none"}])
def test_a_state_of_other_settings_is_rejected(changes: dict[str, Any]) -> None:
    """A history of another length, or an unexpected one, is rejected."""
    with pytest.raises(InvalidCheckpointError, match="does not match the settings"):
        restored(started(small()).state(), small(**changes))
